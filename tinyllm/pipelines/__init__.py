"""Trained models in use: a function for each task, from texts to answers."""

from .embeddings import sentence_embeddings
from .mask_filling import fill_mask
from .question_answering import answer
from .text_classification import classify
from .token_classification import tag

__all__ = ["answer", "classify", "fill_mask", "sentence_embeddings", "tag"]
