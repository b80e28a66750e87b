"""`tinyllm data`: well-known public data sets, by name."""

from __future__ import annotations

import shutil
import textwrap

import click

from ..data import DATASETS, Dataset, dataset_path, fetch, find_dataset, is_fetched
from .options import Group


@click.group(cls=Group)
def command() -> None:
    """List and fetch well-known public data sets.

    What has been fetched is kept, and needs no network any more; TINYLLM_CACHE says where. `tinyllm train` takes the names
    of those that are plain text, and fetches them itself: tinyllm train gpt --data tinyshakespeare
    """


@command.command("list")
def list_() -> None:
    """Show all data sets: name, size, contents, use and licence."""
    width = max(map(len, DATASETS))
    for name, dataset in DATASETS.items():
        click.echo(
            f"{click.style(f'{name:<{width}}', bold=True)}  {_size(dataset):>8}  {'*' if is_fetched(name) else ' '} ",
            nl=False,
        )
        about = [dataset.description, f"for {dataset.purpose}; licence: {dataset.licence}"]
        indent = " " * (width + 14)
        columns = max(60, shutil.get_terminal_size().columns)
        text = "\n".join(textwrap.fill(line, columns, initial_indent=indent, subsequent_indent=indent) for line in about)
        click.echo(text.lstrip())
    click.echo("\n* is on this machine. Fetch one: tinyllm data fetch NAME")


@command.command("fetch")
@click.argument("name")
def fetch_(name: str) -> None:
    """Download the data set NAME, unless it is there already, and print its folder."""
    click.echo(fetch(name))


@command.command("path")
@click.argument("name")
def path_(name: str) -> None:
    """Print the folder of the data set NAME, which must have been fetched."""
    find_dataset(name)
    click.echo(dataset_path(name))


def _size(dataset: Dataset) -> str:
    return f"{dataset.size / 1e6:.1f} MB"
