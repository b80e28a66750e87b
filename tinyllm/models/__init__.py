"""The models, one file each."""

from .gpt import GPT, GPTConfig
from .model import LanguageModel, Model

# class name -> (class, its configuration)
MODELS = {"GPT": (GPT, GPTConfig)}

__all__ = ["GPT", "MODELS", "GPTConfig", "LanguageModel", "Model"]
