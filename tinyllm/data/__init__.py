"""Text, tokens and batches: what a model learns from, from the file to the array."""

from .batches import IGNORED, Batches, full_pass, split
from .dialogues import read_dialogues
from .download import dataset_folder, dataset_path, fetch, is_fetched
from .examples import Example, ExampleBatches, example, examples_pass, padded, pairs
from .files import DataError, cache_dir
from .labelled import Labelled, read_labelled
from .library import library_dialogues
from .packing import PackedBatches, pack, packed
from .registry import DATASETS, Dataset, RemoteFile, find_dataset
from .sources import open_source
from .stdlib import stdlib_source, stdlib_text
from .tables import Table, held_out, read_table
from .text import Source, TextFiles, Texts, open_text, read_text
from .tokens import cached_tokens, open_tokens, tokenize, tokenizer_fingerprint, write_tokens

__all__ = [
    "DATASETS",
    "IGNORED",
    "Batches",
    "DataError",
    "Dataset",
    "Example",
    "ExampleBatches",
    "Labelled",
    "PackedBatches",
    "RemoteFile",
    "Source",
    "Table",
    "TextFiles",
    "Texts",
    "cache_dir",
    "cached_tokens",
    "dataset_folder",
    "dataset_path",
    "example",
    "examples_pass",
    "fetch",
    "find_dataset",
    "full_pass",
    "held_out",
    "is_fetched",
    "open_source",
    "open_text",
    "open_tokens",
    "pack",
    "packed",
    "padded",
    "pairs",
    "library_dialogues",
    "read_dialogues",
    "read_labelled",
    "read_table",
    "read_text",
    "split",
    "stdlib_source",
    "stdlib_text",
    "tokenize",
    "tokenizer_fingerprint",
    "write_tokens",
]
