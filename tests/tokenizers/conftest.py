"""The real text that the tokenizers' tests read."""

import os

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session")
def shakespeare(shared_data) -> str:
    return (shared_data / "tinyshakespeare" / "input_train.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def corpus(shared_data) -> list[str]:
    """Real text of many kinds, the beginning of each: stories, encyclopaedia, chat, reviews, code, German."""
    names = ["tinystories/tiny_stories.txt", "wikitext2/wiki_valid.txt", "sms_spam/SMSSpamCollection"]
    names += ["uci_sentences/imdb_labelled.txt", "code/mbpp.jsonl", "tatoeba_en_de/deu.txt", "chatterbot/english.jsonl"]
    return [(shared_data / name).read_text(encoding="utf-8")[:100_000] for name in names]
