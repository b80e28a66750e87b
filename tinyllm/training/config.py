"""How a model is trained: the options of a run that concern neither the model nor the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..checkpoints.validation import checked
from ..kernels.device import check_device
from ..models import Model
from ..optim import Adafactor, Adam, Average, Optimizer, average_named, learning_rate
from ..optim.averaging import parsed


@dataclass
class TrainConfig:
    """How a model is trained, whichever it is."""

    # Training
    steps: int = 2000  # updates of the weights
    epochs: float = 0.0  # passes over the data; where above 0 it says how many steps there are
    batch_size: int = 12  # sequences in a micro-batch
    accumulate: int = 1  # micro-batches in a step: the gradient of so many times the batch, in the memory of one
    lr: float = 1e-3  # learning rate at its highest
    min_lr: float | None = None  # learning rate at the end; a tenth of --lr if not given
    warmup: int = 100  # steps in which the learning rate climbs
    schedule: Literal["cosine", "linear", "constant", "rsqrt"] = "cosine"  # how it falls from there
    betas: tuple[float, float] = (0.9, 0.99)  # Adam's averages: of the gradient, and of its square
    optimizer: Literal["adamw", "adafactor"] = "adamw"  # adafactor: lr relative to a parameter's size, and less memory
    weight_decay: float = 0.1  # of matrices; biases and norms do not decay
    clip: float = 1.0  # the global gradient norm is cut to this; 0 leaves it
    average: str = "none"  # mean of the weights to evaluate and save: ema:0.999, over steps; last:5, over evaluations
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the matrix products; on cuda bfloat16 is that of activations too
    device: Literal["cpu", "cuda"] = "cpu"  # where it is trained; cuda needs an NVIDIA GPU
    seed: int = 0  # of the weights, the order of the data, and dropout

    # Evaluation
    eval_every: int = 250  # steps between evaluations on held-out data, each saves a checkpoint; 0 is once an epoch
    eval_batches: int = 20  # batches of an evaluation; 0 takes all held-out data
    patience: int = 0  # evaluations without a better one after which training stops early; 0 goes on to the end

    def __post_init__(self) -> None:
        vars(self).update(checked(TrainConfig, vars(self)))
        least = {
            "batch_size": 1, "accumulate": 1, "epochs": 0, "eval_every": 0, "warmup": 0, "eval_batches": 0,
            "patience": 0, "clip": 0, "weight_decay": 0, "seed": 0}  # fmt: skip
        if not self.steps >= 1:
            raise ValueError(
                f"steps must be at least 1, and is {self.steps}. To measure a trained model without training it, use "
                "tinyllm evaluate MODEL --data FILE"
            )
        for name, value in least.items():
            if not getattr(self, name) >= value:  # NaN is neither
                raise ValueError(f"{name} must be at least {value}, and is {getattr(self, name)}")
        if not self.lr > 0 or not 0 <= self.lowest_lr <= self.lr:
            least_lr = "not given" if self.min_lr is None else self.min_lr
            raise ValueError(f"lr must be above 0 and min_lr from 0 to lr; they are {self.lr} and {least_lr}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be from 0 up to, but not, 1; they are {self.betas[0]} and {self.betas[1]}")
        parsed(self.average)
        check_device(self.device)

    @property
    def lowest_lr(self) -> float:
        return self.lr / 10 if self.min_lr is None else self.min_lr

    def optimizer_of(self, model: Model) -> Optimizer:
        if self.optimizer == "adafactor":
            return Adafactor(model, self.lr, weight_decay=self.weight_decay)
        return Adam(model, self.lr, self.betas, weight_decay=self.weight_decay)

    def average_of(self, model: Model) -> Average:
        return average_named(self.average, model)

    def learning_rate(self, step: int) -> float:
        return learning_rate(step, self.steps, self.lr, self.warmup, self.schedule, self.lowest_lr)
