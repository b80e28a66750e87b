"""BERT: what it is pretrained on, what it can be fine-tuned for, and with which values."""

from .answers import AnswersTask
from .labels import SequenceTask, TaggingTask
from .masked import MaskedTask
from .task import Kind

# as the paper trains (Devlin et al. 2019, appendix A.2)
PRETRAINING = {
    "next_sentence": True, "betas": (0.9, 0.999), "weight_decay": 0.01, "schedule": "linear", "min_lr": 0.0, "clip": 1.0,
    "tokenizer": "wordpiece:30522", "max_position_embeddings": 512,
}  # fmt: skip

BERT = Kind(
    help="BERT (Devlin et al. 2019): reads in both directions; to classify, tag and find answers.",
    model="BERT",
    task=MaskedTask,
    together={"dropout": ("hidden_dropout_prob", "attention_probs_dropout_prob")},
    presets={
        # some three minutes on two cores: 1.3 million parameters
        "quick": {
            **PRETRAINING, "tokenizer": "wordpiece:4096", "num_hidden_layers": 4, "num_attention_heads": 4,
            "hidden_size": 128, "intermediate_size": 512, "max_position_embeddings": 128, "dropout": 0.0,
            "batch_size": 32, "steps": 700, "lr": 1.5e-3, "warmup": 100, "eval_every": 175, "eval_batches": 20,
        },
        # to learn labels from nothing but the labelled texts: half a minute
        "tiny": {
            **PRETRAINING, "tokenizer": "wordpiece:8192", "num_hidden_layers": 1, "num_attention_heads": 4,
            "hidden_size": 64, "intermediate_size": 256, "max_position_embeddings": 128, "dropout": 0.1,
            "hidden_words": 0.5, "batch_size": 32, "steps": 1000, "lr": 1e-3, "warmup": 50, "eval_every": 250,
        },
        # the sizes of Turc et al. 2019: 11 and 29 million parameters
        "mini": {
            **PRETRAINING, "num_hidden_layers": 4, "num_attention_heads": 4, "hidden_size": 256, "intermediate_size": 1024,
            "batch_size": 32, "accumulate": 8, "steps": 100_000, "lr": 1e-3, "warmup": 2000, "eval_every": 1000,
        },
        "small": {
            **PRETRAINING, "num_hidden_layers": 4, "num_attention_heads": 8, "hidden_size": 512, "intermediate_size": 2048,
            "batch_size": 32, "accumulate": 8, "steps": 200_000, "lr": 5e-4, "warmup": 5000, "eval_every": 1000,
        },
        # the paper's: 110 million parameters
        "base": {
            **PRETRAINING, "batch_size": 16, "accumulate": 16, "steps": 1_000_000, "lr": 1e-4, "warmup": 10_000,
            "eval_every": 5000, "eval_batches": 200,
        },
    },
    # as the paper fine-tunes (appendix A.3)
    finetune={
        "batch_size": 32, "lr": 5e-5, "warmup": 50, "schedule": "linear", "min_lr": 0.0, "betas": (0.9, 0.999),
        "weight_decay": 0.01, "eval_every": 250, "eval_batches": 20,
    },
    tasks={"classification": SequenceTask, "tagging": TaggingTask, "qa": AnswersTask},
)  # fmt: skip
