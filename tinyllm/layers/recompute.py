"""Activation recomputation around any block."""

from __future__ import annotations

from .elementary import Dropout
from .layer import Layer, dropout_is_allowed


class Recompute(Layer):
    """A block that keeps only its inputs and runs its forward again in the backward (Chen et al. 2016).

    Memory for activations falls to the inputs of all blocks and the inside of one. A step takes about a third longer.
    The mode, the random state and the rates of the forward are restored, so that dropout draws the same masks.
    """

    def __init__(self, block: Layer):
        super().__init__()
        self.block = block

    def named_parameters(self, prefix=""):
        return self.block.named_parameters(prefix)  # under the same names as without recomputation

    def forward(self, *inputs):
        self.keep(inputs, self.state())
        with self.without_keeping():
            return self.block(*inputs)

    def backward(self, dy):
        inputs, state = self.kept()
        now, training = self.state(), self.mode.training
        self.restore(state)
        self.block(*inputs)
        self.restore(now)
        self.mode.training = training
        return self.block.backward(dy)

    def state(self):
        """What decides the dropout of the next forward: whether it is on, the random state, and each layer's rate."""
        rates = [(layer, layer.p) for layer in self.block.layers() if isinstance(layer, Dropout)]
        return self.mode.training and dropout_is_allowed(), self.mode.random.bit_generator.state, rates

    def restore(self, state):
        self.mode.training, self.mode.random.bit_generator.state, rates = state
        for layer, p in rates:
            layer.p = p
