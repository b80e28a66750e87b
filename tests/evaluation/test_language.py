"""Language models, BERT and T5 on plain text: losses equal those of transformers on the same tokens."""

import dataclasses
import json
import math

import numpy as np
import pytest
from parity import peers

import tinyllm
from tinyllm import huggingface, kernels
from tinyllm.data import Source
from tinyllm.data.masking import MaskedPairs, Sentences
from tinyllm.data.spans import Noise, sentinel_ids, spans_pass
from tinyllm.evaluation.language import windows_of
from tinyllm.models import T5, BERTConfig, T5Config
from tinyllm.tokenizers import BPETokenizer, CharacterTokenizer, UnigramTokenizer, WordPieceTokenizer

TEXT = "The old bridge is closed. Ünder it a river runs, and nobody knows where it ends. " * 6 + "\n"


@pytest.fixture(autouse=True)
def in_numpy():
    with kernels.use("reference"):
        yield


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture
def gpt():
    tokenizer = BPETokenizer.train(TEXT, 300)
    config = tinyllm.GPTConfig(
        vocab_size=tokenizer.vocab_size, n_positions=24, n_layer=2, n_head=2, n_embd=16, initializer_range=0.4
    )
    return tinyllm.GPT(config, seed=1), tokenizer


def windows_of_transformers(theirs, ids, length, stride):
    """The loop of transformers' page on perplexity, with each token's loss counted once."""
    import torch

    total, count, done = 0.0, 0, 0
    for begin in range(0, len(ids), stride):
        end = min(begin + length, len(ids))
        row = torch.tensor(ids[begin:end])[None]
        labels = row.clone()
        labels[:, : len(labels[0]) - (end - done)] = -100
        counted = int((labels[:, 1:] != -100).sum())
        total += theirs(row, labels=labels).loss.item() * counted
        count, done = count + counted, end
        if end == len(ids):
            return total, count
    raise AssertionError


@pytest.mark.parametrize("stride", [1, 7, 23])
def test_a_sliding_window_is_that_of_transformers(stride, gpt, book, tmp_path):
    torch, transformers = peers()
    huggingface.save(tmp_path / "hf", *gpt)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "hf").eval()
    ids = gpt[1].encode(TEXT)
    with torch.no_grad():
        total, count = windows_of_transformers(theirs, ids, 24, stride)
    assert count == len(ids) - 1
    found = tinyllm.evaluate(tmp_path / "hf", book, stride=stride)
    assert found.task == "text" and found.n == count and found.unit == "token"
    assert found.measures["loss"].value == pytest.approx(total / count, rel=1e-5)
    assert found.measures["perplexity"].value == pytest.approx(math.exp(total / count), rel=1e-5)
    bits = total / math.log(2) / len(TEXT.encode("utf-8"))
    assert found.measures["bits_per_byte"].value == pytest.approx(bits, rel=1e-5)
    for one in found.measures.values():
        assert one.low < one.value < one.high


def test_without_overlap_it_is_the_loss_of_training(gpt, book):
    model, tokenizer = gpt
    ids = np.array(tokenizer.encode(TEXT))
    total = count = 0
    for tokens, targets in tinyllm.data.full_pass(ids, 3, 24):
        real = int((targets != -100).sum())
        total, count = total + model.loss(tokens, targets) * real, count + real
    found = tinyllm.evaluate(gpt, book)
    assert found.n == count == len(ids) - 1 and found.notes == {"stride": 24, "length": 24}
    assert found.measures["loss"].value == pytest.approx(total / count, rel=1e-6)
    assert "".join(one.reference for one in found.predictions) == tokenizer.decode(ids[1:].tolist())


@pytest.mark.parametrize("length,stride", [(5, 5), (5, 4), (5, 1), (1, 1), (40, 40), (40, 3)])
def test_every_token_but_the_first_counts_once(length, stride):
    for count in (2, 5, 6, 11, 39, 40, 41):
        windows = list(windows_of(count, length, stride))
        if length > 1:
            assert [i for _, first, end in windows for i in range(first, end)] == list(range(1, count))
        for begin, first, end in windows:
            assert end - begin - 1 <= length and first - begin >= min(begin, length - stride) or begin == 0


def test_the_baseline_is_the_entropy_of_the_tokens(gpt, book):
    ids = np.array(gpt[1].encode(TEXT))[1:]
    p = np.bincount(ids) / len(ids)
    entropy = -sum(x * math.log(x) for x in p if x)
    assert tinyllm.evaluate(gpt, book).baseline["loss"].value == pytest.approx(entropy)


def test_documents_of_a_table_and_of_a_list(gpt, tmp_path):
    rows = [{"text": "The old bridge."}, {"text": "A river runs."}]
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tokenizer = gpt[1]
    count = sum(len(tokenizer.encode(row["text"])) for row in rows) + (tokenizer.eos_id is not None) - 1
    assert tinyllm.evaluate(gpt, path).n == tinyllm.evaluate(gpt, rows).n == count


def test_what_is_wrong_is_said(gpt, book, tmp_path):
    with pytest.raises(ValueError, match="stride is 30, and a window has 24"):
        tinyllm.evaluate(gpt, book, stride=30)
    with pytest.raises(ValueError, match="length is 99, and this model takes 24"):
        tinyllm.evaluate(gpt, book, length=99)
    with pytest.raises(ValueError, match="task is tagging, and GPT can be evaluated for text"):
        tinyllm.evaluate(gpt, book, task="tagging")
    with pytest.raises(ValueError, match="without a tokenizer"):
        tinyllm.evaluate(gpt[0], book)
    (tmp_path / "one.txt").write_text("T", encoding="utf-8")
    with pytest.raises(ValueError, match="needs 2 at least"):
        tinyllm.evaluate(gpt, tmp_path / "one.txt")


def test_masked_words_are_those_of_transformers(book, tmp_path):
    torch, transformers = peers()
    tokenizer = WordPieceTokenizer.train(TEXT, 90)
    config = BERTConfig(
        vocab_size=tokenizer.vocab_size, num_hidden_layers=1, num_attention_heads=2, hidden_size=16, intermediate_size=32,
        max_position_embeddings=32, initializer_range=0.4, next_sentence=False, pooler=False, pad_token_id=tokenizer.pad_id,
    )  # fmt: skip
    model = tinyllm.BERT(config, seed=1)
    huggingface.save(tmp_path / "hf", model, tokenizer)
    theirs = transformers.BertForMaskedLM.from_pretrained(tmp_path / "hf").eval()
    source = tinyllm.data.open_source(book)
    assert isinstance(source, Source)
    total = right = count = 0
    for tokens, targets, types, mask in MaskedPairs(
        Sentences.of(source, tokenizer, 30), tokenizer, 4, 32, pairs=False
    ).one_pass():
        tensors = [torch.tensor(array) for array in (tokens, mask.astype(np.int64), types, targets)]
        with torch.no_grad():
            out = theirs(tensors[0], attention_mask=tensors[1], token_type_ids=tensors[2], labels=tensors[3])
        hidden = targets != -100
        total += out.loss.item() * hidden.sum()
        right += int((out.logits.numpy().argmax(-1) == targets)[hidden].sum())
        count += int(hidden.sum())
    found = tinyllm.evaluate(tmp_path / "hf", book)
    assert (found.task, found.n, found.unit) == ("masked", count, "hidden token")
    assert found.measures["loss"].value == pytest.approx(total / count, rel=1e-5)
    assert found.measures["accuracy"].value == right / count
    assert sum(len(one.reference) for one in found.predictions) == count


def test_spans_are_those_of_transformers(book, tmp_path):
    torch, transformers = peers()
    tokenizer = UnigramTokenizer.train([TEXT], 150)
    config = T5Config(
        vocab_size=tokenizer.vocab_size, d_model=16, d_kv=8, num_heads=2, d_ff=32, num_layers=1, dropout_rate=0.0,
        eos_token_id=tokenizer.eos_id, pad_token_id=tokenizer.pad_id, decoder_start_token_id=tokenizer.pad_id,
    )  # fmt: skip
    model = T5(config, seed=1)
    huggingface.save(tmp_path / "hf", model, tokenizer)
    theirs = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "hf").eval()
    ids = np.array(tokenizer.encode(TEXT, add_special_tokens=True))
    noise = Noise(sentinel_ids(tokenizer), tokenizer.eos_id, config.decoder_start_token_id)
    total = count = 0
    for source, _, targets in spans_pass(ids, 4, 20, noise):
        with torch.no_grad():
            total += theirs(torch.tensor(source), labels=torch.tensor(targets)).loss.item() * targets.size
        count += targets.size
    found = tinyllm.evaluate(tmp_path / "hf", book, length=20)
    assert (found.task, found.n) == ("spans", count)
    assert found.measures["loss"].value == pytest.approx(total / count, rel=1e-5)


def test_models_with_two_tokenizers_are_compared_by_bits_per_byte(gpt, book):
    model, _ = gpt
    character = CharacterTokenizer.train(TEXT)
    other = tinyllm.GPT(dataclasses.replace(model.config, vocab_size=character.vocab_size), seed=2), character
    ours, theirs = tinyllm.evaluate(gpt, book), tinyllm.evaluate(other, book)
    found = ours.compare(theirs)
    assert [*found] == ["bits_per_byte"] and ours.n != theirs.n
    expected = ours.measures["bits_per_byte"].value - theirs.measures["bits_per_byte"].value
    assert found["bits_per_byte"].value == pytest.approx(expected)
    assert {*ours.compare(ours)} == {"loss", "perplexity", "bits_per_byte"}


def test_masked_words_of_two_tokenizers_are_not_compared(book):
    results = []
    for size in (60, 90):
        tokenizer = WordPieceTokenizer.train(TEXT, size)
        model = tinyllm.BERT.tiny(vocab_size=tokenizer.vocab_size, max_position_embeddings=32)
        results.append(tinyllm.evaluate((model, tokenizer), book))
    with pytest.raises(ValueError, match="length is 33, and must be from 8 to what this model takes, 32 tokens"):
        tinyllm.evaluate((model, tokenizer), book, length=33)
    with pytest.raises(ValueError, match="different hidden tokens"):
        results[0].compare(results[1])
