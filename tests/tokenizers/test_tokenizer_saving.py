"""Random tokenizers of all kinds: saved and loaded, they give the same ids, text and special tokens."""

import tempfile

from hypothesis import given, reject
from hypothesis import strategies as st
from tokenizer_texts import texts

from tinyllm.tokenizers import (
    BertNormalizer,
    BPETokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    SentencePieceBPETokenizer,
    TokenizerError,
    UnigramTokenizer,
    WordPieceTokenizer,
    load,
)

LINES = ["the cat sat on the mat, the cat's hat", "ab ab  ab 12 12 naïve é 日本"]
special_tokens = st.lists(
    st.sampled_from(["<s>", "</s>", "<unk>", "<pad>", "<mask>", "<|endoftext|>", "<|x|>", "é", " a ", "▁b", "\n\n", "ab"]),
    unique=True,
    max_size=5,
)


@st.composite
def trained(draw):
    try:
        return draw(maybe_trained())
    except TokenizerError as error:
        assert "is also a token of the vocabulary" in str(error)
        reject()


@st.composite
def maybe_trained(draw):
    kind = draw(st.sampled_from(["character", "byte", "bpe", "wordpiece", "sentencepiece", "unigram"]))
    special = draw(special_tokens)
    flag = draw(st.booleans())
    if kind == "character":
        return CharacterTokenizer.train([*LINES, "\n", *map(str, range(10))], special)
    if kind == "byte":
        return ByteTokenizer(special)
    if kind == "bpe":
        patterns = [draw(st.sampled_from([r"\p{N}", r"\w+|[^\w\s]+", r"[[a-c]x]+"]))] if flag else []
        return BPETokenizer.train(LINES, 300, special, patterns=patterns, use_regex=draw(st.booleans()))
    if kind == "wordpiece":
        special = ["[UNK]", "[CLS]", "[SEP]", *special]
        return WordPieceTokenizer.train(LINES, 400, special, normalizer=BertNormalizer(lowercase=flag))
    special = ["<unk>", *(token for token in special if token != "<unk>")]
    if kind == "sentencepiece":
        return SentencePieceBPETokenizer.train(LINES, 450, special)
    return UnigramTokenizer.train(LINES, 500, special, sentinels=draw(st.sampled_from([0, 3])), byte_fallback=flag)


def result(function, *arguments):
    try:
        return function(*arguments)
    except TokenizerError as error:
        return str(error)


@given(tokenizer=trained(), text=texts, new=special_tokens, data=st.data())
def test_saved_and_loaded(tokenizer, text, new, data):
    tokenizer.add_special_tokens(new)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(folder)
        again = load(folder)
    assert type(again) is type(tokenizer) and again.vocab_size == tokenizer.vocab_size
    assert again.special_tokens == tokenizer.special_tokens
    for role in ("bos", "eos", "pad", "unk", "cls", "sep", "mask"):
        assert getattr(again, f"{role}_id") == getattr(tokenizer, f"{role}_id")
    for special in (False, True):
        for allowed in (None, False, True):
            assert result(again.encode, text, special, allowed) == result(tokenizer.encode, text, special, allowed)
    used = [id for id in range(tokenizer.vocab_size) if tokenizer.id_to_token(id) is not None]
    ids = data.draw(st.lists(st.sampled_from(used), max_size=9))
    for skip in (False, True):
        assert again.decode(ids, skip) == tokenizer.decode(ids, skip)
