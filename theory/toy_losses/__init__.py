"""Losses that are solved exactly: two-layer and deep linear nets, products of weights, the second-order model."""
