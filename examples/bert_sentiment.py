"""Was it praise? A BERT learns to label sentences.

python examples/bert_sentiment.py                                     reviews of our own, no download, a fresh small model
python examples/bert_sentiment.py --data sst2:train --val-data sst2:dev
python examples/bert_sentiment.py --data mine.csv --init path/to/bert --lr 5e-5 --epochs 3
"""

import argparse

import tinyllm

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", action="append", help="TSV, CSV, JSON lines, or a name; several are joined")
parser.add_argument("--val-data", help="to measure on; a part of the data if not given")
parser.add_argument("--init", help="directory of a trained BERT; a fresh small one if not given")
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--epochs", type=float, default=8)
parser.add_argument("--seed", type=int, default=0, help="random seed for the weights, the data order and dropout")
parser.add_argument("--out", help="keep the run in this directory: tinyllm classify uses it")
options = parser.parse_args()

given = {name: value for name, value in vars(options).items() if value is not None}
model, tokenizer = tinyllm.train("bert", "classification", preset=None if options.init else "tiny", **given)

texts = ["The soup was a delight.", "It fell apart within a week.", "I could not stop laughing, what a film!"]
names = model.config.id2label
for text, logits in zip(texts, (model([tokenizer.encode(text, add_special_tokens=True)])[0] for text in texts)):
    print(f"{names[str(logits.argmax())]:>10}  {text}")
