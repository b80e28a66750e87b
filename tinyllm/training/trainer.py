"""Training: the loop around a model of which only `loss`, `backward`, its flat buffers and its mode are known.

One step is: for each of `accumulate` micro-batches the loss and its gradient, the clipped norm of their sum, one step of
the optimizer. A task (tasks/) says what is learned, run.py keeps the state, and recipes.py puts them together.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self

from .. import kernels
from ..checkpoints import files, native
from ..checkpoints.loading import load
from ..data.batches import IGNORED
from ..models import Model, nonfinite
from ..optim import clip_factor
from .config import TrainConfig
from .data import Batches, Data
from .run import METRICS, Run
from .stop import Interrupted, Stop

MOST_STEPS = 10**12  # more would take longer than anyone lives


class Watcher:
    """Who is told how a training goes, and does nothing with it; progress.Terminal shows it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def say(self, text: str) -> None: ...
    def begun(self, trainer: Trainer) -> None: ...
    def trained(self, record: dict[str, Any]) -> None: ...
    def evaluated(self, record: dict[str, Any]) -> None: ...
    def tested(self, result: Any) -> None: ...


class Trainer:
    """Trains a model on data; with a run, whatever happens there can be resumed.

    step: updates made; tokens: targets that they learned from; seconds: spent so far.
    """

    def __init__(
        self,
        model: Model,
        data: Data,
        config: TrainConfig | None = None,
        run: Run | None = None,
        watcher: Watcher | None = None,
    ):
        self.model, self.data, self.run = model, data, run
        self.config = c = planned(config or TrainConfig(), data.batches)
        self.watcher = watcher or Watcher()
        if c.dtype != "float32":
            self._try_precision()
        self.optimizer, self.average = c.optimizer_of(model), c.average_of(model)
        self._metrics: list[dict[str, Any]] = []  # where there is no run to keep them
        self.step = self.tokens = 0
        self.seconds = 0.0
        self.evaluated = False  # at this step
        self.best_step: int | None = None
        self.best = -math.inf  # the measure data.best at this step, the loss with its sign turned
        self.best_loss = math.inf  # the loss on held-out data at this step, which decides between equal measures
        self.start: float | None = None  # the measure before the first step
        self.waited = 0  # evaluations since, not counting those of the first pass over the data
        self._best_weights: Any = None  # those of the best step, where a test needs them and there is no run to keep them

    # The loop ----------------------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Trains up to config.steps. Interrupted after Ctrl-C; FloatingPointError when the loss or the gradient is not
        finite, which leaves the last checkpoint as it was."""
        self._begun = time.perf_counter() - self.seconds
        self.watcher.begun(self)
        try:
            with self.watcher, Stop() as stop:
                while not stop.asked:
                    if (self.done or self.step % self.config.eval_every == 0) and not self.evaluated:
                        self.average.at_evaluation(self.step)
                        with self.average.applied():
                            self._evaluate(stop)
                            self._keep_best()
                    elif self.done:
                        return
                    else:
                        self._record(self.train_step())
            self.save()
        except OSError as error:  # a full disk, a directory that has been removed
            if self.run is None:
                raise
            raise self.run.stopped(self.step, error) from error
        raise Interrupted

    @property
    def done(self) -> bool:
        """Whether all steps are made, or patience is at its end."""
        return self.step >= self.config.steps or 0 < self.config.patience <= self.waited

    def train_step(self) -> dict[str, Any]:
        """One update of the weights -> its record."""
        began = time.perf_counter()
        self.model.train()
        self.model.zero_grad()
        with kernels.autocast(self.config.dtype):
            loss, count, read = self._accumulate()
        norm = kernels.global_norm(self.model.flat.grad)
        if not math.isfinite(norm):
            raise self._diverged(f"the gradient's norm is {norm}", nonfinite.in_gradient(self.model))
        self.optimizer.lr = self.config.learning_rate(self.step)
        self.optimizer.step(clip_factor(norm, self.config.clip or math.inf))
        self.average.after_step()
        self.model.eval()
        self.step += 1
        self.tokens += count
        self.evaluated = False
        now = time.perf_counter()
        return {
            "step": self.step,
            "loss": loss,
            "lr": self.optimizer.lr,
            "grad_norm": norm,
            "tokens": self.tokens,
            "tokens_per_second": round(read / (now - began), 1),
        }

    def _try_precision(self) -> None:
        """A product in the precision asked for: a machine that cannot compute it says so now, and not in the first step."""
        with kernels.autocast(self.config.dtype):
            number = self.model.parameters()[0].data.reshape(-1)[:1, None]
            kernels.linear_forward(number, number)

    def _accumulate(self) -> tuple[float, int, int]:
        """Adds the gradient of the mean loss over all targets of the step's micro-batches.

        Returns that loss, the number of targets, and the number of tokens that were read.
        """
        batches = [next(self.data.batches) for _ in range(self.config.accumulate)]
        weights = [self.data.weight(batch) for batch in batches]
        total = sum(weights)
        if not total:
            raise ValueError(
                f"step {self.step + 1} has nothing to learn: all of its targets are {IGNORED}, which is ignored"
            )
        mean = 0.0
        for batch, weight in zip(batches, weights):
            if weight == 0:
                continue
            random_state = self.model.mode.random.bit_generator.state
            loss = self.model.loss(**self.model.named(batch), **self.data.loss_options)
            if not math.isfinite(loss):
                raise self._diverged(f"the loss is {loss}", nonfinite.in_loss(self.model, batch, random_state))
            self.model.backward(weight / total)  # sum_i (n_i / n) loss_i is the mean over all n targets
            mean += weight / total * loss
        return mean, sum(map(self.data.count, batches)), sum(map(self.data.read, batches))

    def _evaluate(self, stop: Stop) -> None:
        """The loss on held-out data, a sample, and a checkpoint; nothing if it is interrupted."""
        limit = self.config.eval_batches or None
        with kernels.autocast(self.config.dtype):
            measured = self.data.evaluate(self.model, itertools.islice(stop.guard(self.data.held_out()), limit))
            if self.data.trains_another_loss and not stop.asked:
                again = itertools.islice(stop.guard(self.data.held_out()), limit)
                measured["objective"] = self.data.objective(self.model, again)
        if stop.asked:
            return
        if not math.isfinite(measured["loss"]):
            where = nonfinite.in_loss(self.model, next(iter(self.data.held_out())))
            raise self._diverged(f"the loss on held-out data is {measured['loss']}", where)
        value = -measured["loss"] if self.data.best == "loss" else measured[self.data.best]
        self._judge(value, measured["loss"])
        self.evaluated = True
        with kernels.autocast(self.config.dtype):
            sample = {"sample": self.data.sample(self.model)} if self.data.sample and self.step else {}  # untrained: noise
        self._record({"step": self.step, **{f"val_{name}": value for name, value in measured.items()}, **sample})
        self.save()

    def _judge(self, value: float, loss: float) -> None:
        """Decides whether the model is the best so far. The one before the first step never is, and the first pass over the
        data does not count as waiting: until then a rare label may not have been seen."""
        if self.step == 0:
            self.start = value
        elif (value, -loss) > (self.best, -self.best_loss):
            self.best_step, self.best, self.best_loss, self.waited = self.step, value, loss, 0
        elif self.step > steps_of_a_pass(self.config, self.data.batches):
            self.waited += 1

    @property
    def learned_nothing(self) -> bool:
        """Whether no evaluation was better than the one before the first step."""
        return self.start is not None and self.best_step is not None and self.best <= self.start

    def _keep_best(self) -> None:
        """Copies the weights, where they are the best, there is no run that keeps them, and a test is to come."""
        if self.data.test and not self.run and self.evaluated and self.best_step == self.step:
            self._best_weights = self.model.flat.data.copy()

    @contextmanager
    def best_model(self) -> Iterator[Model]:
        """Within the block: the model as it was at the best step; as it is now where nothing was evaluated."""
        if self.run:
            yield load(self.run.path, self.config.device)[0]
            return
        with self.average.applied():
            now = self.model.flat.data.copy()
            self.model.flat.data[...] = now if self._best_weights is None else self._best_weights
            self.model.changed()
            try:
                yield self.model
            finally:
                self.model.flat.data[...] = now
                self.model.changed()

    def _record(self, record: dict[str, Any]) -> None:
        self.seconds = time.perf_counter() - self._begun
        record["seconds"] = round(self.seconds, 3)
        if self.run:
            self.run.log(record)
        else:
            self._metrics.append(record)
        self.watcher.evaluated(record) if "val_loss" in record else self.watcher.trained(record)

    def _diverged(self, what: str, where: str) -> FloatingPointError:
        c = self.config
        saved = self.run.last() if self.run else None
        again = (
            f"; the checkpoint {saved} is good: tinyllm train --resume {self.run.path} --lr ..."
            if self.run and saved
            else ""
        )
        return FloatingPointError(
            f"step {self.step + 1}: {what}; {where}. Try a lower lr (it is {c.lr:g}), or a longer warmup ({c.warmup} steps)"
            f"{'' if 0 < c.clip <= 1 else f', or clip=1 (it is {c.clip:g})'}{again}"
        )

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """A record for each step and each evaluation so far."""
        return self.run.metrics if self.run else self._metrics

    # The state ---------------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Writes a checkpoint, if there is a run. FloatingPointError, and no checkpoint, where a parameter is not finite."""
        if not math.isfinite(kernels.global_norm(self.model.flat.data)):
            raise self._diverged("the update before was too large", nonfinite.in_parameters(self.model))
        if self.run:
            self.run.save(self.model, self.data.tokenizer, self.optimizer, self.state_dict(), self.average)

    def resume(self) -> None:
        """Puts everything back as it was at the run's last checkpoint; where there is none, training begins."""
        if not self.run:
            raise ValueError("there is no run to resume: give the trainer run=Run.open(directory)")
        directory = self.run.last()
        if directory is None:
            self.run.rewind(0)
            return
        files.verify(directory)
        native.read_parameters(directory, self.model)
        state = native.read_training(directory, self.optimizer, self.average)
        if (saved := (state["average"] or {}).get("name", "none")) != self.average.name:
            self.watcher.say(
                f"average was {saved}, and is {self.average.name} from step {state['step']:,} on, without what was before."
            )
        try:
            self.load_state_dict(state)
        except (KeyError, TypeError, AttributeError, OverflowError) as error:  # "random" and "data" are theirs to check
            raise files.CheckpointError(
                f"{directory / native.STATE}: the state of the random numbers or the position in the data is not one "
                f"({type(error).__name__}: {error}): the file is damaged, or of another version of tinyllm"
            ) from None
        if lost := self.run.rewind(state["lines"]):
            self.watcher.say(f"The log {self.run.path / METRICS} has lost {lost:,} of its lines. The checkpoint is whole.")
        self.run.keep(state)  # a kill may have come before

    def state_dict(self) -> dict[str, Any]:
        """All that training must know to go on, but the arrays; plain numbers and texts."""
        return {
            "step": self.step,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "evaluated": self.evaluated,
            "best_step": self.best_step,
            "best": self.best if math.isfinite(self.best) else None,
            "best_loss": self.best_loss if math.isfinite(self.best_loss) else None,
            "start": self.start,
            "waited": self.waited,
            "random": self.model.mode.random.bit_generator.state,
            "data": self.data.batches.state_dict(),
            "fingerprint": self.data.fingerprint,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["fingerprint"] != self.data.fingerprint:
            raise ValueError("the data are not those that the run began with: restore them, or begin a new run with init")
        self.step, self.tokens, self.seconds = state["step"], state["tokens"], state["seconds"]
        self.evaluated, self.best_step = state["evaluated"], state["best_step"]
        self.best = -math.inf if state["best"] is None else state["best"]
        self.best_loss = math.inf if state["best_loss"] is None else state["best_loss"]
        self.start = state["start"]
        self.waited = state["waited"]
        try:
            self.model.mode.random.bit_generator.state = state["random"]
        except ValueError as error:
            raise TypeError(str(error)) from None
        self.data.batches.load_state_dict(state["data"])


def planned(config: TrainConfig, batches: Batches) -> TrainConfig:
    """The configuration with epochs made steps: those of the training, and those between evaluations."""
    epoch = steps_of_a_pass(config, batches) if not config.eval_every or config.epochs else 0.0
    if config.epochs * epoch > MOST_STEPS:
        raise ValueError(f"epochs is {config.epochs:g}, which is more than {MOST_STEPS:.0e} steps: choose fewer")
    steps = max(1, round(config.epochs * epoch)) if config.epochs else config.steps
    return replace(config, steps=steps, eval_every=config.eval_every or max(1, round(epoch)))


def steps_of_a_pass(config: TrainConfig, batches: Batches) -> float:
    """How many steps read all of the data once."""
    return batches.count / (batches.step * config.accumulate)
