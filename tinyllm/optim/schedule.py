"""The learning rate over the course of training."""

from __future__ import annotations

import math

SCHEDULES = ("cosine", "linear", "constant", "rsqrt")


def learning_rate(step: int, steps: int, lr: float, warmup: int = 0, schedule: str = "cosine", min_lr: float = 0.0) -> float:
    """Return the rate for step 0 <= step < steps: it rises linearly over `warmup` steps, then falls from lr to min_lr.

    cosine: along half a period (Loshchilov & Hutter 2017, eq. 5, without restarts). linear: along a line. constant: it stays
    lr. rsqrt: in proportion to 1 / sqrt(step) from the end of the warm-up on (Vaswani et al. 2017, section 5.3).
    """
    if step < warmup:
        return lr * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, steps - warmup)  # 0 to 1
    if schedule == "cosine":
        return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * done)) / 2
    if schedule == "linear":
        return lr + (min_lr - lr) * done
    if schedule == "constant":
        return lr
    if schedule == "rsqrt":
        return max(min_lr, lr * math.sqrt((warmup + 1) / (step + 1)))
    raise ValueError(f"the schedule {schedule!r} is not known; pass one of {', '.join(map(repr, SCHEDULES))}")
