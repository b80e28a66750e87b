"""Pretrain a small BERT on text: it guesses hidden words, and whether one passage follows another.

python examples/bert_pretraining.py --out runs/bert          what Python's library says of itself, no download
python examples/bert_pretraining.py --data wikitext2 --gap "The city lies on the [MASK] of the river."
"""

import argparse

import tinyllm

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", default="stdlib:docs", help="a text file, a folder, or a name from `tinyllm data list`")
parser.add_argument("--steps", type=int, default=700)
parser.add_argument("--gap", action="append", help="a text with [MASK] in it; may be given several times")
parser.add_argument("--seed", type=int, default=0, help="random seed for the weights, the data order and dropout")
parser.add_argument("--out", help="keep the run in this directory, to fine-tune it later")
options = parser.parse_args()

model, tokenizer = tinyllm.train(
    "bert", preset="quick", data=options.data, steps=options.steps, seed=options.seed, out=options.out
)

gaps = options.gap or ["Return the number of [MASK] in the list.", "If the file does not [MASK], an error is raised."]
for gap, (words, *_) in zip(gaps, tinyllm.fill_mask(model, tokenizer, gaps)):
    print(gap, *(f"  {word.probability:5.1%}  {word.token}" for word in words), sep="\n")
