"""Summaries: train a T5 from nothing on texts and their summaries, then let it summarize.

python examples/summarize.py                          Python functions in a sentence, out of Python's own library
python examples/summarize.py --data papers.jsonl      JSON lines with "source" and "target", or --source, --target
python examples/summarize.py --init runs/t5           go on from a model that was pretrained: tinyllm train t5
"""

import argparse
from pathlib import Path

import tinyllm
from tinyllm.pipelines.text2text import answers, use_of

FUNCTION = """
def read_lines(path):
    with open(path, encoding="utf-8") as file:
        return file.readlines()
"""

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", default="functions", help="a table of texts and summaries")
parser.add_argument("--source", help="the column of the texts")
parser.add_argument("--target", help="the column of the summaries")
parser.add_argument("--init", help="the directory of a trained T5")
parser.add_argument("--steps", type=int, default=1500)
parser.add_argument("--d-model", type=int, default=128, help="of a fresh model")
parser.add_argument("--eval-texts", type=int, default=100, help="so many held-out texts are summarized to measure ROUGE")
parser.add_argument("--file", type=Path, help="a text to summarize")
parser.add_argument("--seed", type=int, default=0, help="random seed for the weights, the data order and dropout")
parser.add_argument("--out", default="runs/summaries")
options = parser.parse_args()

sides = {name: [value] for name in ("source", "target") if (value := getattr(options, name))}
start = {"init": options.init} if options.init else {"preset": "quick", "d_model": options.d_model}
model, tokenizer = tinyllm.train(
    "t5",
    "summarization",
    data=[options.data],
    **sides,
    **start,
    steps=options.steps,
    eval_texts=options.eval_texts,
    seed=options.seed,
    out=options.out,
)

text = options.file.read_text(encoding="utf-8") if options.file else FUNCTION
(summary,) = answers(model, tokenizer, [text], use_of(model, "summar"))
print(text.strip(), "->", summary)
print(f"Go on: tinyllm summarize {options.out} --file text.txt")
