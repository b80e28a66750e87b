"""A small chatbot: a decoder learns from dialogues, with the loss on the replies alone.

python examples/chatbot.py --out runs/chat          learns what Python's library says of itself, no download
tinyllm chat runs/chat
python examples/chatbot.py --data dialogues.jsonl   JSON lines with messages, turns, or instruction and response
python examples/chatbot.py --data dolly --init runs/trained --lora-r 8
"""

import argparse

import tinyllm
from tinyllm.generation.chat import Chat

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", default="stdlib", help="dialogues; without them, questions on Python's standard library")
parser.add_argument("--kind", default="gpt", choices=["gpt", "llama", "opt"])
parser.add_argument("--init", help="directory of a trained model to go on from; a fresh small one if not given")
parser.add_argument("--lora-r", type=int, default=0, help="rank of the adapters that are trained in its place")
parser.add_argument("--steps", type=int, default=2500)
parser.add_argument("--ask", action="append", help="what to ask it at the end")
parser.add_argument("--seed", type=int, default=0, help="random seed for the weights, the data order and dropout")
parser.add_argument("--out", default="runs/chat", help="directory of the run")
options = parser.parse_args()

model, tokenizer = tinyllm.train(
    options.kind, task="chat", data=options.data, init=options.init, lora_r=options.lora_r, steps=options.steps, lr=2e-3,
    seed=options.seed,
    out=options.out,
)  # fmt: skip

talk = Chat(model, tokenizer, max_new_tokens=40, temperature=0)
for question in options.ask or ["Hello", "What does shutil.copy do?"]:
    print(f"> {question}\n{''.join(talk.reply(question))}")
print(f"Talk to it: tinyllm chat {options.out}")
