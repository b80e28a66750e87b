"""What the tests of training share: a text, the options of a tiny run, a tiny model and batches for it."""

from __future__ import annotations

import numpy as np

import tinyllm

TEXT = "".join(f"{a} times {b} is {a * b}.\n" for a in range(20) for b in range(20))
TINY = {"n_layer": 1, "n_head": 2, "n_embd": 8, "n_positions": 8, "dropout": 0.1, "batch_size": 3}
TINY |= {"tokenizer": "char", "sample_tokens": 0}


def small(dtype: str = "float64", **options) -> tinyllm.GPT:
    options = {"embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0, **options}
    config = tinyllm.GPTConfig(vocab_size=11, n_positions=6, n_layer=2, n_head=2, n_embd=8, **options)
    return tinyllm.GPT(config, seed=1, dtype=dtype)


class Fixed:
    """A row of batches that are given."""

    count = step = 1  # a pass is one step

    def __init__(self, batches):
        self.batches, self.position = batches, 0

    def __next__(self):
        self.position += 1
        return self.batches[(self.position - 1) % len(self.batches)]

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]


def uneven_batches(n: int, rows: int = 2) -> list:
    """Batches in which different numbers of targets count; in one of them none."""
    draw = np.random.default_rng(0)
    batches = []
    for i in range(n):
        tokens, targets = draw.integers(0, 11, (2, rows, 6))
        targets[draw.random(targets.shape) < i / (n - 1)] = -100
        batches.append((tokens, targets))
    return batches
