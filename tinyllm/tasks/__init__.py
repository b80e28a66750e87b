"""What can be trained: for each kind of model its tasks, its presets, and what they are learned for.

A new kind is an entry of KINDS; data of another sort is a Task, whose fields become options.
"""

from .bert import BERT
from .decoders import GPT, LLAMA, OPT
from .t5 import T5
from .task import Adapters, Kind, Task
from .text import TextTask

KINDS = {"gpt": GPT, "llama": LLAMA, "opt": OPT, "bert": BERT, "t5": T5}

__all__ = ["KINDS", "Adapters", "Kind", "Task", "TextTask"]
