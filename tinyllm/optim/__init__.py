"""Optimizers and learning-rate schedules."""

from .adafactor import Adafactor
from .adam import Adam, clip_factor, clip_grad_norm
from .averaging import Average, ExponentialAverage, LastAverage, average_named
from .optimizer import Optimizer
from .schedule import SCHEDULES, learning_rate

__all__ = [
    "SCHEDULES",
    "Adafactor",
    "Adam",
    "Average",
    "ExponentialAverage",
    "LastAverage",
    "Optimizer",
    "average_named",
    "clip_factor",
    "clip_grad_norm",
    "learning_rate",
]
