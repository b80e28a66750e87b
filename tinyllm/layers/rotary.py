"""Rotary position embedding (Su et al. 2021) as a layer, with the kinds of scaling that lengthen a trained model's context.

A kind gives the frequencies (D/2,) of the pairs and a factor for q and k. It is given D, how many numbers of a head are
rotated; the base theta; the length that the model is made for; the length of the current sequence; and its own options,
named as in Hugging Face's rope_scaling.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import kernels
from .layer import Layer


def powers(D: int, theta: float) -> np.ndarray:
    """theta^(-2i/D) for pair i: wavelengths from 2 pi positions to nearly 2 pi theta (Su et al. 2021, section 3.2.2)."""
    return theta ** (-np.arange(0, D, 2) / D)


def default(D, theta, made_for, length):
    return powers(D, theta), 1.0


def linear(D, theta, made_for, length, *, factor):
    """All positions move closer together (Chen et al. 2023, Extending Context Window via Position Interpolation)."""
    return powers(D, theta) / factor, 1.0


def dynamic(D, theta, made_for, length, *, factor):
    """A base that grows with the sequence once it is longer than the model is made for (Peng et al. 2023, section 3.3)."""
    stretch = factor * max(length, made_for) / made_for - (factor - 1)
    return powers(D, theta * stretch ** (D / (D - 2))), 1.0


def llama3(D, theta, made_for, length, *, factor, low_freq_factor, high_freq_factor, original_max_position_embeddings=None):
    """Pairs that turn often within the original length stay, those that hardly turn slow down, between them a blend."""
    frequencies = powers(D, theta)
    turns = (original_max_position_embeddings or made_for) * frequencies / (2 * math.pi)
    keep = np.clip((turns - low_freq_factor) / (high_freq_factor - low_freq_factor), 0, 1)
    return keep * frequencies + (1 - keep) * frequencies / factor, 1.0


def yarn(
    D, theta, made_for, length, *, factor=None, original_max_position_embeddings=None, beta_fast=None, beta_slow=None,
    truncate=True, attention_factor=None, mscale=None, mscale_all_dim=None, finetuned=None,
):  # fmt: skip
    """As llama3, with a blend that is linear in the pair's number, and a softmax made sharper (Peng et al. 2023, YaRN)."""
    original = original_max_position_embeddings or made_for
    factor = factor or made_for / original

    def pair_that_turns(times):
        return D * math.log(original / (times * 2 * math.pi)) / (2 * math.log(theta))

    first, last = pair_that_turns(beta_fast or 32), pair_that_turns(beta_slow or 1)
    if truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, D - 1)
    slow = np.clip((np.arange(D // 2) - first) / ((last - first) or 0.001), 0, 1)
    frequencies = powers(D, theta)

    def sharper(weight):
        return 0.1 * weight * math.log(factor) + 1 if factor > 1 else 1.0

    if attention_factor is None:
        attention_factor = sharper(mscale) / sharper(mscale_all_dim) if mscale and mscale_all_dim else sharper(1)
    return (1 - slow) * frequencies + slow * frequencies / factor, attention_factor


def longrope(
    D, theta, made_for, length, *, short_factor, long_factor, original_max_position_embeddings=None, factor=None,
    attention_factor=None,
):  # fmt: skip
    """A divisor for each pair, which a search has found: one list up to the original length, another for longer sequences
    (Ding et al. 2024, LongRoPE). Scores grow with the logarithm of the stretch."""
    original = original_max_position_embeddings or made_for
    factor = factor or made_for / original
    for name, divisors in (("short_factor", short_factor), ("long_factor", long_factor)):
        if len(divisors) != D // 2:
            raise ValueError(f"{name} has {len(divisors)} numbers; {D} numbers of a head are rotated, so give {D // 2}")
    divisors = np.asarray(long_factor if length > original else short_factor, np.float64)
    if attention_factor is None:
        attention_factor = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    return powers(D, theta) / divisors, attention_factor


KINDS: dict[str, Callable[..., tuple[np.ndarray, float]]] = {
    "default": default,
    "linear": linear,
    "dynamic": dynamic,
    "llama3": llama3,
    "yarn": yarn,
    "longrope": longrope,
}


class Rotary(Layer):
    """Rotates each head's vector by its position.  x (B, T, H, D), positions (T,) or (B, T) ints -> y (B, T, H, D).

    D: how many numbers of a head are rotated, the first ones. The others stay (Black et al. 2022, GPT-NeoX-20B).
    theta: the base. made_for: the longest sequence of the model as trained.
    scaling: {"rope_type": one of KINDS, and its options}.
    neighbours: pairs are the numbers 2i and 2i + 1 (the paper, llama2.c), otherwise i and D/2 + i (Hugging Face).
    """

    def __init__(
        self,
        D: int,
        theta: float = 10000.0,
        made_for: int = 2048,
        scaling: dict[str, Any] | None = None,
        neighbours: bool = False,
    ):
        super().__init__()
        options = dict(scaling or {})
        older = options.pop("type", None)
        kind = options.pop("rope_type", None) or older or "default"
        if D % 2:
            raise ValueError(f"rotary positions turn pairs of numbers, and {D} numbers of a head are odd")
        if not isinstance(kind, str) or kind not in KINDS:
            raise ValueError(f"rope_scaling has the kind {kind!r}; there are {', '.join(KINDS)}")
        for name, value in options.items():
            if not isinstance(value, list if name in ("short_factor", "long_factor") else int | float | None):
                raise ValueError(
                    f"rope_scaling has {name} {value!r}; it must be a number, or for longrope a list of numbers"
                )
        self.kind, self.options = KINDS[kind], options
        self.D, self.theta, self.made_for, self.neighbours = D, theta, made_for, neighbours
        try:
            inspect.signature(self.kind).bind(D, theta, made_for, made_for, **options)
            with np.errstate(all="ignore"):
                self.frequencies, self.scale = self.at(made_for)
        except (TypeError, ValueError, ArithmeticError) as error:
            raise ValueError(f"rope_scaling {scaling}: {error}") from None
        if not (np.isfinite(self.frequencies).all() and math.isfinite(self.scale)):
            raise ValueError(f"rope_scaling {scaling} with theta {theta} gives frequencies that are not finite numbers")

    def at(self, length: int) -> tuple[np.ndarray, float]:
        """The frequencies (D/2,) in a sequence of that length, and the factor of q and k."""
        return self.kind(self.D, self.theta, self.made_for, length, **self.options)

    @property
    def longest(self) -> int:
        """The longest sequence with this scaling: rope_scaling may lengthen what the model is made for.

        Files with yarn disagree whether `made_for` counts the stretch already, so the longer reading holds.
        """
        factor = self.options.get("factor") or 1
        original = self.options.get("original_max_position_embeddings") or self.made_for
        return max(self.made_for, int(factor * (self.made_for if self.kind is yarn else original)))

    @property
    def stretches(self) -> bool:
        """Whether the frequencies change with the length of the sequence."""
        return self.kind is dynamic or (self.switches_at or self.longest) < self.longest

    @property
    def switches_at(self) -> int | None:
        """The length after which all frequencies are others (longrope). None if there is no such length."""
        if self.kind is not longrope:
            return None
        return self.options.get("original_max_position_embeddings") or self.made_for

    def forward(self, x, positions):
        frequencies = self.frequencies
        if self.stretches and positions.size:
            frequencies, _ = self.at(int(positions.max()) + 1)
        self.keep(positions, frequencies)
        return kernels.rotary_forward(x, positions, frequencies, self.scale, self.neighbours)

    def backward(self, dy):
        positions, frequencies = self.kept()
        return kernels.rotary_backward(dy, positions, frequencies, self.scale, self.neighbours)
