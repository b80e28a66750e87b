"""Trained models measured on files: each measure with its 95 % interval, and a plain baseline on the same examples."""

from .evaluating import evaluate
from .intervals import Difference, Measure
from .result import Evaluation, Prediction
from .settings import Settings

__all__ = ["Difference", "Evaluation", "Measure", "Prediction", "Settings", "evaluate"]
