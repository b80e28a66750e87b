"""T5: what it is pretrained on, what it can be fine-tuned for, and with which values."""

from .pairs import Summarization, TextToText, Translation
from .spans import SpanTask
from .task import Kind

# a tied embedding begins with numbers of order 1: steps relative to a parameter's size move it as fast as the rest
COMMON = {"optimizer": "adafactor", "weight_decay": 0.0, "clip": 1.0, "eval_batches": 20, "schedule": "rsqrt"}

T5 = Kind(
    help="T5 (Raffel et al. 2020): reads a text and writes another; to translate and summarize.",
    model="T5",
    task=SpanTask,
    presets={
        # some two minutes on two cores: 1.9 million parameters
        "quick": {
            **COMMON, "tokenizer": "unigram:4096", "d_model": 128, "d_kv": 32, "num_heads": 4, "d_ff": 512, "num_layers": 3,
            "dropout_rate": 0.0, "batch_size": 32, "steps": 1200, "lr": 2e-2, "warmup": 300, "eval_every": 300,
        },
        # some 12 million parameters
        "mini": {
            **COMMON, "tokenizer": "unigram:8000", "d_model": 256, "d_kv": 64, "num_heads": 4, "d_ff": 1024, "num_layers": 4,
            "dropout_rate": 0.1, "batch_size": 64, "steps": 20_000, "lr": 2e-2, "warmup": 1000,
            "eval_every": 500,
        },
        # T5-small, 60 million parameters, as the paper trains
        "small": {
            **COMMON, "tokenizer": "unigram:32100", "length": 568, "batch_size": 16, "accumulate": 8, "steps": 524_288,
            "lr": 1e-2, "warmup": 10_000,
            "eval_every": 1000,
        },
    },
    finetune={
        **COMMON, "batch_size": 32, "steps": 2000, "lr": 3e-3, "warmup": 100, "schedule": "linear", "eval_every": 250,
    },
    tasks={"translation": Translation, "summarization": Summarization, "text2text": TextToText},
)  # fmt: skip
