"""One model for several tasks, which a prefix tells apart: dates into two languages, and Python functions in a sentence.

python examples/several_tasks.py                                  no download
python examples/several_tasks.py --data a.tsv --prefix "translate: " --data b.jsonl --prefix "summarize: "
"""

import argparse

import tinyllm
from tinyllm.pipelines.text2text import Use, answers

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", action="append", help="a table of pairs; give one for each task, and a prefix for each")
parser.add_argument("--prefix", action="append", help="what stands before each source of that task")
parser.add_argument("--cap", type=int, default=4000, help="no task counts for more than so many pairs in an epoch")
parser.add_argument("--steps", type=int, default=1500)
parser.add_argument("--d-model", type=int, default=128)
parser.add_argument("--eval-texts", type=int, default=50, help="so many held-out texts of each task are written to measure")
parser.add_argument("--seed", type=int, default=0, help="random seed for the weights, the data order and dropout")
parser.add_argument("--out", default="runs/several")
options = parser.parse_args()

given = {"data": options.data, "prefix": options.prefix or []} if options.data else {}
model, tokenizer = tinyllm.train(
    "t5",
    "text2text",
    **given,
    cap=options.cap,
    preset="quick",
    d_model=options.d_model,
    steps=options.steps,
    eval_texts=options.eval_texts,
    seed=options.seed,
    out=options.out,
)

text = "Monday, March 3, 2025"
for name, params in model.config.task_specific_params.items():
    (answer,) = answers(model, tokenizer, [text], Use.of(params))
    print(f"{name}: {params['prefix']}{text} -> {answer}")
