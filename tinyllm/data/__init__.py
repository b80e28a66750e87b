"""Text, tokens and batches: what a model learns from, from the file to the array."""

from tinyllm.data.batches import IGNORED, Batches, full_pass, split
from tinyllm.data.dialogues import read_dialogues, stdlib_dialogues
from tinyllm.data.download import dataset_folder, dataset_path, fetch, is_fetched
from tinyllm.data.examples import Example, ExampleBatches, example, examples_pass, padded, pairs
from tinyllm.data.files import DataError, cache_dir
from tinyllm.data.labelled import Labelled, read_labelled
from tinyllm.data.packing import PackedBatches, pack, packed
from tinyllm.data.registry import DATASETS, Dataset, RemoteFile, find_dataset
from tinyllm.data.sources import open_source
from tinyllm.data.stdlib import stdlib_source, stdlib_text
from tinyllm.data.tables import Table, held_out, read_table
from tinyllm.data.text import Source, TextFiles, Texts, open_text, read_text
from tinyllm.data.tokens import cached_tokens, open_tokens, tokenize, tokenizer_fingerprint, write_tokens

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
    "read_dialogues",
    "read_labelled",
    "read_table",
    "read_text",
    "split",
    "stdlib_dialogues",
    "stdlib_source",
    "stdlib_text",
    "tokenize",
    "tokenizer_fingerprint",
    "write_tokens",
]
