"""Byte-level BPE against tiktoken and the tokenizers library, and its training."""

import json
import random
from collections import Counter
from itertools import pairwise

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from tokenizer_texts import SAMPLE, more, texts

from tinyllm.tokenizers import BPETokenizer, TokenizerError, load
from tinyllm.tokenizers.bpe import GPT2_PATTERN
from tinyllm.tokenizers.byte_characters import to_bytes
from tinyllm.tokenizers.merges import _merge_long, learn_merges, merge
from tinyllm.tokenizers.words import Cache


@pytest.fixture(scope="module")
def gpt2(shared_data):
    return load(shared_data / "models" / "gpt2_bpe")


@pytest.fixture(scope="module")
def tiktoken_gpt2(shared_data):
    tiktoken = pytest.importorskip("tiktoken", reason="tiktoken is the peer")
    encoder = json.loads((shared_data / "models" / "gpt2_bpe" / "encoder.json").read_text(encoding="utf-8"))
    ranks = {to_bytes(token): id for token, id in encoder.items() if token != "<|endoftext|>"}
    return tiktoken.Encoding("gpt2", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 50256})


@pytest.fixture(scope="module")
def tokenizers_gpt2(shared_data):
    tokenizers = pytest.importorskip("tokenizers", reason="the tokenizers library is the peer")
    folder = shared_data / "models" / "gpt2_bpe"
    return tokenizers.ByteLevelBPETokenizer(str(folder / "encoder.json"), str(folder / "vocab.bpe"))


@given(texts)
def test_gpt2_ids_equal_both_peers(gpt2, tiktoken_gpt2, tokenizers_gpt2, text):
    ids = gpt2.encode(text)
    assert ids == tiktoken_gpt2.encode_ordinary(text)
    assert ids == tokenizers_gpt2.encode(text).ids
    assert gpt2.decode(ids) == text


def test_gpt2_ids_on_real_text(gpt2, tiktoken_gpt2, tokenizers_gpt2, corpus, shakespeare):
    for text in [*corpus, shakespeare]:
        ids = gpt2.encode(text)
        assert ids == tiktoken_gpt2.encode_ordinary(text)
        assert ids == tokenizers_gpt2.encode(text).ids
        assert gpt2.decode(ids) == text


@given(st.text("ab", max_size=400), st.text(max_size=5), st.integers(1, 30))
def test_long_words(gpt2, tiktoken_gpt2, text, piece, times):
    for word in (text, piece * times):
        assert gpt2.encode(word) == tiktoken_gpt2.encode_ordinary(word)


def test_special_tokens_are_text_until_allowed(gpt2, tiktoken_gpt2):
    text = "one<|endoftext|>two"
    assert gpt2.encode(text) == tiktoken_gpt2.encode_ordinary(text)
    allowed = gpt2.encode(text, allow_special=True)
    assert allowed == tiktoken_gpt2.encode(text, allowed_special="all")
    assert gpt2.eos_id == 50256 and gpt2.eos_id in allowed
    assert gpt2.decode(allowed) == text and gpt2.decode(allowed, skip_special_tokens=True) == "onetwo"


@given(st.lists(st.integers(0, 50256), max_size=30))
def test_decode_any_ids(gpt2, tiktoken_gpt2, ids):
    assert gpt2.decode(ids) == tiktoken_gpt2.decode(ids, errors="replace")


def test_half_a_surrogate_pair_is_replaced(gpt2, tiktoken_gpt2):
    for text in ("a\ud800b", "\ud83d\ude00", "\udc00"):
        assert gpt2.encode(text) == tiktoken_gpt2.encode_ordinary(text)


@given(st.text("ab", max_size=48), st.text("ab", min_size=60, max_size=200), st.randoms(use_true_random=False))
@more
def test_both_ways_to_merge_follow_the_definition(text, learned_from, rng):
    tokens = ["a", "b"]
    pairs = learn_merges([["ab".index(letter) for letter in learned_from]], [1], tokens, 20, 1)
    rng.shuffle(pairs)  # any order must do, not only one in which parts come before the whole
    merged = {
        (tokens.index(left), tokens.index(right)): (rank, tokens.index(left + right))
        for rank, (left, right) in enumerate(pairs)
    }
    ids = ["ab".index(letter) for letter in text]
    expected = list(ids)
    while True:
        found = [(merged[pair][0], i) for i, pair in enumerate(pairwise(expected)) if pair in merged]
        if not found:
            break
        i = min(found)[1]
        expected[i : i + 2] = [merged[expected[i], expected[i + 1]][1]]
    assert merge(ids, merged) == expected
    assert _merge_long(ids, merged) == expected


# Damaged files --------------------------------------------------------------------------------------------------------


def test_damaged_files_are_named(tmp_path, shared_data):
    folder = shared_data / "models" / "gpt2_bpe"
    vocab, merges = (folder / "encoder.json").read_bytes(), (folder / "vocab.bpe").read_bytes()
    cases = [
        (vocab[:1000], merges, "not JSON"),
        (b"[]", merges, "not a JSON object"),
        (vocab, merges + b"three in line\n", "not a merge"),
        (vocab, b"\xff\xfe", "not UTF-8"),
        (b'{"a": 0}', merges, "lacks"),
        (b'{"a": 99999999999}', merges, "vocab.json: token"),
        (b'{"a": -1}', merges, "vocab.json: token\\['a'\\] is -1"),
    ]
    for vocab_bytes, merges_bytes, words in cases:
        (tmp_path / "vocab.json").write_bytes(vocab_bytes)
        (tmp_path / "merges.txt").write_bytes(merges_bytes)
        with pytest.raises(TokenizerError, match=words):
            load(tmp_path)
    with pytest.raises(TokenizerError, match="no tokenizer in"):
        load(tmp_path.parent)
    with pytest.raises(TokenizerError, match="no such file"):
        load(tmp_path / "absent")
    (tmp_path / "vocab.json").write_bytes(vocab)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(TokenizerError, match="cannot read .*merges.txt"):
        load(tmp_path / "vocab.json")


# Training -------------------------------------------------------------------------------------------------------------


def naive_merges(words, tokens, vocab_size, min_frequency):
    """The definition: count every pair of neighbours anew before each merge."""
    learned = []
    split = {word: list(word) for word in words}
    while len(tokens) < vocab_size:
        counts = Counter()
        for word, count in words.items():
            for pair in pairwise(split[word]):
                counts[pair] += count
        open_pairs = counts.keys() - set(learned)
        best = min(open_pairs, key=lambda pair: (-counts[pair], *map(tokens.index, pair)), default=None)
        if best is None or counts[best] < min_frequency:
            break
        learned.append(best)
        if "".join(best) not in tokens:
            tokens.append("".join(best))
        for parts in split.values():
            i = 0
            while i < len(parts) - 1:
                if (parts[i], parts[i + 1]) == best:
                    parts[i : i + 2] = ["".join(best)]
                i += 1
    return learned


@given(st.text("ab c", max_size=60), st.integers(0, 30), st.integers(1, 3))
@more
def test_training_follows_the_definition(text, room, min_frequency):
    words = Counter(regex.findall(GPT2_PATTERN, text))
    tokens, expected_tokens = list(" abc"), list(" abc")
    spelled = [[tokens.index(letter) for letter in word] for word in words]
    learned = learn_merges(spelled, list(words.values()), tokens, 4 + room, min_frequency)
    assert learned == naive_merges(words, expected_tokens, 4 + room, min_frequency)
    assert tokens == expected_tokens and len(set(tokens)) == len(tokens)


def test_training_gives_the_peers_merges(shakespeare):
    tokenizers = pytest.importorskip("tokenizers", reason="the tokenizers library is the peer")
    peer = tokenizers.ByteLevelBPETokenizer()
    peer.train_from_iterator([shakespeare], vocab_size=2000, min_frequency=2, show_progress=False)
    steps = []
    ours = BPETokenizer.train(shakespeare, 2001, progress=lambda done, total: steps.append((done, total)))
    assert ours.merges == [tuple(pair) for pair in json.loads(peer._tokenizer.to_str())["model"]["merges"]]
    assert ours.vocab_size == 2001 and ours.eos_id == 2000 and steps[-1] == (1744, 1744)
    assert ours.encode(shakespeare) == peer.encode(shakespeare).ids
    assert ours.decode(ours.encode(shakespeare)) == shakespeare


def test_training_from_pieces_and_with_special_tokens():
    whole = BPETokenizer.train("low lower lowest\n" * 9 + "<|endoftext|>", 300)
    pieces = BPETokenizer.train(iter(["low lower lowest\n"] * 9), 300)
    assert whole.merges == pieces.merges, "a special token in the text is no text"
    assert whole.encode("low<|endoftext|>") == [*pieces.encode("low"), whole.eos_id]
    with pytest.raises(TokenizerError, match="too small"):
        BPETokenizer.train("abc", 256)
    assert BPETokenizer.train("", 300).vocab_size == 257


@given(text=texts)
@more
def test_what_we_train_round_trips(text):
    tokenizer = trained()
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(tokenizer.encode(text, allow_special=False)) == text


def trained(cache=[]):  # noqa: B006  one tokenizer for every example
    if not cache:
        cache.append(BPETokenizer.train(SAMPLE, 400, ["<|endoftext|>", "<|pad|>"]))
    return cache[0]


def test_what_we_save_the_peers_read(tmp_path):
    tokenizers = pytest.importorskip("tokenizers", reason="the tokenizers library is the peer")
    transformers = pytest.importorskip("transformers", reason="transformers is the peer")
    ours = trained()
    ours.chat_template = "{{ messages }}"
    ours.save(tmp_path)
    ours.chat_template = None
    text = SAMPLE[:300] + "<|endoftext|> naïve 日本語 👩‍👩‍👧 \n\n x"
    ids = ours.encode(text)
    assert tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(text).ids == ids
    fast = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert fast.encode(text) == ids and fast.decode(ids) == text
    assert (fast.eos_token_id, fast.pad_token_id, len(fast)) == (ours.eos_id, ours.pad_id, ours.vocab_size)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path).encode(text) == ids
    again = load(tmp_path)
    assert again.encode(text) == ids and again.pad_id == ours.pad_id and again.chat_template == "{{ messages }}"
    assert load(tmp_path / "merges.txt").encode(text) == ids
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "merges.txt", "tokenizer.json", "tokenizer_config.json", "vocab.json",
    ]  # fmt: skip


def test_cache_forgets_when_full():
    rng = random.Random(0)
    cache = Cache(lambda word: [len(word)], size=10, longest=20)
    for _ in range(1000):
        word = "x" * rng.randrange(40)
        assert cache[word] == [len(word)]
        assert len(cache) <= 10 and all(len(kept) <= 20 for kept in cache)
