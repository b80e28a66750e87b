"""Activation recomputation around any block."""

from __future__ import annotations

from .layer import Layer, dropout_is_allowed


class Recompute(Layer):
    """A block that keeps only its inputs and runs its forward again in the backward (Chen et al. 2016).

    Memory for activations falls to the inputs of all blocks and the inside of one. A step takes about a third longer.
    The mode and the random state of the forward are restored, so that dropout draws the same masks.
    """

    def __init__(self, block: Layer):
        super().__init__()
        self.block = block

    def named_parameters(self, prefix=""):
        return self.block.named_parameters(prefix)  # under the same names as without recomputation

    def forward(self, *inputs):
        self.keep(inputs, self.mode.training and dropout_is_allowed(), self.mode.random.bit_generator.state)
        with self.without_keeping():
            return self.block(*inputs)

    def backward(self, dy):
        inputs, training, random_state = self.kept()
        now = self.mode.training, self.mode.random.bit_generator.state
        self.mode.training, self.mode.random.bit_generator.state = training, random_state
        self.block(*inputs)
        self.mode.training, self.mode.random.bit_generator.state = now
        return self.block.backward(dy)
