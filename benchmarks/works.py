"""What is measured: models, their sizes and batches, the same for tinyllm and its peers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

NO_DROPOUT = {
    "GPT": {"embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0},
    "BERT": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "T5": {"dropout_rate": 0.0},
    "Llama": {},
    "OPT": {"dropout": 0.0},
}
# GPT as nanoGPT has it: no biases, GELU by erf
NANO_GPT = {"bias": False, "activation_function": "gelu"}


@dataclass(frozen=True)
class Work:
    """One model at one size. peer: its class in transformers; None: torch_models.GPT."""

    about: str
    model: str  # its class in tinyllm
    config: dict[str, Any]  # dropout comes to it as zero
    B: int
    T: int
    peer: str | None = None
    S: int | None = None  # tokens of the source, where there is one
    share: float = 1.0  # of the positions that have a target
    steps: int = 2  # in a turn
    lr: float = 6e-4
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    clip: float = 1.0
    tiny: dict[str, Any] = field(default_factory=dict)  # of the configuration, for a trial

    @property
    def inputs(self) -> tuple[str, ...]:
        """transformers' names of what comes before the targets."""
        return ("input_ids",) if self.S is None else ("input_ids", "decoder_input_ids")

    def make_tiny(self) -> Work:
        config = {**self.config, **self.tiny}
        return replace(self, config=config, B=2, T=8, S=self.S and 8, steps=2, about=f"{self.about}, but tiny")


NANO = {"n_layer": 4, "n_head": 4, "n_embd": 128, "n_positions": 64, "vocab_size": 65}
BABY = {"n_layer": 6, "n_head": 6, "n_embd": 384, "n_positions": 256, "vocab_size": 65}
GPT2 = {"n_layer": 12, "n_head": 12, "n_embd": 768, "n_positions": 1024}
LLAMA = {
    "vocab_size": 8192, "hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 6, "num_attention_heads": 8,
    "num_key_value_heads": 2, "max_position_embeddings": 1024,
}  # fmt: skip
TINY_GPT = {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": 64, "vocab_size": 65}
TINY = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "vocab_size": 99, "max_position_embeddings": 64}
SMALL: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.99)}

WORKS: dict[str, Work] = {
    "nano": Work(
        "nanoGPT for a laptop: 4 layers, 4 heads, 128 channels, T=64, batch 12", "GPT", {**NANO_GPT, **NANO}, 12, 64,
        steps=30, **SMALL, tiny=TINY_GPT,
    ),
    "baby": Work(
        "nanoGPT's baby: 6 layers, 6 heads, 384 channels, T=256, batch 12", "GPT", {**NANO_GPT, **BABY}, 12, 256,
        **SMALL, tiny=TINY_GPT,
    ),
    # 50,257 tokens rounded up to a multiple of 64, as nanoGPT has them
    "gpt2": Work(
        "GPT-2 124M without biases, T=64, batch 4", "GPT", {**NANO_GPT, **GPT2, "vocab_size": 50304}, 4, 64, tiny=TINY_GPT
    ),
    "bert": Work(
        "BERT-base, 15% of the tokens to be found, T=128, batch 8", "BERT", {"vocab_size": 30522}, 8, 128,
        peer="BertForMaskedLM", share=0.15, steps=1, tiny={**TINY, "intermediate_size": 64},
    ),
    "t5": Work(
        "T5-small, 64 tokens to 64, batch 16", "T5", {"vocab_size": 32128}, 16, 64, S=64,
        peer="T5ForConditionalGeneration", steps=1,
        tiny={"vocab_size": 99, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4},
    ),
    "multi30k": Work(
        "T5 for Multi30k: 3 + 3 layers, 192 channels, 4 heads, 8,000 tokens, 20 tokens to 16, batch 64", "T5",
        {"vocab_size": 8000, "d_model": 192, "d_kv": 48, "num_heads": 4, "d_ff": 768, "num_layers": 3}, 64, 16, S=20,
        peer="T5ForConditionalGeneration", steps=4,
        tiny={"vocab_size": 99, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4},
    ),
    "llama": Work(
        "LLaMA 25M, 8 heads on 2 keys and values, T=256, batch 8", "Llama", LLAMA, 8, 256, peer="LlamaForCausalLM",
        tiny={**TINY, "intermediate_size": 64},
    ),
    "opt": Work(
        "OPT-125M, T=128, batch 4", "OPT", {"vocab_size": 50272}, 4, 128, peer="OPTForCausalLM",
        tiny={**TINY, "ffn_dim": 64},
    ),
}  # fmt: skip


def fresh_model(work: Work) -> Any:
    """tinyllm's model with the initial weights of seed 0."""
    from tinyllm.models import MODELS

    model_class, config_class = MODELS[work.model]
    return model_class(config_class(**NO_DROPOUT[work.model], **work.config), seed=0)


def write_weights(directory: str, model: Any, peer: str | None) -> None:
    """The weights for tinyllm.load and for the peer: in our format for torch_models.GPT, else as transformers reads them."""
    import tinyllm

    (tinyllm.huggingface.save if peer else tinyllm.save)(directory, model)


def batches(work: Work, number: int) -> list[tuple[np.ndarray, ...]]:
    """Random batches, each the arguments of tinyllm's loss: (source,) tokens, targets."""
    random, V = np.random.default_rng(0), work.config["vocab_size"]
    made = []
    for _ in range(number):
        source = [] if work.S is None else [random.integers(2, V, (work.B, work.S))]
        tokens, targets = random.integers(2, V, (2, work.B, work.T))  # 0 and 1 are padding to some models
        targets[random.random(targets.shape) >= work.share] = -100
        made.append((*source, tokens, targets))
    return made


def product_weights(model: Any) -> int:
    """How many weights are factors of matrix products."""
    return sum(layer.w.size for layer in _products(model))


def product_bytes(model: Any) -> int:
    """The bytes of the weights that are factors of matrix products: what is read for each token that is generated."""
    from tinyllm.layers import QuantizedLinear, QuantizedOutput

    packed = [layer.w for layer in model.layers() if isinstance(layer, (QuantizedLinear, QuantizedOutput))]
    in_bits = sum(w.q.nbytes + (0 if w.q.dtype == np.uint16 else w.scales.nbytes) for w in packed)  # 16 bits have no scales
    return product_weights(model) * model.dtype.itemsize + in_bits


def step_flops(model: Any, rows: int, S: int) -> int:
    """Floating-point operations of a training step over so many rows that attend to S keys each, as usually counted.

    Each weight takes part in a product of the forward pass and in two of the backward, two operations each; attention's
    two products likewise, counted in full, causal or not.
    """
    from tinyllm.layers import Attention, CrossAttention

    attending = sum(layer.H * layer.D for layer in model.layers() if isinstance(layer, (Attention, CrossAttention)))
    return 6 * rows * (product_weights(model) + 2 * S * attending)


def _products(model: Any) -> list[Any]:
    from tinyllm.layers import Linear, Output

    return [layer for layer in model.layers() if isinstance(layer, (Linear, Output))]
