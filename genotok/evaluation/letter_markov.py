"""Frozen order-k Markov models of letters of any alphabet: what a model of proteins or of mixtures has to beat.

The formula is that of `genotok.evaluation.markov`, which is for four letters and much longer contexts; the strength
of the shorter context is the number of letters of the alphabet in every order.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from genotok.errors import InputError
from genotok.evaluation.markov import Baseline

ORDERS = (0, 1, 2, 3)


class UniformLetters:
    """Every letter is as likely as any other.

    Args:
        letters: how many there are.
    """

    def __init__(self, letters: int):
        self.letters = letters

    def log2_probability(self, codes: np.ndarray) -> np.ndarray:
        """(L,) float64: -log2 of the number of letters at every letter, NaN at ambiguous ones."""
        return np.where(codes < self.letters, -np.log2(self.letters), np.nan)


class LetterMarkov:
    """Counts of all orders up to one.

    Args:
        letters: how many there are; codes from this number on are ambiguous.
        order: letters of context.
    """

    def __init__(self, letters: int, order: int):
        self.letters, self.order = letters, order
        self.counts = [np.zeros((letters**j, letters), np.int64) for j in range(order + 1)]

    def update(self, codes: np.ndarray) -> None:
        """Count the letters of one sequence, (L,) codes, in each context that is whole."""
        for table, (contexts, places) in zip(self.counts, self._contexts(codes), strict=True):
            np.add.at(table, (contexts, codes[places]), 1)

    def log2_probability(self, codes: np.ndarray) -> np.ndarray:
        """(L,) float64: by the longest whole context of at most `order` letters; NaN at ambiguous letters."""
        probability = np.where(codes < self.letters, 1 / self.letters, np.nan)
        for table, (contexts, places) in zip(self.counts, self._contexts(codes), strict=True):
            seen, total = table[contexts, codes[places]], table.sum(1)[contexts]
            probability[places] = (seen + self.letters * probability[places]) / (total + self.letters)
        return np.log2(probability)

    def _contexts(self, codes: np.ndarray) -> Iterable[tuple[np.ndarray, np.ndarray]]:
        """Order by order the letters with a whole context: the contexts' numbers, and the letters' places."""
        codes = codes.astype(np.int64)
        whole, numbers = codes < self.letters, np.zeros(len(codes), np.int64)
        for back in range(self.order + 1):
            if back:
                before = np.full(len(codes), self.letters)
                before[back:] = codes[:-back]
                whole = whole & (before < self.letters)
                numbers = numbers + before * self.letters ** (back - 1)
            places = np.flatnonzero(whole)
            yield numbers[places], places


def fit_letter_baselines(
    train: Iterable[np.ndarray], letters: int, orders: Sequence[int] = ORDERS
) -> dict[str, Baseline]:
    """Count training sequences, (L,) codes each.

    Returns:
        `uniform`, and `markov_<order>` for each order.

    Raises:
        InputError: they hold no certain letter.
    """
    models = {order: LetterMarkov(letters, order) for order in orders}
    for codes in train:
        for model in models.values():
            model.update(codes)
    if not any(model.counts[0].any() for model in models.values()):
        raise InputError("the training sequences hold no certain letter; check the split and the source")
    return {"uniform": UniformLetters(letters)} | {f"markov_{k}": model for k, model in models.items()}


def letter_codes(is_certain: np.ndarray) -> np.ndarray:
    """(vocab_size,) the number of each id among the certain ones, and how many these are for all others."""
    return np.where(is_certain, np.cumsum(is_certain) - 1, is_certain.sum())
