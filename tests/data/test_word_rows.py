"""Words and their tokens: every word keeps its label, whatever the other words of the text are, and however long it is."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinyllm
from tinyllm.data import IGNORED
from tinyllm.data.tagged import Tagged, divided, parts, words_of
from tinyllm.data.word_rows import encoded, word_rows
from tinyllm.models import BERTForTokenClassification
from tinyllm.tokenizers import BPETokenizer, WordPieceTokenizer

ODD = [
    "\u2764\ufe0f",
    "\u200b",
    "e\u0301",
    "\u0301",
    "\u0939\u093f\u0928\u094d\u0926\u0940",
    "สวัสดี",
    "كِتَابٌ",
    "\ufeff",
    "\u00ad",
    "👩‍👧",
    "東京",
]
PLAIN = ["Meet", "Anna", "in", "Oslo", "tomorrow", ".", "o'clock", "3.14", "e-mail", "Dr."]
WORDS = st.lists(st.sampled_from(ODD + PLAIN), max_size=40)
TOKENIZER = WordPieceTokenizer.train([" ".join(ODD[3:] + PLAIN)] * 2, 60)
NAMES = {str(i): name for i, name in enumerate(["O", "B-X", "I-X", "Y", "Z"])}


class Echo(BERTForTokenClassification):
    """A tagger whose label at each place is the token's id modulo the number of labels."""

    def __call__(self, tokens, **_):
        return 10.0 * np.eye(len(NAMES))[np.asarray(tokens) % len(NAMES)]


@pytest.fixture(scope="module")
def model():
    return Echo.tiny(vocab_size=TOKENIZER.vocab_size, max_position_embeddings=12, id2label=NAMES)


def label_of(word):
    ids = TOKENIZER.encode(word, allow_special=False)
    return NAMES[str(ids[0] % len(NAMES))] if ids else "O"


@settings(max_examples=100)
@given(WORDS)
def test_each_word_has_the_label_of_its_first_piece(model, words):
    text = " ".join(words)
    from_text, from_words = tinyllm.tag(model, TOKENIZER, [text, words])
    assert [(tag.word, tag.label) for tag in from_words] == [(word, label_of(word)) for word in words]
    assert [(tag.word, tag.label) for tag in from_text] == [(word, label_of(word)) for word, *_ in words_of(text)]
    for tag in from_text + from_words:
        assert text[tag.start : tag.end] == tag.word
        assert (tag.score > 0.9) == bool(TOKENIZER.encode(tag.word, allow_special=False))


def test_a_word_without_tokens_has_no_label_where_there_is_no_o():
    names = {"0": "NOUN", "1": "VERB"}
    model = BERTForTokenClassification.tiny(vocab_size=TOKENIZER.vocab_size, id2label=names)
    first, second = tinyllm.tag(model, TOKENIZER, ["\u200b Anna"])[0]
    assert (first.word, first.label, first.score) == ("\u200b", None, 0.0) and second.label in names.values()
    with pytest.raises(TypeError, match="its words must be strings"):
        tinyllm.tag(model, TOKENIZER, [["Anna", 3]])


def test_the_context_of_a_long_text_counts(model):
    """In each window the words are those with the most context on both sides."""
    real = BERTForTokenClassification.tiny(
        vocab_size=TOKENIZER.vocab_size, max_position_embeddings=12, id2label=NAMES, initializer_range=0.5
    )
    words = ["m", "a", "o", "t"] * 12
    found = [tag.label for tag in tinyllm.tag(real, TOKENIZER, [words])[0]]
    (alone,) = {len(TOKENIZER.encode(word)) for word in words}  # so that windows of tokens are windows of words
    assert alone == 1
    for window in range(0, 38, 5):  # 10 words to a window, half of them new
        labels = [tag.label for tag in tinyllm.tag(real, TOKENIZER, [words[window : window + 10]])[0]]
        assert found[window + 3 : window + 7] == labels[3:7]
    assert found[:7] == [tag.label for tag in tinyllm.tag(real, TOKENIZER, [words[:10]])[0]][:7]


@settings(max_examples=100)
@given(st.lists(WORDS, max_size=4), st.integers(3, 20))
def test_every_word_with_tokens_is_learned_once(texts, length):
    labels = [[i % 5 for i in range(len(words))] for words in texts]
    rows = word_rows(TOKENIZER, texts, length, labels)
    seen = {(number, word): [] for number, words in enumerate(texts) for word in range(len(words))}
    for row in rows:
        assert len(row.tokens) <= length and len(row.target) == len(row.types) == len(row.tokens)
        assert row.tokens[0] == TOKENIZER.cls_id and row.tokens[-1] == TOKENIZER.sep_id
        assert (row.target != IGNORED).nonzero()[0].tolist() == row.places.tolist()
        for word, place in zip(row.words.tolist(), row.places.tolist()):
            seen[row.number, word].append((row.tokens[place], row.target[place]))
    for (number, word), found in seen.items():
        ids = TOKENIZER.encode(texts[number][word], allow_special=False)
        assert found == ([(ids[0], labels[number][word])] if ids else [])


def test_byte_pairs_are_those_after_a_space():
    tokenizer = BPETokenizer.train("the cat sat on the mat " * 20, 280)
    assert encoded(tokenizer, "cat") == tokenizer.encode(" cat") != tokenizer.encode("cat")


# Words ------------------------------------------------------------------------------------------------------------------


@given(st.text(st.sampled_from("ab1 \u00a0\n.,'\u2764\ufe0f\u200b\u0301\u0939\u093f\u200dสัé-"), max_size=30))
def test_words_are_whole_characters_and_leave_nothing_out(text):
    found = words_of(text)
    assert all(text[start:end] == word and word.strip() == word != "" for word, start, end in found)
    ends = [0, *(end for _, _, end in found)]
    assert all(a <= start for a, (_, start, _) in zip(ends, found))
    covered = {i for _, start, end in found for i in range(start, end)}
    left = [c for i, c in enumerate(text) if i not in covered]
    assert all(c.isspace() for c in left)
    for _, start, _ in found:  # a mark stays with its letter
        assert not (start and unicodedata.category(text[start]) == "Mn" and text[start - 1].isalnum())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("can't stop, 3.14!", ["can't", "stop", ",", "3.14", "!"]),
        ("\u2764\ufe0f x", ["\u2764\ufe0f", "x"]),
        ("Cafe\u0301 au", ["Cafe\u0301", "au"]),
        ("\u0939\u093f\u0928\u094d\u0926\u0940 x", ["\u0939\u093f\u0928\u094d\u0926\u0940", "x"]),
        ("كِتَابٌ x", ["كِتَابٌ", "x"]),
        ("👩‍👧 🇩🇪", ["👩‍👧", "🇩🇪"]),
        ("a \u200b b", ["a", "\u200b", "b"]),
        ("  \n", []),
    ],
)
def test_words_by_hand(text, words):
    assert [word for word, *_ in words_of(text)] == words


@pytest.mark.parametrize(
    ("label", "count", "names", "expected"),
    [
        ("B-X", 3, ["B-X", "I-X"], ["B-X", "I-X", "I-X"]),
        ("S-X", 3, ["S-X", "B-X", "I-X", "E-X"], ["B-X", "I-X", "E-X"]),
        ("U-X", 2, ["U-X", "B-X", "L-X"], ["B-X", "L-X"]),
        ("E-X", 2, ["E-X", "I-X"], ["I-X", "E-X"]),
        ("B", 2, ["B", "I", "O"], ["B", "I"]),
        ("B-X", 2, ["B-X", "O"], ["B-X", "B-X"]),
        ("NOUN", 2, ["NOUN"], ["NOUN", "NOUN"]),
        ("O", 2, ["O"], ["O", "O"]),
        ("B-X", 1, ["B-X"], ["B-X"]),
    ],
)
def test_the_labels_of_a_words_parts(label, count, names, expected):
    assert divided(label, count, names) == expected


def test_training_cuts_as_tagging_does():
    tagged = Tagged([["Call", "Dr.", "Evans", "\u200b"]], [[0, 1, 2, 0]], ["O", "B-X", "I-X"])
    cut = parts(tagged)
    assert (
        cut.words == [[word for word, *_ in words_of(" ".join(tagged.words[0]))]] == [["Call", "Dr", ".", "Evans", "\u200b"]]
    )
    assert cut.labels == [[0, 1, 2, 2, 0]]
