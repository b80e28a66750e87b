"""Translation: train a T5 from nothing on pairs of sentences, then let it translate.

python examples/translate.py                     dates from English to German, no download
python examples/translate.py --target fr         to French; es and it likewise
python examples/translate.py --data cldr --target pl   places and dates, in any language of Babel (extra babel)
python examples/translate.py --data deu.txt      a table: a sentence, a tab, its translation
python examples/translate.py --data train --val val --source en --target de   train.en and train.de, val.en and val.de
"""

import argparse

import tinyllm
from tinyllm.pipelines.text2text import answers, use_of

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", default="dates", help="a table of pairs, or the common name of two files (also .gz)")
parser.add_argument("--val", help="held-out pairs; without it a tenth of the data is held out")
parser.add_argument("--source", help="column, end of the file's name, or language of the sentences to read")
parser.add_argument("--target", help="and of their translations")
parser.add_argument("--steps", type=int, default=600)
parser.add_argument("--d-model", type=int, default=128)
parser.add_argument("--eval-texts", type=int, default=100, help="so many held-out sentences are translated to measure BLEU")
parser.add_argument("--text", action="append", help="a sentence to translate; may be given several times")
parser.add_argument("--seed", type=int, default=0, help="random seed for the weights, the data order and dropout")
parser.add_argument("--out", default="runs/translation")
options = parser.parse_args()

sides = {name: [value] for name in ("val", "source", "target") if (value := getattr(options, name))}
model, tokenizer = tinyllm.train(
    "t5",
    "translation",
    data=[options.data],
    **sides,
    preset="quick",
    d_model=options.d_model,
    steps=options.steps,
    eval_texts=options.eval_texts,
    seed=options.seed,
    out=options.out,
)

texts = options.text or ["Monday, March 3, 2025", "November 22, 2026"]
for text, translation in zip(texts, answers(model, tokenizer, texts, use_of(model, "transl"))):
    print(text, "->", translation)
print(f'Go on: tinyllm translate {options.out} "..."')
