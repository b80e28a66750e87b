"""Train a small GPT on a text and let it write: Shakespeare, or any file or folder of your own.

python examples/generate_text.py                        Python's own library, no download
python examples/generate_text.py --data tinyshakespeare fetched once, 1 MB
python examples/generate_text.py --data my_novel.txt --prompt "It was"
"""

import argparse

import tinyllm

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", default="stdlib:docs", help="a text file, a folder, or a name from `tinyllm data list`")
parser.add_argument("--steps", type=int, default=2000)
parser.add_argument("--prompt", default="\n")
parser.add_argument("--seed", type=int, default=0, help="random seed for the weights, the data order and dropout")
parser.add_argument("--out", help="keep the run in this directory, to go on later")
options = parser.parse_args()

# nano: 4 layers, 4 heads, 128 channels, 64 characters of context; two minutes or so on two cores
model, tokenizer = tinyllm.train(
    "gpt", preset="nano", data=options.data, steps=options.steps, seed=options.seed, out=options.out
)

for temperature in (0.5, 0.8, 1.0):
    print(f"--- temperature {temperature}")
    for piece in tinyllm.stream(model, tokenizer, options.prompt, 400, temperature=temperature, top_k=40, seed=1):
        print(piece, end="", flush=True)
    print()
