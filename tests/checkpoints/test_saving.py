"""Directories are swapped as a whole: a kill at any moment leaves the old export or the new one, and the user's files."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from parity import peers

import tinyllm
from tinyllm.checkpoints import lora
from tinyllm.checkpoints.files import CheckpointError
from tinyllm.generation.chat import chat_format, extend
from tinyllm.tokenizers import BPETokenizer, CharacterTokenizer

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork makes the process that is killed")
OPERATIONS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "shutil.rmtree", "os.listdir")


def model(epsilon):
    sizes = {"vocab_size": 8, "n_positions": 8, "n_layer": 1, "n_head": 2, "n_embd": 8}
    made = tinyllm.GPT(tinyllm.GPTConfig(**sizes, layer_norm_epsilon=epsilon), seed=None)
    made.flat.data[...] = epsilon
    return made


def adapters(epsilon):
    made = model(epsilon)
    lora.add(made, lora.LoRAConfig(r=1 if epsilon == OLD else 2), seed=None)
    made.flat.data[...] = epsilon
    return made


OLD, NEW = 0.25, 0.5
TOKENIZERS = {OLD: CharacterTokenizer(list("abcdefgh")), NEW: CharacterTokenizer(list("hgfedcba"))}


def read(path):
    """The values of epsilon that the parts of a directory say."""
    found, tokenizer = tinyllm.load(path)
    return {found.config.layer_norm_epsilon, float(found.tokens.w.data[0, 0]), OLD if tokenizer.encode("a") == [0] else NEW}


def read_adapters(path):
    found = model(OLD)
    lora.load(path, found)
    return {OLD if found.lora.r == 1 else NEW, float(found.flat.data[0])}


FORMATS = {
    "Hugging Face": (lambda path, e: tinyllm.huggingface.save(path, model(e), TOKENIZERS[e]), read),
    "our own": (lambda path, e: tinyllm.save(path, model(e), TOKENIZERS[e]), read),
    "adapters": (lambda path, e: lora.save(path, adapters(e)), read_adapters),
}


def killed(path, moment, save):
    """Saves in another process, which is killed before its operation number `moment`. Returns whether it was."""
    child = os.fork()
    if child == 0:
        seen = [0]

        def hook(event, arguments):
            if event in OPERATIONS:
                seen[0] += 1
                if seen[0] == moment:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        save(path, NEW)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("in_place", [False, True], ids=["swapped", "in place"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_kill_leaves_the_old_or_the_new(name, in_place, tmp_path, monkeypatch):
    save, parts = FORMATS[name]
    path, seen, moment = tmp_path / "model", [], 0
    path.mkdir()
    if in_place:
        monkeypatch.chdir(path)
    while True:
        moment += 1
        save(path, OLD)  # also clears up what the kill before has left
        (path / "notes.txt").write_text("mine", encoding="utf-8")
        was_killed = killed(path, moment, save)
        try:
            (left,) = parts(path)  # one value: no mixture
            seen.append(left)
        except (CheckpointError, FileNotFoundError):
            assert in_place, "swapped directories are always whole"
            seen.append(None)
        if not was_killed:
            break
    assert moment > 10 and seen[0] == OLD and seen[-1] == NEW
    order = [value for value, before in zip(seen, [None, *seen]) if value != before]
    assert order in ([OLD, NEW], [OLD, None, NEW])
    save(path, NEW)
    assert (path / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert not [file for file in [*tmp_path.iterdir(), *path.iterdir()] if file.name.startswith(".")]


@pytest.mark.parametrize("name", FORMATS)
def test_the_users_files_stay_and_nothing_else_does(name, tmp_path):
    save, parts = FORMATS[name]
    path = tmp_path / "model"
    save(path, OLD)
    (path / "README.md").write_text("read me", encoding="utf-8")
    (path / "logs" / "deep").mkdir(parents=True)
    (path / "logs" / "deep" / "a.txt").write_text("a", encoding="utf-8")
    names = {file.name for file in path.iterdir()}
    save(path, NEW)
    assert parts(path) == {NEW}
    assert {file.name for file in path.iterdir()} == names
    assert (path / "logs" / "deep" / "a.txt").read_text(encoding="utf-8") == "a"


@pytest.mark.parametrize("name", FORMATS)
def test_a_link_to_a_directory_stays_one(name, tmp_path):
    save, parts = FORMATS[name]
    (tmp_path / "disk").mkdir()
    try:
        (tmp_path / "model").symlink_to(tmp_path / "disk", target_is_directory=True)
    except OSError:
        pytest.skip("this user may not make links")
    for epsilon in (OLD, NEW):
        save(tmp_path / "model", epsilon)
        assert (tmp_path / "model").is_symlink() and parts(tmp_path / "disk") == {epsilon}


def test_a_directory_that_cannot_be_renamed_is_filled_in_place(tmp_path, monkeypatch):
    def refused(self, target):
        raise PermissionError("a program has it open")

    save, parts = FORMATS["Hugging Face"]
    save(tmp_path / "model", OLD)
    (tmp_path / "model" / "notes.txt").write_text("mine", encoding="utf-8")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", refused)
        save(tmp_path / "model", NEW)
    assert parts(tmp_path / "model") == {NEW}
    assert (tmp_path / "model" / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("name", ["Hugging Face", "our own"])
def test_into_the_directory_that_the_model_came_from(name, tmp_path):
    save, _ = FORMATS[name]
    save(tmp_path / "model", OLD)
    found, tokenizer = tinyllm.load(tmp_path / "model")
    before = found.flat.data.copy()
    (tinyllm.save if name == "our own" else tinyllm.huggingface.save)(tmp_path / "model", found, tokenizer)
    np.testing.assert_array_equal(found.flat.data, before)
    np.testing.assert_array_equal(tinyllm.load(tmp_path / "model")[0].flat.data, before)


def test_an_export_replaces_all_of_an_older_one(tmp_path):
    """Its shards and their index, its generation_config.json, and with a tokenizer all of the older one's files."""
    _, transformers = peers()
    config = transformers.GPT2Config(vocab_size=8, n_positions=8, n_embd=8, n_layer=1, n_head=2, eos_token_id=3)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path, max_shard_size="2KB")
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 1
    (tmp_path / "chat_template.jinja").write_text("old", encoding="utf-8")
    (tmp_path / "special_tokens_map.json").write_text("{}", encoding="utf-8")
    tinyllm.huggingface.save(tmp_path, model(NEW))
    assert not list(tmp_path.glob("model*.*-of-*")) and not (tmp_path / "model.safetensors.index.json").exists()
    assert not (tmp_path / "generation_config.json").exists()
    assert tinyllm.load(tmp_path)[0].config.eos_token_id is None
    assert (tmp_path / "special_tokens_map.json").exists()  # a tokenizer stays where none is given
    tinyllm.huggingface.save(tmp_path, model(NEW), TOKENIZERS[NEW])
    assert not (tmp_path / "special_tokens_map.json").exists() and not (tmp_path / "chat_template.jinja").exists()


@pytest.mark.parametrize("template", ["ours", "another"])
def test_an_exported_chat_model_stops_in_transformers(template, tmp_path):
    torch, transformers = peers()
    pytest.importorskip("jinja2", reason="a chat template is Jinja")
    tokenizer = BPETokenizer.train("hello there, general. " * 20, 270)
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    made = tinyllm.GPT(tinyllm.GPTConfig(vocab_size=300, n_positions=16, n_layer=1, n_head=2, n_embd=8, eos_token_id=5))
    if template == "ours":
        made = extend(made, tokenizer)
    else:
        turns = "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
        tokenizer.chat_template = "{% for message in messages %}" + turns + "{% endfor %}"
    tinyllm.huggingface.save(tmp_path, made, tokenizer)
    ends = transformers.GenerationConfig.from_pretrained(tmp_path).eos_token_id
    end = tokenizer.token_to_id("<|end|>" if template == "ours" else "<|im_end|>")
    assert ends[0] == 5 and end in ends and set(ends) == {5, *chat_format(tokenizer).ends}
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():  # a model that says the end of the turn, whatever it reads
        theirs.lm_head.weight = torch.nn.Parameter(torch.zeros(300, 8))
        theirs.transformer.ln_f.weight.zero_()
        theirs.transformer.ln_f.bias[:] = 1
        theirs.lm_head.weight[end] = 1
        made_of = theirs.generate(torch.tensor([[7, 8]]), max_new_tokens=6, do_sample=False, pad_token_id=0)
    assert made_of[0].tolist() == [7, 8, end]
    assert tinyllm.load(tmp_path)[0].config.eos_token_id == ends
