"""Questions whose answers stand in a text, in SQuAD's form.

python examples/bert_questions.py                          invented towns, no download, a fresh small model
python examples/bert_questions.py --data train-v1.1.json --val-data dev-v1.1.json --init path/to/bert --lr 5e-5 --epochs 2
"""

import argparse

import tinyllm

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", default="towns", help="a file in SQuAD's JSON")
parser.add_argument("--val-data", help="to measure on; a part of the data if not given")
parser.add_argument("--init", help="directory of a trained BERT; a fresh small one if not given")
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--epochs", type=float, default=30)
parser.add_argument("--seed", type=int, default=0, help="random seed for the weights, the data order and dropout")
parser.add_argument("--out", help="keep the run in this directory: tinyllm answer uses it")
options = parser.parse_args()

given = {name: value for name, value in vars(options).items() if value is not None}
model, tokenizer = tinyllm.train("bert", "qa", **given)

text = "Brunnford is a town in the west of the country. 8,100 people live in Brunnford. Its mayor is Mara Holm."
for question in ["Who is the mayor of Brunnford?", "How many inhabitants does Brunnford have?"]:
    (found,) = tinyllm.answer(model, tokenizer, [(question, text)])
    print(f"{question}  {found.text}  (score {found.score:.1f})")
