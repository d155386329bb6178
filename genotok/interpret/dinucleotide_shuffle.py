"""Sequences with the same pairs of neighbouring letters in another order (Altschul and Erickson 1985,
doi:10.1093/oxfordjournals.molbev.a040370)."""

import numpy as np


def dinucleotide_shuffle(codes: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Shuffle letters so that each of the 16 pairs of neighbours stays as frequent as it is.

    The letters are a walk from letter to letter; another walk along the same steps has the same first and last
    letter. The last step away from each letter is drawn anew until all of them lead to the walk's end, and the other
    steps are shuffled.

    Args:
        codes: (L,) integers from 0 on.
        generator: of the random numbers.

    Returns:
        (L,) in another order, each walk equally probable.
    """
    if len(codes) < 3:
        return codes.copy()
    steps = {letter: codes[1:][codes[:-1] == letter] for letter in np.unique(codes[:-1])}
    last_steps = _last_steps(steps, codes[-1], generator)
    queues = {}
    for letter, found in steps.items():
        rest = found
        if letter in last_steps:
            rest = np.delete(found, np.flatnonzero(found == last_steps[letter])[0])
        rest = generator.permutation(rest)
        queues[letter] = iter(np.append(rest, last_steps[letter]) if letter in last_steps else rest)
    walk = [codes[0]]
    for _ in range(len(codes) - 1):
        walk.append(next(queues[walk[-1]]))
    return np.array(walk, codes.dtype)


def _last_steps(steps: dict[int, np.ndarray], end: int, generator: np.random.Generator) -> dict[int, int]:
    """For each letter but the last one, the letter that follows its last occurrence, all leading to the end."""
    while True:
        chosen = {letter: generator.choice(found) for letter, found in steps.items() if letter != end}
        if all(_leads_to(end, letter, chosen) for letter in chosen):
            return chosen


def _leads_to(end: int, letter: int, chosen: dict[int, int]) -> bool:
    for _ in range(len(chosen) + 1):
        if letter == end:
            return True
        letter = chosen.get(letter, end)
    return letter == end
