"""Models on the disk: saved and loaded as they were, whole or not at all, and every kind of damage told in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tinyllm
from tinyllm.checkpoints import native, tensors
from tinyllm.checkpoints.files import CheckpointError, write_sums
from tinyllm.tokenizers import ByteTokenizer, CharacterTokenizer

TEXT = "to be, or not to be: that is the question.\n"


def small(vocab_size: int = 40, **options) -> tinyllm.GPT:
    return tinyllm.GPT(
        tinyllm.GPTConfig(vocab_size=vocab_size, n_positions=8, n_layer=2, n_head=2, n_embd=8, **options), seed=3
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    tinyllm.save(tmp_path / "model", small(), CharacterTokenizer.train(TEXT))
    return tmp_path / "model"


@pytest.mark.parametrize("options", [{}, {"tie_word_embeddings": False}, {"bias": False}, {"recompute": True}])
def test_a_model_comes_back_as_it_was(tmp_path: Path, options: dict) -> None:
    model = small(**options)
    tinyllm.save(tmp_path / "model", model)
    again, tokenizer = tinyllm.load(tmp_path / "model")
    assert tokenizer is None and again.config == model.config and again.dtype == np.float32
    assert not again.mode.training
    for p, q in zip(model.parameters(), again.parameters()):
        assert p.name == q.name
        np.testing.assert_array_equal(p.data, q.data)


def test_float64(saved: Path) -> None:
    model, _ = tinyllm.load(saved, dtype="float64")
    assert model.dtype == np.float64
    np.testing.assert_array_equal(model.flat.data, small().flat.data)
    with pytest.raises(ValueError, match="float16"):
        tinyllm.load(saved, dtype="float16")


def test_the_tokenizer_comes_along(saved: Path, tmp_path: Path) -> None:
    _, tokenizer = tinyllm.load(saved)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    with pytest.raises(CheckpointError, match="257 tokens and the model 40"):
        tinyllm.save(tmp_path / "other", small(), ByteTokenizer())
    assert not (tmp_path / "other").exists()


def test_safetensors_reads_our_files_and_we_read_its(saved: Path, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy", reason="the library that we compare with is not installed")

    theirs = safetensors.load_file(saved / "model.safetensors")
    for p in small().parameters():
        np.testing.assert_array_equal(theirs[p.name], p.data)
    safetensors.save_file(theirs, tmp_path / "theirs.safetensors")
    into = {name: np.zeros_like(array) for name, array in theirs.items()}
    tensors.read_tensors(tmp_path / "theirs.safetensors", into)
    for name, array in theirs.items():
        np.testing.assert_array_equal(into[name], array)


def test_a_model_is_replaced_and_nothing_else_is(saved: Path, tmp_path: Path) -> None:
    tinyllm.save(saved, small(n_inner=4))
    model, tokenizer = tinyllm.load(saved)
    assert model.config.n_inner == 4 and tokenizer is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter1.txt").write_text("ten years of work", encoding="utf-8")
    with pytest.raises(CheckpointError, match="thesis exists and is no model"):
        tinyllm.save(other, small())
    assert (other / "chapter1.txt").exists()


def test_a_failure_while_saving_leaves_the_old_model(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path, value):
        raise OSError("no space left on device")

    monkeypatch.setattr(native, "write_json", full)
    with pytest.raises(OSError, match="no space"):
        tinyllm.save(saved, small(n_inner=4))
    assert tinyllm.load(saved)[0].config.n_inner is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_any_flipped_bit_is_found(saved: Path, name: str) -> None:
    whole = (saved / name).read_bytes()
    for place in np.random.default_rng(0).integers(len(whole), size=10).tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        (saved / name).write_bytes(damaged)
        with pytest.raises(CheckpointError, match=name):
            tinyllm.load(saved)


@pytest.mark.parametrize("sums", [True, False], ids=["with checksums", "without"])
@pytest.mark.parametrize("keep", [0, 4, 100, -1], ids=["empty", "4 bytes", "in the header", "the last byte is gone"])
def test_a_truncated_file(saved: Path, keep: int, sums: bool) -> None:
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    if not sums:
        write_sums(saved)
    with pytest.raises(CheckpointError, match="model.safetensors"):
        tinyllm.load(saved)


def test_a_missing_file(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="lacks model.safetensors"):
        tinyllm.load(saved)
    write_sums(saved)
    with pytest.raises(CheckpointError, match="SHA256SUMS does not list model.safetensors"):
        tinyllm.load(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: None, "lacks SHA256SUMS"),
        (lambda lines: [], "does not list config.json"),
        (lambda lines: lines[:-1], "does not list tokenizer_config.json"),
        (lambda lines: [line for line in lines if "model" not in line], "does not list model.safetensors"),
        (lambda lines: [*lines, lines[0]], "line 5: not a checksum"),
        (lambda lines: [line.replace("  ", "  ../model/") for line in lines], "line 1: not a checksum"),
        (lambda lines: [*lines, "0" * 64 + "  ..\\..\\secret"], "line 5: not a checksum"),
        (lambda lines: [*lines, "0" * 64 + "  /etc/passwd"], "line 5: not a checksum"),
        (lambda lines: [*lines, "0" * 64 + "  .."], "line 5: not a checksum"),
        (lambda lines: [*lines, "0" * 64 + "  other.json"], "lacks other.json"),
    ],
)
def test_the_checksums_list_every_file_by_plain_names(saved: Path, change, message: str) -> None:
    path = saved / "SHA256SUMS"
    lines = change(path.read_text(encoding="utf-8").splitlines())
    path.unlink()
    if lines is not None:
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        tinyllm.load(saved)


def test_a_change_that_is_meant(saved: Path) -> None:
    (saved / "notes.txt").write_text("mine", encoding="utf-8")
    tinyllm.load(saved)
    config = json.loads((saved / "config.json").read_text(encoding="utf-8")) | {"embd_pdrop": 0.25}
    (saved / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"config.json is damaged.*call tinyllm.checkpoints.files.write_sums"):
        tinyllm.load(saved)
    write_sums(saved)
    assert tinyllm.load(saved)[0].config.embd_pdrop == 0.25


def edited(saved: Path, **fields) -> None:
    path = saved / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, **fields}), encoding="utf-8")
    write_sums(saved)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tinyllm": {"model": "GPT", "format": 2}}, "format 2"),
        ({"tinyllm": {"model": "Mamba", "format": 1}}, "'Mamba'"),
        ({"n_flux": 3}, "n_flux"),
        ({"n_embd": 16}, "shape"),
        ({"n_layer": 3}, "lacks blocks.2"),
        ({"n_layer": 1}, "has blocks.1"),
    ],
)
def test_what_does_not_fit_together(saved: Path, fields: dict, message: str) -> None:
    edited(saved, **fields)
    with pytest.raises(CheckpointError, match=message):
        tinyllm.load(saved)


def test_what_is_no_model(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        tinyllm.load(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="is a file"):
        tinyllm.load(saved / "config.json")
    with pytest.raises(CheckpointError, match="has no config.json"):
        tinyllm.load(tmp_path)
    for text in ("", "{", "[]", "\udc80"):
        (saved / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(CheckpointError, match="config.json"):
            tinyllm.load(saved)
    with pytest.raises(ValueError, match="device 'tpu' is not known; pass 'cpu' or 'cuda'"):
        tinyllm.load(saved, device="tpu")
