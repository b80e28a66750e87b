"""tinyllm: language models from first principles, every gradient derived and written by hand."""

from . import kernels
from .models import GPT, GPTConfig
from .optim import Adam, clip_grad_norm

__version__ = "0.1.0"
__all__ = ["GPT", "Adam", "GPTConfig", "clip_grad_norm", "kernels"]
