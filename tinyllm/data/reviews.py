"""Short reviews written for tinyllm: what somebody thought of something, and whether it was praise. No download.

Each is one of the subjects with one of the verdicts, now and then with an ending: the words of a verdict tell the label,
those of the subject do not.
"""

import numpy as np

from .order import key, shuffled

SUBJECTS = (
    "the film", "the second season", "this novel", "the last chapter", "the concert", "the soup", "the new café",
    "our waiter", "the hotel room", "the breakfast", "this phone", "the battery", "the camera", "the keyboard",
    "this game", "the online course", "the museum", "the guided tour", "the train ride", "the jacket",
    "the pair of boots", "the bakery on the corner", "the support team", "the delivery", "the recipe", "the play",
    "the album", "the lamp I ordered", "the garden", "the market",
)  # fmt: skip

VERDICTS = {
    "negative": (
        "was a waste of money", "was a disappointment from the start", "fell apart within a week",
        "was dull and far too long", "made me angry", "was worse than I had feared", "never did what was promised",
        "was cold, dirty and loud", "left a bitter taste", "was not worth the trip", "let us down badly",
        "was the weakest part of the day", "bored me to tears", "was careless and sloppy", "was not good at all",
        "was a mess", "felt cheap and looked it", "ruined our evening", "was overpriced and poor",
        "is one I would never choose again", "was nothing but trouble", "had no charm whatsoever", "was a sad affair",
        "failed on the first day", "could hardly have been worse",
    ),
    "neutral": (
        "was about what one expects", "was neither good nor bad", "was all right, nothing more", "did its job",
        "was as described", "is like most others of its kind", "was average", "had its ups and downs",
        "was fair for the price", "was ordinary", "was fine, though I have seen it before",
        "is hard to judge after one day", "took the usual time", "was half good and half bad",
        "is one that I neither praise nor blame", "was so-so", "arrived on Tuesday as announced",
        "was what the photograph showed", "is sold in three sizes", "was middling",
        "was there when we needed it, no more", "left me with no opinion", "was neither warm nor cold",
        "is much like last year's", "was acceptable",
    ),
    "positive": (
        "was a delight", "was better than I had hoped", "made my day", "was wonderful from beginning to end",
        "is worth every penny", "was the best part of the week", "surprised me in the nicest way",
        "was warm, clean and quiet", "still works like new after a year", "was made with great care",
        "made all of us laugh", "is a small masterpiece", "was not bad at all, quite the opposite",
        "could hardly have been better", "was a pleasure", "won me over at once", "is one I will gladly choose again",
        "was excellent and cheap", "was full of charm", "was kind and patient with us", "kept every promise",
        "was beautiful to look at", "is the finest I know", "was a joy for the children", "moved me deeply",
    ),
}  # fmt: skip

ENDINGS = (
    "", "", "", ", and my brother says the same", ", if you ask me", ", at least for me", ", I must say",
    ", as we found on Sunday", ", and I have tried many", ", to be honest",
)  # fmt: skip


def reviews(share: float = 0.6) -> tuple[list[str], list[str]]:
    """(texts, their labels) in a fixed order that mixes all of it; share of the 2,250 pairs of a subject and a verdict."""
    pairs = [(subject, verdict, label) for label, group in VERDICTS.items() for verdict in group for subject in SUBJECTS]
    order = shuffled(np.arange(len(pairs)), len(pairs), key(2022))[: round(share * len(pairs))]
    texts, labels = [], []
    for i, place in enumerate(order.tolist()):
        subject, verdict, label = pairs[place]
        texts.append(f"{subject[0].upper()}{subject[1:]} {verdict}{ENDINGS[i % len(ENDINGS)]}.")
        labels.append(label)
    return texts, labels
