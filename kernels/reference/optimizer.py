"""Adam (Kingma & Ba 2015, algorithm 1) with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2), and clipping."""

from __future__ import annotations

import math

import numpy as np


def adam_step(p, g, m, v, step, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0):
    """One step, in place, of parameters p with gradient g and moments m, v: flat arrays (n,); step counts from 1.

    m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,
    p = p - lr weight_decay p - lr (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps).
    """
    m *= beta1
    m += (1 - beta1) * g
    v *= beta2
    v += (1 - beta2) * g * g
    unbiased_m, unbiased_v = m / (1 - beta1**step), v / (1 - beta2**step)
    p *= 1 - lr * weight_decay
    p -= lr * unbiased_m / (np.sqrt(unbiased_v) + eps)


def global_norm(g):
    """sqrt(sum g^2), accumulated in float64.  g (n,) -> a Python float."""
    return math.sqrt(np.square(g, dtype=np.float64).sum())


def scale(g, factor):
    """g *= factor, in place."""
    g *= factor
