"""What mini-batches and perturbed gradients do to the edge."""
