"""A model whose vocabulary is larger than its tokenizer's, or has holes: such ids have no text, and are never written."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import peers

import tinyllm
from tinyllm.generation import chat
from tinyllm.generation.decoding import Writer
from tinyllm.pipelines.text2text import Use, answers
from tinyllm.tokenizers import (
    BPETokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    SentencePieceBPETokenizer,
    StreamDecoder,
    TokenizerError,
    UnigramTokenizer,
    WordPieceTokenizer,
    load,
)

TEXT = "the first run of a model, in other words hello world\n" * 20
MORE = 40  # ids of the model that the tokenizer lacks at the end
TOKENIZERS = {
    "character": CharacterTokenizer.train(TEXT, ["<|endoftext|>"]),
    "bytes": ByteTokenizer(),
    "bpe": BPETokenizer.train(TEXT, 290),
    "wordpiece": WordPieceTokenizer.train(TEXT, 60),
    "sentencepiece": SentencePieceBPETokenizer.train(TEXT, 290),
    "unigram": UnigramTokenizer.train(TEXT, 40, sentinels=2),
}


@pytest.fixture(scope="module")
def with_hole(tmp_path_factory):
    """By kind: a tokenizer in which the last ordinary token has moved up by six ids, and its directory."""
    made = {}
    for kind in ("bpe", "wordpiece", "sentencepiece"):
        path = tmp_path_factory.mktemp(kind)
        TOKENIZERS[kind].save(path)
        spec = json.loads((path / "tokenizer.json").read_text(encoding="utf-8"))
        vocab, added = spec["model"]["vocab"], {token["content"] for token in spec["added_tokens"]}
        last = max(vocab.keys() - added, key=vocab.get)
        vocab[last] = max([*vocab.values(), *(token["id"] for token in spec["added_tokens"])]) + 6
        (path / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
        made[kind] = load(path), path
    return made


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_an_id_beyond_the_vocabulary_has_no_text(kind):
    tokenizer = TOKENIZERS[kind]
    ids = tokenizer.encode("hello world")
    for unknown in (tokenizer.vocab_size, tokenizer.vocab_size + 3, 10**9):
        assert tokenizer.decode([unknown]) == ""
        for at in range(len(ids) + 1):
            assert tokenizer.decode([*ids[:at], unknown, *ids[at:]]) == tokenizer.decode(ids)
        decoder = StreamDecoder(tokenizer)
        assert decoder.feed(unknown) == "" and "".join(map(decoder.feed, ids)) == tokenizer.decode(ids)
    with pytest.raises(TokenizerError, match="id -1 is not in this vocabulary"):
        tokenizer.decode([-1])


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "sentencepiece"])
@settings(max_examples=50)
@given(data=st.data())
def test_texts_are_those_of_the_library(kind, data, with_hole):
    library = pytest.importorskip("tokenizers", reason="compares with tokenizers: pip install 'tinyllm-numpy[peers]'")
    tokenizer, path = with_hole[kind]
    first = 3 + 256 if kind == "sentencepiece" else 0  # after the bytes, because a random run of bytes is not UTF-8
    ids = data.draw(st.lists(st.integers(first, tokenizer.vocab_size + 20), max_size=12))
    theirs = library.Tokenizer.from_file(str(path / "tokenizer.json"))
    assert tokenizer.decode(ids) == theirs.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "sentencepiece"])
def test_which_ids_are_lacking(kind, with_hole):
    tokenizer, _ = with_hole[kind]
    V = tokenizer.vocab_size
    expected = [id for id in range(V + 9) if tokenizer.id_to_token(id) is None]
    assert tokenizer.lacking(V + 9) == expected and len(expected) == 9 + 6
    assert tokenizer.lacking(V - 3) == [id for id in expected if id < V - 3]
    assert TOKENIZERS[kind].lacking(TOKENIZERS[kind].vocab_size) == TOKENIZERS[kind].lacking(3) == []


# Models ----------------------------------------------------------------------------------------------------------------


def padded(make, tokenizer, **options):
    """A model that likes the tokens that the tokenizer lacks best."""
    model = make.tiny(vocab_size=tokenizer.vocab_size + MORE, **options)
    model.flat.data += np.random.default_rng(5).standard_normal(model.flat.size).astype(np.float32)
    model.output.w.data[tokenizer.lacking(model.vocab_size)] *= 10
    return model


@pytest.fixture
def written(monkeypatch):
    """All tokens that texts are made of from here on."""
    seen: list[int] = []
    feed, decode = Writer.feed, tinyllm.tokenizers.Tokenizer.decode
    monkeypatch.setattr(Writer, "feed", lambda self, token: (seen.append(token), feed(self, token))[1])
    monkeypatch.setattr(
        tinyllm.tokenizers.Tokenizer,
        "decode",
        lambda self, ids, *args, **options: (seen.extend(ids), decode(self, ids, *args, **options))[1],
    )
    return seen


OPTIONS = [{}, {"temperature": 3.0, "seed": 0}, {"num_beams": 3}, {"assistant": True}, {"repetition_penalty": 1.3}]


BOTH = [(tinyllm.GPT, one) for one in OPTIONS] + [(tinyllm.T5, one) for one in OPTIONS if "assistant" not in one]


@pytest.mark.parametrize("kind", ["bytes", "hole"])
@pytest.mark.parametrize(("make", "options"), BOTH)
def test_nothing_is_written_that_the_tokenizer_lacks(make, kind, options, written, with_hole):
    tokenizer = with_hole["sentencepiece"][0] if kind == "hole" else TOKENIZERS[kind]
    sizes = {"n_positions": 64, "tie_word_embeddings": False} if make is tinyllm.GPT else {"tie_word_embeddings": False}
    model = padded(make, tokenizer, **sizes)
    lacking = set(tokenizer.lacking(model.vocab_size))
    free = tinyllm.generate(model, [[1, 2]], 20, **{k: v for k, v in options.items() if k != "assistant"})
    assert len(lacking) > MORE * (kind == "hole") and lacking & set(free.ravel().tolist())  # generate has no tokenizer
    if "assistant" in options:
        options = {"assistant_model": padded(make, tokenizer, **sizes)}
    texts = tinyllm.complete(model, tokenizer, ["hello", "a model"], 20, **options)
    if "num_beams" not in options:
        assert "".join(tinyllm.stream(model, tokenizer, "hello", 20, **options)) == texts[0]
    answers(model, tokenizer, ["hello"], Use(max_length=20, num_beams=options.get("num_beams", 1)))
    assert len(written) > 20 and not lacking & set(written)


def test_a_chat(written):
    tokenizer = ByteTokenizer()
    chat.extend(tinyllm.GPT.tiny(vocab_size=500), tokenizer)
    model = padded(tinyllm.GPT, tokenizer, n_positions=64, tie_word_embeddings=False)
    "".join(chat.Chat(model, tokenizer, max_new_tokens=20, temperature=2.0, seed=0).reply("hello"))
    assert len(written) > 10 and max(written) < tokenizer.vocab_size


def test_an_end_token_without_a_text_still_ends():
    tokenizer = TOKENIZERS["bytes"]
    model = padded(tinyllm.GPT, tokenizer, n_positions=64, tie_word_embeddings=False)
    first = int(tinyllm.generate(model, [tokenizer.encode("hello")], 1)[0, -1])
    assert first >= tokenizer.vocab_size
    assert tinyllm.complete(model, tokenizer, ["hello"], 20, eos_id=first) == [""]


@pytest.mark.parametrize("top_k", [3, 500])
def test_a_gap_is_filled_with_tokens_of_the_tokenizer(top_k):
    tokenizer = TOKENIZERS["wordpiece"]
    model = tinyllm.BERT.tiny(vocab_size=tokenizer.vocab_size + MORE, max_position_embeddings=32, initializer_range=0.5)
    text = "the [MASK] run"
    words = tinyllm.fill_mask(model, tokenizer, [text], top_k=top_k)[0][0]
    logits = model([tokenizer.encode(text, add_special_tokens=True)])[0].astype(np.float64)
    logits = logits[tokenizer.encode(text, add_special_tokens=True).index(tokenizer.mask_id)]
    p = np.exp(logits - logits.max())
    p /= p.sum()  # of the whole vocabulary, as transformers says
    assert p.argmax() >= tokenizer.vocab_size or p[tokenizer.vocab_size :].sum() > 0.05
    best = np.argsort(-p[: tokenizer.vocab_size], kind="stable")[:top_k]
    assert [word.token for word in words] == [tokenizer.id_to_token(id) for id in best]
    np.testing.assert_allclose([word.probability for word in words], p[best], rtol=1e-4)


def test_a_padded_checkpoint_of_transformers(tmp_path):
    torch, transformers = peers()
    torch.manual_seed(0)
    sizes = {"vocab_size": 320, "n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 64, "initializer_range": 0.5}
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))
    theirs.eval().save_pretrained(tmp_path)
    TOKENIZERS["bpe"].save(tmp_path)
    model, tokenizer = tinyllm.load(tmp_path)
    assert (model.vocab_size, tokenizer.vocab_size) == (320, TOKENIZERS["bpe"].vocab_size)
    fast = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path)
    unknown = tokenizer.vocab_size + 3
    assert fast.decode([unknown]) == tokenizer.decode([unknown]) == ""
    prompt = tokenizer.encode("hello")
    expected = theirs.generate(
        torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0,
        suppress_tokens=tokenizer.lacking(320),
    )  # fmt: skip
    found = tinyllm.complete(model, tokenizer, ["hello"], 12, eos_id=())
    assert found == [tokenizer.decode(expected[0, len(prompt) :].tolist(), skip_special_tokens=True)]
