"""Greedy decoding of one sequence, tinyllm beside transformers, and what the machine's memory allows.

    python benchmarks/decoding.py gpt2
    python benchmarks/decoding.py tinyllama --new 16 --rounds 3      1.1 billion parameters: 16 GB of memory

For each token all weights of the matrix products are read once, and nothing is as slow as that: the time to read so many
bytes, measured in turns with the rest, is the bound that no program beats. Weights of 16 (bfloat16) or 8 bits are fewer
bytes, and have a bound of their own, at the same bytes a second.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import harness
import numpy as np
from harness import Comparison, Contender, console
from works import WORKS, Work, fresh_model, product_bytes, write_weights

PROMPT = 16  # tokens
DECODERS = {"gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM", "opt": "OPTForCausalLM", "tinyllama": "LlamaForCausalLM"}
TINYLLAMA = {
    "vocab_size": 32000, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
    "num_key_value_heads": 4, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5,
}  # fmt: skip
BOUND = "reading the weights"


def chosen(work: str, tiny: bool) -> Work:
    """The model of the training step; GPT-2 as OpenAI published it, with biases, for transformers knows no other."""
    w = WORKS["llama" if work == "tinyllama" else work]
    if work == "tinyllama":
        w = replace(w, config=TINYLLAMA, about="TinyLlama 1.1B")
    if work == "gpt2":
        config = {**w.config, "vocab_size": 50257, "bias": True, "activation_function": "gelu_new"}
        w = replace(w, config=config, about="GPT-2 124M", peer=DECODERS[work])
    return w.make_tiny() if tiny else replace(w, about=w.about.partition(",")[0])


def prompt(w: Work) -> np.ndarray:
    return np.random.default_rng(0).integers(2, w.config["vocab_size"], (1, PROMPT))


# The contenders --------------------------------------------------------------------------------------------------------


def weights(work: str, tiny: bool, directory: str, new: int, threads: int) -> Iterator[dict[str, Any]]:
    """Writes the weights; gives how many bytes of them are read for a token. Kernels come into their cache on the way."""
    w = chosen(work, tiny)
    model = fresh_model(w)
    write_weights(directory, model, w.peer)
    next(tinyllm_tokens(work, tiny, directory, new, threads))
    yield {"bytes": product_bytes(model), "parameters": model.n_parameters}


def tinyllm_tokens(
    work: str, tiny: bool, directory: str, new: int, threads: int, bits: int | None = None
) -> Iterator[dict[str, Any]]:
    import tinyllm
    from tinyllm.checkpoints.quantization import quantize

    model, _ = tinyllm.load(directory)
    if bits is not None:
        quantize(model, bits)
    tokens = prompt(chosen(work, tiny))
    return turns(lambda: tinyllm.generate(model, tokens, max_new_tokens=new, eos_id=()), new, bytes=product_bytes(model))


def transformers_tokens(work: str, tiny: bool, directory: str, new: int, threads: int) -> Iterator[dict[str, Any]]:
    import torch
    from torch_models import transformers_model

    torch.set_num_threads(threads)
    w = chosen(work, tiny)
    assert w.peer
    model = transformers_model(directory, w.peer, use_cache=True).eval()
    tokens = torch.from_numpy(prompt(w))
    options = {"max_new_tokens": new, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    return turns(lambda: model.generate(tokens, attention_mask=torch.ones_like(tokens), **options), new)


def turns(generate: Callable[[], Any], new: int, **facts: Any) -> Iterator[dict[str, Any]]:
    """The new tokens and other facts, then in each turn the seconds a token, the prompt's included."""
    yield {"result": generate()[0, -new:].tolist(), **facts}
    while True:
        began = time.perf_counter()
        generate()
        yield {"seconds": [(time.perf_counter() - began) / new]}


def reading(bytes: int, threads: int) -> Iterator[dict[str, Any]]:
    """The seconds in which all threads together read so many bytes, each a part of them, by NumPy's vector code."""
    parts = np.array_split(np.ones(bytes // 4, np.float32), threads)
    pool = ThreadPoolExecutor(threads)
    yield {"result": [], "largest": max(map(float, pool.map(np.max, parts)))}
    while True:
        seconds = []
        for _ in range(10):
            began = time.perf_counter()
            list(pool.map(np.max, parts))
            seconds.append(time.perf_counter() - began)
        yield {"seconds": [min(seconds)], "bytes_per_second": bytes / min(seconds)}


# The comparison --------------------------------------------------------------------------------------------------------


def compare(work: str, new: int, tiny: bool, threads: int, rounds: int, max_foreign: float) -> Comparison:
    with tempfile.TemporaryDirectory() as folder:
        options = {"work": work, "tiny": tiny, "directory": f"{folder}/weights", "new": new}
        model = harness.once("decoding:weights", threads, **options).answer
        contenders = [
            Contender("tinyllm", "decoding:tinyllm_tokens", options, tolerance=0),
            Contender("tinyllm bfloat16", "decoding:tinyllm_tokens", {**options, "bits": 16}, tolerance=None),
            Contender("tinyllm 8 bits", "decoding:tinyllm_tokens", {**options, "bits": 8}, tolerance=None),
            Contender("transformers", "decoding:transformers_tokens", options, tolerance=0),
            Contender(BOUND, "decoding:reading", {"bytes": model["bytes"]}, tolerance=None),
        ]
        title = f"{chosen(work, tiny).about}, greedy, {PROMPT} tokens continued by {new}, time a token"
        result = harness.compare(title, contenders, threads, rounds, max_foreign)
    for name, facts in result.facts.items():
        result.facts[name] = {**model, **facts}
    return result


def show(result: Comparison) -> None:
    rates = {c.name: f"{1 / result.seconds(c.name):.1f}" for c in result.present} if result.rounds else {}
    bounded = {}
    if result.rounds and BOUND not in result.failed:
        size = result.facts[BOUND]["bytes"]
        for c in result.present:
            bound = result.seconds(BOUND) * result.facts[c.name]["bytes"] / size
            bounded[c.name] = f"{bound / result.seconds(c.name):.2f}"
    harness.show(result, {"tokens\na second": rates, "of its\nbound": bounded})
    if bounded:
        console.print(f"weights read for a token: {size / 2**20:,.0f} MiB, at {size / result.seconds(BOUND) / 1e9:.1f} GB/s")


def main() -> int:
    parser = harness.parser(__doc__, rounds=7)
    parser.add_argument("work", nargs="?", default="gpt2", choices=DECODERS, help="the model (default: %(default)s)")
    parser.add_argument("--new", type=int, default=128, help="tokens to generate (default: %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="a tiny model: to see that it works, not to measure")
    args = parser.parse_args()
    about = harness.machine(args.threads)
    harness.show_machine(about)
    try:
        result = compare(args.work, args.new, args.tiny, args.threads, args.rounds, args.max_foreign)
    except harness.WorkerError as error:
        sys.exit(str(error))
    show(result)
    if args.json:
        harness.write_json(args.json, about, [result.to_json()])
    return 0 if result.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
