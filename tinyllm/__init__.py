"""tinyllm: language models from first principles, every gradient derived and written by hand."""

import tinyllm.kernels as kernels  # not `from .`: a checker that reads the tree cannot know that kernels/ lands here
from tinyllm.kernels import autocast
from tinyllm.kernels.threads import set_threads

from . import huggingface, lora
from .answer import answer
from .checkpoint import load, save
from .classify import classify
from .embed import sentence_embeddings
from .fill_mask import fill_mask
from .generate import complete, generate, stream
from .gradcheck import gradcheck
from .models import (
    BERT,
    GPT,
    OPT,
    T5,
    BERTConfig,
    BERTEncoder,
    BERTForQuestionAnswering,
    BERTForSequenceClassification,
    BERTForTokenClassification,
    GPTConfig,
    Llama,
    LlamaConfig,
    OPTConfig,
    T5Config,
)
from .optim import Adam, clip_grad_norm
from .tag import tag
from .train import resume, train

__version__ = "0.1.0"
__all__ = [
    "BERT",
    "GPT",
    "OPT",
    "T5",
    "Adam",
    "BERTConfig",
    "BERTEncoder",
    "BERTForQuestionAnswering",
    "BERTForSequenceClassification",
    "BERTForTokenClassification",
    "GPTConfig",
    "Llama",
    "LlamaConfig",
    "OPTConfig",
    "T5Config",
    "answer",
    "autocast",
    "classify",
    "clip_grad_norm",
    "complete",
    "fill_mask",
    "generate",
    "gradcheck",
    "huggingface",
    "kernels",
    "load",
    "lora",
    "resume",
    "save",
    "sentence_embeddings",
    "set_threads",
    "stream",
    "tag",
    "train",
]
