"""A shuffled order that needs no memory: where each place of each epoch lies follows from the seed by arithmetic alone."""

import numpy as np

ROUNDS = 8
MASK = (1 << 64) - 1


def mix(x: np.ndarray | int) -> np.ndarray:
    """Scramble 64 bits (the finaliser of SplitMix64; Steele, Lea & Flood 2014). Any shape; uint64."""
    z = np.asarray(x & MASK if isinstance(x, int) else x, dtype=np.uint64).reshape(-1) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))).reshape(np.shape(x))


def key(*parts: int) -> int:
    """One 64-bit number for several: a seed and an epoch, say."""
    result = 0
    for part in parts:
        result = int(mix(result ^ (part & MASK)))
    return result


def shuffled(index: np.ndarray, size: int, key: int) -> np.ndarray:
    """Where a random permutation of range(size) sends each index; the key chooses the permutation. int64 in, int64 out.

    A Feistel network (Luby & Rackoff 1988) permutes the 4^b numbers of 2b bits, 4^b >= size: each round adds to the one half
    a scrambled copy of the other, which the other can take back, whatever the scrambling is. An index that lands beyond
    `size` goes through once more, till it lands inside ("cycle walking"), under four times on average.
    """
    bits = max(1, (int(size - 1).bit_length() + 1) // 2)
    half = np.uint64((1 << bits) - 1)
    result = np.array(index, dtype=np.uint64)
    todo = np.ones(result.shape, dtype=bool)
    while todo.any():
        left, right = result[todo] >> np.uint64(bits), result[todo] & half
        for turn in range(ROUNDS):
            left, right = right, left ^ (mix(right ^ mix(key + turn)) & half)
        result[todo] = left << np.uint64(bits) | right
        todo = result >= size
    return result.astype(np.int64)
