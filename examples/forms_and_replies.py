"""Forms to sentences, letters to replies: a small LLaMA learns to write one text for another.

python examples/forms_and_replies.py                        forms of our own: "kind[pub], name[Bella Vista]" -> a sentence
python examples/forms_and_replies.py --data replies         letters to a shop, and what it answers
python examples/forms_and_replies.py --data e2e-nlg         50 thousand real forms about restaurants, fetched once
python examples/forms_and_replies.py --data mine.csv        any table of two columns; --source and --target name them
"""

import argparse

import tinyllm
from tinyllm.pipelines.text2text import answers, use_of

ASKED = {
    "forms": ["kind[tea room], name[Corner House], area[Kirkwood], children[yes]", "kind[pub], name[Bella Vista]"],
    "replies": ["Hello, the clock arrived broken. What can I do?", "When do you open on Friday?"],
}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", default="forms", help="forms, replies, a table, or a name from `tinyllm data list`")
parser.add_argument("--source", help="the column to read")
parser.add_argument("--target", help="the column to write")
parser.add_argument("--steps", type=int, default=1000)
parser.add_argument("--ask", action="append", help="a text to answer; may be given several times")
parser.add_argument("--seed", type=int, default=0, help="random seed for the weights, the data order and dropout")
parser.add_argument("--out", default="runs/forms", help="directory of the run: tinyllm summarize uses it")
options = parser.parse_args()

model, tokenizer = tinyllm.train(
    "llama", task="completion", data=[options.data], steps=options.steps, lr=2e-3, seed=options.seed,
    out=options.out, tokenizer="bpe:1024",
    source=[options.source or ""], target=[options.target or ""], max_source=80, max_target=40,
)  # fmt: skip

asked = options.ask or ASKED.get(options.data, ASKED["forms"])
for text, answer in zip(asked, answers(model, tokenizer, asked, use_of(model, "summar"))):
    print(f"{text}\n  -> {answer}")
