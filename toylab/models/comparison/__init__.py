"""Models of training laid beside the optimizer's own run: what is measured of it, and how far each model is from it."""
