"""The training loop, the run's directory, its options, its progress and its plots."""

from .config import TrainConfig
from .data import Batch, Batches, Data
from .run import Run
from .stop import Interrupted
from .trainer import Trainer, Watcher

__all__ = ["Batch", "Batches", "Data", "Interrupted", "Run", "TrainConfig", "Trainer", "Watcher"]
