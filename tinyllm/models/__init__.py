"""The models, one file each."""

from .gpt import GPT, GPTConfig
from .llama import Llama, LlamaConfig
from .model import LanguageModel, Model
from .opt import OPT, OPTConfig

# class name -> (class, its configuration)
MODELS = {"GPT": (GPT, GPTConfig), "Llama": (Llama, LlamaConfig), "OPT": (OPT, OPTConfig)}

__all__ = ["GPT", "MODELS", "OPT", "GPTConfig", "LanguageModel", "Llama", "LlamaConfig", "Model", "OPTConfig"]
