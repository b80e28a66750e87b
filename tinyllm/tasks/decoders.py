"""The decoders GPT, LLaMA and OPT: what they are trained for, and with which values."""

from .chat import ChatTask
from .classification import GPTClassification, LlamaClassification, OPTClassification
from .completion import CompletionTask
from .task import Kind, Task
from .text import TextTask

# nanoGPT's settings for small models, and those of a model that trains in some two minutes on two cores
SMALL = {"betas": (0.9, 0.99), "weight_decay": 0.1, "clip": 1.0, "warmup": 100, "eval_every": 250, "eval_batches": 20}
QUICK = {**SMALL, "tokenizer": "bpe:2048", "batch_size": 12, "steps": 1400, "lr": 3e-3}
# to go on from trained weights: the 3,200 sequences of nanoGPT's example, in smaller steps
FINETUNE = {
    "batch_size": 8, "accumulate": 1, "steps": 400, "lr": 3e-4, "schedule": "cosine", "warmup": 40,
    "eval_every": 100, "eval_batches": 20,
}  # fmt: skip

TASKS: dict[str, type[Task]] = {"chat": ChatTask, "completion": CompletionTask}

GPT = Kind(
    help="GPT-2 (Radford et al. 2019): writes text, a token at a time.",
    model="GPT",
    task=TextTask,
    together={"dropout": ("embd_pdrop", "attn_pdrop", "resid_pdrop")},
    presets={
        # some two minutes on two cores: 0.9 million parameters, pieces of words
        "quick": {
            **QUICK, "n_layer": 4, "n_head": 4, "n_embd": 128, "n_positions": 128, "bias": False, "dropout": 0.0,
        },
        # nanoGPT's configuration for a laptop: 0.8 million parameters
        "nano": {
            **SMALL, "n_layer": 4, "n_head": 4, "n_embd": 128, "n_positions": 64, "bias": False, "dropout": 0.0,
            "batch_size": 12, "steps": 2000, "lr": 1e-3,
        },
        # nanoGPT's "baby" for a GPU: 10.6 million parameters
        "baby": {
            **SMALL, "n_layer": 6, "n_head": 6, "n_embd": 384, "n_positions": 256, "bias": False, "dropout": 0.2,
            "batch_size": 64, "steps": 5000, "lr": 1e-3,
        },
        # GPT-2 small, 124 million parameters, trained as nanoGPT does
        "gpt2": {
            "dropout": 0.0, "tokenizer": "bpe:50257", "batch_size": 12, "accumulate": 40, "steps": 600_000,
            "lr": 6e-4, "warmup": 2000, "betas": (0.9, 0.95), "eval_every": 1000, "eval_batches": 200,
        },
    },
    finetune=FINETUNE,
    tasks={"classification": GPTClassification, **TASKS},
)  # fmt: skip

LLAMA = Kind(
    help="LLaMA (Touvron et al. 2023): writes text, as most open models do today.",
    model="Llama",
    task=TextTask,
    presets={
        # some two minutes on two cores: 0.9 million parameters, two query heads to each key/value head
        "quick": {
            **QUICK, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 128,
            "intermediate_size": 352, "max_position_embeddings": 128, "tie_word_embeddings": True,
        },
        # llama2.c's model of 15 million parameters, which tells small stories
        "stories15M": {
            **SMALL, "tokenizer": "bpe:4096", "num_hidden_layers": 6, "num_attention_heads": 6, "hidden_size": 288,
            "intermediate_size": 768, "max_position_embeddings": 256, "tie_word_embeddings": True,
            "batch_size": 32, "steps": 20_000, "lr": 5e-4, "betas": (0.9, 0.95), "warmup": 1000,
        },
    },
    finetune=FINETUNE,
    tasks={"classification": LlamaClassification, **TASKS},
)  # fmt: skip

OPT = Kind(
    help="OPT (Zhang et al. 2022): decoder with ReLU, as GPT-3 in size and training; to pretrain and fine-tune.",
    model="OPT",
    task=TextTask,
    presets={
        # some two minutes on two cores: 0.9 million parameters
        "quick": {
            **QUICK, "num_hidden_layers": 4, "num_attention_heads": 4, "hidden_size": 128, "ffn_dim": 512,
            "max_position_embeddings": 128, "dropout": 0.0,
        },
        # OPT-125M
        "125m": {
            "tokenizer": "bpe:50265", "batch_size": 8, "accumulate": 30, "steps": 600_000, "lr": 6e-4, "warmup": 2000,
            "betas": (0.9, 0.95), "schedule": "linear", "eval_every": 1000, "eval_batches": 200,
        },
    },
    finetune=FINETUNE,
    tasks={"classification": OPTClassification, **TASKS},
)  # fmt: skip
