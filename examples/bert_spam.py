"""Spam or not: labels of unequal number, so the F1 of spam decides which model is the best, and rare labels may count more.

python examples/bert_spam.py                     messages of our own, no download
python examples/bert_spam.py --data sms-spam     5,574 real ones (Almeida & Gomez Hidalgo)
"""

import argparse

import tinyllm

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", default="messages", help="TSV, CSV, JSON lines, or a name")
parser.add_argument("--balance", action="store_true", help="spam counts as much as all the rest")
parser.add_argument("--epochs", type=float, default=15)
parser.add_argument("--seed", type=int, default=0, help="random seed for the weights, the data order and dropout")
parser.add_argument("--out", help="keep the run in this directory: tinyllm classify uses it")
options = parser.parse_args()

model, tokenizer = tinyllm.train(
    "bert", "classification", preset="tiny", data=options.data, labels=["ham", "spam"], measure="f1",
    balance=options.balance, epochs=options.epochs, seed=options.seed, out=options.out,
)  # fmt: skip

for text in ["You have won a free phone! Claim it now", "Are you free tonight? I have won at chess!"]:
    said = model([tokenizer.encode(text, add_special_tokens=True)])[0].argmax()
    print(f"{model.config.id2label[str(said)]:>6}  {text}")
