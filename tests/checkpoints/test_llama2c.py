"""llama2.c's files: the text that it documents, files that are whole or refused."""

import shutil

import numpy as np
import pytest

import tinyllm
from tinyllm import kernels
from tinyllm.checkpoints import llama2c
from tinyllm.checkpoints.files import CheckpointError
from tinyllm.models import Llama

# What llama2.c's own test expects of 200 steps at temperature 0 (karpathy/llama2.c, test_all.py)
STORY = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, "
    "red ball. She wanted to play with it, but it was too high.\nLily's mom said, \"Lily, let's go to the park.\" Lily was "
    "sad and didn't know what to do. She said, \"I want to play with your ball, but I can't find it.\"\nLily was sad and "
    "didn't know what to do. She said, \"I'm sorry, Lily. I didn't know what to do.\"\n"
    "Lily didn't want to help her mom, so she"
)


@pytest.mark.parametrize("kernel_set", ["reference", "cpu"])
def test_the_documented_story(kernel_set, shared_data):
    model, tokenizer = tinyllm.load(shared_data / "models" / "stories260K")
    with kernels.use(kernel_set):
        tokens = tinyllm.generate(model, [[llama2c.BOS]], max_new_tokens=200)
    assert tokenizer.decode(tokens[0, 1:].tolist()).strip() == STORY
    assert model.max_length == 512 and model.n_parameters < 264_128 == tokens_in_file(shared_data)


def tokens_in_file(shared_data):
    return (shared_data / "models" / "stories260K" / "stories260K.bin").stat().st_size // 4 - llama2c.HEADER


def test_text_from_text(shared_data):
    model, tokenizer = tinyllm.load(shared_data / "models" / "stories260K" / "stories260K.bin")
    assert tinyllm.complete(model, tokenizer, ["Once upon a time,"], max_new_tokens=60)[0].startswith(STORY[17:80])


def written(model, path):
    """The model as llama2.c's export would write it."""
    c = model.config
    V = c.vocab_size if c.tie_word_embeddings else -c.vocab_size
    header = [c.hidden_size, c.intermediate_size, c.num_hidden_layers, c.num_attention_heads, c.num_key_value_heads, V]
    arrays = [place.ravel() for place in llama2c._places(model)]
    path.write_bytes(np.array([*header, c.max_position_embeddings], "<i4").tobytes() + np.concatenate(arrays).tobytes())


@pytest.mark.parametrize("tied", [True, False])
def test_both_kinds_of_output(tied, tmp_path):
    model = Llama.tiny(rope_neighbours=True, tie_word_embeddings=tied, rms_norm_eps=1e-5, initializer_range=0.3)
    written(model, tmp_path / "model.bin")
    again, tokenizer = tinyllm.load(tmp_path, dtype="float64")
    assert tokenizer is None and again.dtype == "float64"
    tokens = np.random.default_rng(0).integers(0, 13, (2, 8))
    np.testing.assert_allclose(again(tokens), model(tokens), atol=1e-5)


def test_it_is_saved_like_any_other_model(shared_data, tmp_path):
    model, tokenizer = tinyllm.load(shared_data / "models" / "stories260K")
    tinyllm.save(tmp_path / "story", model, tokenizer)
    again, same = tinyllm.load(tmp_path / "story")
    tokens = same.encode("Lily and the ball", add_special_tokens=True)
    assert tokens == tokenizer.encode("Lily and the ball", add_special_tokens=True)
    np.testing.assert_array_equal(again([tokens]), model([tokens]))


def test_files_that_are_not_whole_are_refused(tmp_path):
    path = tmp_path / "model.bin"
    written(Llama.tiny(rope_neighbours=True), path)
    whole = path.read_bytes()
    for size in (0, 20, 28, 1000, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match="model.bin"):
            tinyllm.load(tmp_path)
    for content, message in {
        np.int32(llama2c.MAGIC).tobytes() + whole[4:]: "later version",
        np.int32(-4).tobytes() + whole[4:]: "no header",
        np.array([16, 20, 2, 4, 3, -13, 8], "<i4").tobytes() + whole[28:]: "its header promises",
        np.array([16, 20, 2, 4, 3, -13, 8], "<i4").tobytes() + whole[28:] + bytes(1024): "multiple of num_key_value_heads 3",
        np.array([16, 20, 9, 4, 2, -13, 8], "<i4").tobytes() + whole[28:]: "its header promises",
    }.items():
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=message):
            tinyllm.load(path)


def test_directories_of_other_kinds_are_left_to_others(tmp_path, shared_data):
    assert llama2c.weight_file(tmp_path) is None
    for name in ("one.bin", "two.bin"):
        shutil.copy(shared_data / "models" / "stories260K" / "stories260K.bin", tmp_path / name)
    assert llama2c.weight_file(tmp_path) is None and llama2c.weight_file(tmp_path / "two.bin") == tmp_path / "two.bin"
    with pytest.raises(CheckpointError, match=r"has no config.json"):
        tinyllm.load(tmp_path)
