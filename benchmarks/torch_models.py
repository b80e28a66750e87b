"""The peers in PyTorch: GPT as nanoGPT builds it, transformers' models with a loss, and the optimizer of both.

GPT's layers have our names, so that our weights are its weights: blocks.0.attention.qkv.w is blocks.0.attention.qkv.weight.
What nanoGPT does for speed is done here too: q, k and v in one product, PyTorch's fused attention, the output tied to the
embedding, AdamW as one fused pass.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    def __init__(self, C: int, H: int, bias: bool):
        super().__init__()
        self.H = H
        self.qkv = nn.Linear(C, 3 * C, bias)
        self.proj = nn.Linear(C, C, bias)

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        heads = self.qkv(x).view(B, T, 3, self.H, C // self.H)
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # each (B, H, T, D)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(y.transpose(1, 2).reshape(B, T, C))


class MLP(nn.Module):
    def __init__(self, C: int, bias: bool):
        super().__init__()
        self.up = nn.Linear(C, 4 * C, bias)
        self.down = nn.Linear(4 * C, C, bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(functional.gelu(self.up(x)))


class Block(nn.Module):
    def __init__(self, C: int, H: int, bias: bool):
        super().__init__()
        self.norm1 = nn.LayerNorm(C, bias=bias)
        self.attention = Attention(C, H, bias)
        self.norm2 = nn.LayerNorm(C, bias=bias)
        self.mlp = MLP(C, bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    """tokens (B, T), targets (B, T) -> the mean cross-entropy; -100 is ignored."""

    def __init__(self, vocab_size: int, n_positions: int, n_layer: int, n_head: int, n_embd: int, bias: bool = False):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, n_embd)
        self.positions = nn.Embedding(n_positions, n_embd)
        self.blocks = nn.ModuleList(Block(n_embd, n_head, bias) for _ in range(n_layer))
        self.norm = nn.LayerNorm(n_embd, bias=bias)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = functional.linear(self.norm(x), self.tokens.weight)
        return cross_entropy(logits, targets)

    def initialize(self) -> GPT:
        """GPT-2's initial weights: normal, and smaller by 1 / sqrt(2 layers) where a branch ends."""
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                ends_a_branch = name.endswith(("proj.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * len(self.blocks)) if ends_a_branch else 0.02)
        return self

    @classmethod
    def of(cls, config: dict[str, Any]) -> GPT:
        """Of fields of tinyllm's GPTConfig."""
        return cls(**{name: value for name, value in config.items() if name != "activation_function"})

    @classmethod
    def load(cls, directory: str, config: dict[str, Any]) -> GPT:
        """With the weights that tinyllm.save wrote."""
        from safetensors.torch import load_file

        return cls.of(config).take(load_file(Path(directory) / "model.safetensors"))

    def take(self, weights: dict[str, Tensor]) -> GPT:
        """Weights by tinyllm's names."""
        endings = {"w": "weight", "b": "bias"}
        self.load_state_dict({f"{name[:-1]}{endings[name[-1]]}": weight for name, weight in weights.items()})
        return self


class WithLoss(nn.Module):
    """A model of transformers: its inputs, then targets (B, T) -> the mean cross-entropy; -100 is ignored.

    The loss is not transformers' own: that shifts the targets once more for some models, and not for others.
    """

    def __init__(self, model: Any, inputs: tuple[str, ...]):
        super().__init__()
        self.model, self.inputs = model, inputs

    def forward(self, *arrays: Tensor) -> Tensor:
        *inputs, targets = arrays
        return cross_entropy(self.model(**dict(zip(self.inputs, inputs))).logits, targets)

    @classmethod
    def load(cls, directory: str, name: str, inputs: tuple[str, ...]) -> WithLoss:
        return cls(transformers_model(directory, name, use_cache=False).train(), inputs)


def transformers_model(directory: str, name: str, use_cache: bool) -> Any:
    """A class of transformers with the weights that tinyllm.huggingface.save wrote."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    model = getattr(transformers, name).from_pretrained(directory, dtype=torch.float32)
    model.config.use_cache = use_cache
    return model


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)


class Step:
    """One step of training: forward, backward, clipping, AdamW. mode: eager or compile, or these with -bf16 behind, which
    is the forward pass under autocast."""

    def __init__(self, model: nn.Module, mode: str, lr: float, betas: tuple[float, float], weight_decay: float, clip: float):
        self.parameters = list(model.parameters())
        self.clip = clip
        self.bf16 = mode.endswith("-bf16")
        self.forward = torch.compile(model) if mode.startswith("compile") else model
        matrices, vectors = ([p for p in self.parameters if (p.ndim > 1) is matrix] for matrix in (True, False))
        groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=betas, fused=True)

    def loss(self, *batch: Tensor) -> Tensor:
        precision: AbstractContextManager = torch.autocast("cpu", torch.bfloat16) if self.bf16 else nullcontext()
        with precision:
            return self.forward(*batch)

    def __call__(self, batch: tuple[Tensor, ...], lr: float | None = None) -> float:
        """-> the loss before the step. lr: a new learning rate."""
        for group in self.optimizer.param_groups if lr is not None else []:
            group["lr"] = lr
        loss = self.loss(*batch)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()
