"""The samples of a training on text."""

import numpy as np
import pytest

from tinyllm.tasks.text import first_words, prompts_of, whole_lines
from tinyllm.tokenizers import ByteTokenizer, CharacterTokenizer


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cut off.\n\nReturn the name of it.\n\nMore", "Return the name"),  # a paragraph begins
        ("cut off\nROMEO: What light\nis", "ROMEO: What light"),  # a line
        ("ut off and so on for ever", "off and so"),  # a word
        ("的一是在不了有和人这中大为上个国", "的一是在不了有和人这"),  # no spaces
        ("ACGTACGTACGTACGT", "ACGTACGTAC"),
        ("x " + "y" * 99, "y" * 30),
        ("", ""),
    ],
)
def test_first_words(text: str, words: str) -> None:
    assert first_words(text) == words


def test_prompts_come_from_three_parts_of_the_held_out_text() -> None:
    tokenizer = ByteTokenizer()
    text = "\n\n".join(f"Paragraph {'abcdefghij'[i // 10]} is number {i}." for i in range(90))
    assert prompts_of(np.array(tokenizer.encode(text)), tokenizer) == ["Paragraph a is", "Paragraph d is", "Paragraph g is"]
    same = np.array(tokenizer.encode("One of many.\n\n" * 90))
    assert prompts_of(same, tokenizer) == ["One of many."]  # equal ones once


@pytest.mark.parametrize("text", ["A", "ACGT", "的一"])
def test_every_text_gives_a_prompt_that_its_tokenizer_knows(text: str) -> None:
    tokenizer = CharacterTokenizer(sorted(set(text)))
    prompts = prompts_of(np.array(tokenizer.encode(text)), tokenizer)
    assert prompts and all(tokenizer.encode(prompt) for prompt in prompts)


def test_whole_lines() -> None:
    assert whole_lines("one\ntwo\nthr") == "one\ntwo"
    assert whole_lines("one\ntwo and much more that is cut in the mid") == "one\ntwo and much more that is cut in the mid"
    assert whole_lines("no line end") == "no line end"
