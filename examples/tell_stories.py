"""Stories: a small LLaMA learns from text, and goes on with what you begin.

python examples/tell_stories.py --data tinystories       stories in simple English, fetched once, 19 MB
python examples/tell_stories.py                          what Python's library says of itself, no download
python examples/tell_stories.py --data my_stories.txt --prompt "Once upon a time"
"""

import argparse

import tinyllm

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", default="stdlib:docs", help="a text file, a folder, or a name from `tinyllm data list`")
parser.add_argument("--steps", type=int, default=1500)
parser.add_argument("--prompt", action="append", help="what to go on with; may be given several times")
parser.add_argument("--seed", type=int, default=0, help="random seed for the weights, the data order and dropout")
parser.add_argument("--out", help="keep the run in this directory, to go on later")
options = parser.parse_args()

# quick: 4 layers, 128 channels, two query heads to each key/value head, pieces of words; two minutes or so on two cores
model, tokenizer = tinyllm.train(
    "llama", preset="quick", data=options.data, steps=options.steps, seed=options.seed, out=options.out
)

prompts = options.prompt or ["Once upon a time", "The ", "When you"]
for prompt, text in zip(prompts, tinyllm.complete(model, tokenizer, prompts, 120, temperature=0.7, top_p=0.9, seed=1)):
    print(f"--- {prompt}{text}")
