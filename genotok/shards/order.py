"""The order in which a run sees its examples, from a seed, the epoch and nothing else."""

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from genotok.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """One example's turn: the epoch, the example's 0-based index, and whether its opposite strand is read."""

    epoch: int
    index: int
    reverse: bool


class ShuffledOrder:
    """Examples without end: each once an epoch, in an order that the seed fixes.

    The order depends on the seed and the epoch alone, so that `state()` is two numbers and a run that goes on
    from it sees what an uninterrupted one would.

    Args:
        examples: something with a length.
        seed: fixes the order and the strands.
        both_strands: whether each example is read from the opposite strand in every second epoch, chosen by
            chance example by example.
    """

    def __init__(self, examples: Sized, seed: int, both_strands: bool):
        self.examples, self.seed, self.both_strands = examples, seed, both_strands
        self.epoch = self.position = 0
        self._open_epoch()

    def _open_epoch(self) -> None:
        count = len(self.examples)
        self._order = np.random.default_rng([self.seed, self.epoch]).permutation(count)
        # The coin of an example is thrown once for each pair of epochs: one of the two sees the other strand.
        coins = np.random.default_rng([self.seed, self.epoch // 2, 1]).random(count) < 0.5
        self._reverse = coins ^ bool(self.epoch % 2)

    def state(self) -> dict[str, int]:
        """Where the next example is taken."""
        return {"epoch": self.epoch, "position": self.position}

    def restore(self, state: dict[str, int]) -> None:
        """Go on where `state` was taken."""
        self.epoch, self.position = state["epoch"], state["position"]
        self._open_epoch()

    def begin(self, examples: Sized) -> None:
        """Go on with other examples, in an epoch of their own unless the one at hand has shown none yet."""
        self.examples = examples
        if self.position:
            self.epoch, self.position = self.epoch + 1, 0
        self._open_epoch()

    def next_places(self, count: int) -> list[Place]:
        """The turns of the next `count` examples; an epoch may end among them."""
        return [self.next_place() for _ in range(count)]

    def next_place(self) -> Place:
        """The next example's turn."""
        if self.position == len(self.examples):
            self.epoch, self.position = self.epoch + 1, 0
            self._open_epoch()
        index = int(self._order[self.position])
        self.position += 1
        return Place(self.epoch, index, bool(self.both_strands and self._reverse[index]))


def share_of(whole: Sequence[T], rank: int, ranks: int) -> Sequence[T]:
    """What one of several ranks takes of a global batch: the shares in the order of the ranks are the whole.

    Shares differ by one at most; with fewer examples than ranks some would be empty, see `check_ranks`.
    """
    return whole[len(whole) * rank // ranks : len(whole) * (rank + 1) // ranks]


def check_ranks(count: int, what: str, ranks: int) -> None:
    """Refuse to share fewer examples than there are ranks, since a rank without any would leave the others waiting.

    Args:
        count: of the examples.
        what: how the sentence begins, up to their number.
        ranks: of the run, or the micro batches of all of them.

    Raises:
        InputError: they are too few.
    """
    if count < ranks:
        raise InputError(
            f"{what} {count}, fewer than the {ranks} ranks or micro batches of the run; take fewer of these"
        )
