"""Networks as pure functions: one file a family, each a builder of `Network(init, apply)`."""

from toylab.problems.networks.activations import ACTIVATIONS
from toylab.problems.networks.attentive import attention
from toylab.problems.networks.convolutional import cnn
from toylab.problems.networks.linear import deep_linear
from toylab.problems.networks.network import SCALINGS, Network
from toylab.problems.networks.perceptrons import mlp

__all__ = ["ACTIVATIONS", "SCALINGS", "Network", "attention", "cnn", "deep_linear", "mlp"]
