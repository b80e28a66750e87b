"""A small chatbot: a GPT learns the language from text, then to answer from dialogues, with the loss on the replies alone.

python examples/chatbot.py --out runs/chat          learns what Python's library says of itself, no download
tinyllm chat runs/chat
python examples/chatbot.py --data dialogues.jsonl   JSON lines with messages, turns, or instruction and response
"""

import argparse

import tinyllm
from tinyllm import chat
from tinyllm.data import ExampleBatches, examples_pass, read_dialogues, stdlib_dialogues
from tinyllm.progress import Terminal
from tinyllm.tokenizers import BPETokenizer
from tinyllm.trainer import Data, TrainConfig, Trainer

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", help="dialogues; without it, questions on Python's standard library")
parser.add_argument("--steps", type=int, default=1500)
parser.add_argument("--out", default="runs/chat", help="directory of the model")
options = parser.parse_args()

dialogues = read_dialogues(options.data) if options.data else stdlib_dialogues()
tokenizer = BPETokenizer.train((m["content"] + "\n" for dialogue in dialogues for m in dialogue), 2048)

config = tinyllm.GPTConfig(
    vocab_size=tokenizer.vocab_size, n_positions=128, n_layer=4, n_head=4, n_embd=192,
    resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.1,
)  # fmt: skip
model = chat.extend(tinyllm.GPT(config), tokenizer)  # <|user|>, <|assistant|>, <|end|>, each with a row of its own

examples = chat.examples(tokenizer, dialogues, max_length=model.max_length)
held_out, learned = examples[::20], [example for i, example in enumerate(examples) if i % 20]


def answer(model, question=dialogues[0][0]["content"]):
    return f"{question}\n" + "".join(chat.Chat(model, tokenizer, max_new_tokens=40, temperature=0).reply(question))


settings = TrainConfig(steps=options.steps, batch_size=16, lr=2e-3, eval_every=300)
data = Data(
    batches=ExampleBatches(learned, settings.batch_size),
    held_out=lambda: examples_pass(held_out, settings.batch_size),
    tokenizer=tokenizer,
    sample=answer,
)
trainer = Trainer(model, data, settings, watcher=Terminal())
trainer.train()
tinyllm.save(options.out, model, tokenizer)
print(f"The model is in {options.out}. Talk to it: tinyllm chat {options.out}")
