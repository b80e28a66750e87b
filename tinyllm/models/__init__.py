"""The models, one file each."""

from typing import Any

from .bert import (
    BERT,
    BERTConfig,
    BERTEncoder,
    BERTForQuestionAnswering,
    BERTForSequenceClassification,
    BERTForTokenClassification,
)
from .gpt import GPT, GPTConfig, GPTForSequenceClassification
from .llama import Llama, LlamaConfig, LlamaForSequenceClassification
from .model import LanguageModel, Model
from .opt import OPT, OPTConfig, OPTForSequenceClassification
from .t5 import T5, T5Config

# class name -> (class, its configuration)
MODELS: dict[str, tuple[Any, Any]] = {
    "GPT": (GPT, GPTConfig),
    "GPTForSequenceClassification": (GPTForSequenceClassification, GPTConfig),
    "BERT": (BERT, BERTConfig),
    "BERTForSequenceClassification": (BERTForSequenceClassification, BERTConfig),
    "BERTForTokenClassification": (BERTForTokenClassification, BERTConfig),
    "BERTForQuestionAnswering": (BERTForQuestionAnswering, BERTConfig),
    "BERTEncoder": (BERTEncoder, BERTConfig),
    "T5": (T5, T5Config),
    "Llama": (Llama, LlamaConfig),
    "LlamaForSequenceClassification": (LlamaForSequenceClassification, LlamaConfig),
    "OPT": (OPT, OPTConfig),
    "OPTForSequenceClassification": (OPTForSequenceClassification, OPTConfig),
}

__all__ = [
    "BERT",
    "GPT",
    "MODELS",
    "OPT",
    "T5",
    "BERTConfig",
    "BERTEncoder",
    "BERTForQuestionAnswering",
    "BERTForSequenceClassification",
    "BERTForTokenClassification",
    "GPTConfig",
    "GPTForSequenceClassification",
    "LanguageModel",
    "Llama",
    "LlamaConfig",
    "LlamaForSequenceClassification",
    "Model",
    "OPTConfig",
    "OPTForSequenceClassification",
    "T5Config",
]
