"""Products of weights: what gradient flow conserves, and what gradient descent makes smaller in every step."""
