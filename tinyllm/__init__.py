"""tinyllm: language models from first principles, every gradient derived and written by hand."""

from . import kernels, tokenizers
from .checkpoints import huggingface, lora
from .checkpoints.loading import load, save
from .evaluation.evaluating import evaluate
from .finite_differences import gradcheck
from .generation.decoding import complete, generate, stream
from .kernels import autocast
from .kernels.threads import set_threads
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
from .pipelines.embeddings import sentence_embeddings
from .pipelines.mask_filling import fill_mask
from .pipelines.question_answering import answer
from .pipelines.text_classification import classify
from .pipelines.token_classification import tag
from .recipes import finetune, resume, train

__version__ = "0.1.0"  # the only place; setup.cfg reads it without importing the package, so it stays a literal
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
    "evaluate",
    "fill_mask",
    "finetune",
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
    "tokenizers",
    "train",
]
