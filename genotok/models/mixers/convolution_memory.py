"""What long convolutions remember of sequences of different length."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from genotok.kernels.ragged import Ragged
from genotok.models.cache import Cache, advanced

STEP_AT_ONCE = 1 << 22  # numbers of the histories that a step multiplies at once


class ConvolutionStore:
    """What long convolutions have read of B sequences of different length, and their taps, from which the next row
    of each is a dot product.

    Row p of a sequence lies in slot p; empty slots hold 0. The capacity grows by doubling.

    Args:
        inputs: for each of F convolutions, (T, D) packed rows to begin with.
        taps: (F, L, D) for a longest sequence of L rows, the newest tap first.
        ragged: the layout of the rows.
        write_taps: gives the (F, L, D) taps for L rows, or refuses.
        limit: the largest capacity that it is doubled to.
    """

    def __init__(
        self,
        inputs: list[Tensor],
        taps: Tensor,
        ragged: Ragged,
        write_taps: Callable[[int], Tensor],
        limit: int,
    ):
        self.inputs = torch.stack([ragged.to_padded(rows.detach().float()) for rows in inputs])
        self.taps, self.write_taps, self.limit = taps.detach(), write_taps, limit
        self.lengths = ragged.lengths.clone()
        self.longest = ragged.max_seqlen  # at least the longest length: known without asking the device
        self.reserved = False

    @property
    def capacity(self) -> int:
        """Rows for which there is room in each sequence."""
        return self.inputs.shape[2]

    def make_room(self, rows: Tensor | None) -> None:
        """See that one more row of the sequences `rows` (R,), None for all of them, can be read."""
        if self.longest < self.capacity or self.reserved:
            return
        self.longest = int(self.lengths.max())
        needed = 1 + (self.longest if rows is None else int(self.lengths[rows].max()))
        if needed > self.capacity:
            self._enlarge(max(needed, min(2 * self.capacity, self.limit)))

    def reserve(self, rows: int) -> bool:
        """See that `rows` more rows of each sequence fit, and let steps see all slots; whether memory was added."""
        self.reserved = True
        needed, old = int(self.lengths.max()) + rows, self.capacity
        if needed > old:
            self._enlarge(needed)
        self.longest = self.capacity
        return needed > old

    def _enlarge(self, capacity: int) -> None:
        old, self.taps = self.capacity, self.write_taps(capacity)
        larger = self.inputs.new_zeros(*self.inputs.shape[:2], capacity, self.inputs.shape[3])
        larger[:, :, :old] = self.inputs
        self.inputs = larger

    def convolve(self, convolution: int, x: Tensor, rows: Tensor | None) -> Tensor:
        """What one convolution gives at the next row of the sequences `rows`; adds its input x (R, D).

        Returns:
            (R, D) float32.
        """
        inputs, taps = self.inputs[convolution], self.taps[convolution]
        everyone = torch.arange(len(self.lengths), device=x.device) if rows is None else rows
        places = self.lengths[everyone]
        inputs[everyone, places] = x.float()
        chosen = slice(None) if rows is None else rows
        at_once, out = max(1, STEP_AT_ONCE // x.numel()), torch.zeros_like(x, dtype=torch.float32)
        for first in range(0, min(self.longest + 1, self.capacity), at_once):
            slots = slice(first, min(first + at_once, self.longest + 1, self.capacity))
            back = places[:, None] - torch.arange(slots.start, slots.stop, device=x.device)
            # Slots behind the row are empty, so that any tap will do.
            out += (inputs[chosen, slots] * taps[back.clamp(min=0)]).sum(1)
        return out

    def advance(self, rows: Tensor | None, stepped: Tensor | None = None) -> None:
        """Count the added row of the sequences `rows` once all convolutions have read it; `stepped` as in a step."""
        everyone = torch.arange(len(self.lengths), device=self.lengths.device) if rows is None else rows
        self.lengths = advanced(self.lengths, everyone, stepped)
        self.longest += 1


@dataclass
class HyenaCache(Cache):
    """Hyena's memory; a selection of sequences shares the store, so that a step copies no history.

    Attributes:
        conv: (B, K - 1, C), the short convolution's last inputs, oldest first.
        store: of the long convolutions of all sequences.
        rows: (B,) int64 the sequences of the store that this cache stands for; None for all.
    """

    conv: Tensor
    store: ConvolutionStore
    rows: Tensor | None = None

    def make_room(self) -> None:
        """See that each sequence can be a row longer; see `ConvolutionStore.make_room`."""
        self.store.make_room(self.rows)

    def convolve(self, convolution: int, x: Tensor) -> Tensor:
        """See `ConvolutionStore.convolve`."""
        return self.store.convolve(convolution, x, self.rows)

    def advance(self, stepped: Tensor | None = None) -> None:
        """See `ConvolutionStore.advance`."""
        self.store.advance(self.rows, stepped)

    def select(self, rows: Tensor) -> "HyenaCache":
        """A view of the store for the sequences `rows`, and a copy of the few rows of the short convolution."""
        return HyenaCache(self.conv[rows], self.store, rows if self.rows is None else self.rows[rows])

    def put(self, rows: Tensor, part: "HyenaCache") -> None:
        """Take over the short convolution's rows; the selection wrote to the same store."""
        self.conv[rows] = part.conv.to(self.conv.dtype)

    def reserve(self, rows: int) -> bool:
        """See `ConvolutionStore.reserve`."""
        return self.store.reserve(rows)

    def tensors(self) -> Iterator[tuple[object, str]]:
        """`conv`, and those of the store that steps write to."""
        return iter([(self, "conv"), (self.store, "inputs"), (self.store, "lengths")])

    @property
    def bytes(self) -> int:
        """The memory taken by the store of all sequences, its taps included, and by `conv`, in bytes."""
        return self.conv.nbytes + self.store.inputs.nbytes + self.store.taps.nbytes
