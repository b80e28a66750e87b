"""Code completion: train a GPT on Python source, by pieces of words, and let it complete what you began.

python examples/complete_code.py                        learns from the standard library's source
python examples/complete_code.py --data path/to/project --prompt "def test_"
"""

import argparse

import tinyllm

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", default="stdlib", help="a folder or file of source code")
parser.add_argument("--steps", type=int, default=1500)
parser.add_argument("--prompt", action="append", help="the beginning to complete; may be given several times")
parser.add_argument("--seed", type=int, default=0, help="random seed for the weights, the data order and dropout")
parser.add_argument("--out", help="keep the run in this directory, to go on later")
options = parser.parse_args()

model, tokenizer = tinyllm.train(
    "gpt",
    data=options.data,
    tokenizer="bpe:2048",  # code repeats itself: a token is 3 to 4 characters, so 128 tokens see some ten lines
    preset="nano",
    n_embd=192,
    n_head=6,
    n_positions=128,
    batch_size=16,
    steps=options.steps,
    lr=2e-3,
    seed=options.seed,
    out=options.out,
)

prompts = options.prompt or ["    def __init__(self", "import os\nimport ", "for i in range("]
for prompt in prompts:
    completion = "".join(tinyllm.stream(model, tokenizer, prompt, 64, temperature=0.2, seed=0))
    print("-" * 60, prompt + completion, sep="\n")
