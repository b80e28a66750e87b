"""OPT as it is used: pretrained on text once, then fine-tuned for each task, here for labels and for summaries.

python examples/opt_finetuning.py                  Python's library, reviews of our own, one-line summaries of functions
python examples/opt_finetuning.py --labels sst2    real film reviews
python examples/opt_finetuning.py --init path/to/opt-125m --lr 5e-5      a model that others have pretrained
"""

import argparse
from pathlib import Path

import tinyllm
from tinyllm.pipelines.text2text import answers, use_of
from tinyllm.pipelines.text_classification import labelled

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--text", default="stdlib:code", help="what to pretrain on")
parser.add_argument("--labels", default="reviews", help="labelled texts: TSV, CSV, JSON lines, or a name")
parser.add_argument("--summaries", default="functions", help="texts and their summaries: a table of two columns")
parser.add_argument("--init", help="directory of a pretrained model, in place of a fresh one")
parser.add_argument("--steps", type=int, default=1500, help="of the pretraining")
parser.add_argument("--tuning", type=int, default=1000, help="steps of each fine-tuning")
parser.add_argument("--lr", type=float, default=1e-3, help="learning rate of the fine-tuning")
parser.add_argument("--seed", type=int, default=0, help="random seed for the weights, the data order and dropout")
parser.add_argument("--out", type=Path, default=Path("runs/opt"), help="directory of the three runs")
options = parser.parse_args()

if not options.init:
    tinyllm.train(
        "opt", preset="quick", data=options.text, steps=options.steps, out=options.out / "pretrained", seed=options.seed
    )
begin = {
    "init": options.init or options.out / "pretrained",
    "steps": options.tuning,
    "lr": options.lr,
    "eval_every": 250,
    "seed": options.seed,
}

classifier, tokenizer = tinyllm.train(
    "opt", task="classification", data=options.labels, out=options.out / "labels", patience=0, **begin
)
texts = ["The soup was cold and the waiter rude.", "A small masterpiece, I was moved.", "It did its job."]
for text, (label, probability) in zip(texts, labelled(classifier, tokenizer, texts)):
    print(f"{label:>10} {probability:.2f}  {text}")

writer, tokenizer = tinyllm.train("opt", task="completion", data=[options.summaries], out=options.out / "summaries", **begin)
functions = ["def close(self):\n    self.file.close()", "def is_empty(self):\n    return len(self.items) == 0"]
for function, summary in zip(functions, answers(writer, tokenizer, functions, use_of(writer, "summar"))):
    print(f"{function}\n  -> {summary}")
