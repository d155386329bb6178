"""The one data layout inside the model: sequences of different length laid end to end."""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.functional import pad

from genotok.kernels.transfers import to_device

FILLERS = 16  # sequences that fill a layout up; several, since attention is quadratic in the length of each


@dataclass(frozen=True)
class Ragged:
    """Where each of B sequences begins and ends in a packed tensor of T rows.

    Attributes:
        cu_seqlens: (B + 1,) int32, cumulative lengths: sequence b is the rows cu_seqlens[b] to
            cu_seqlens[b + 1] (0-based, half-open). Every sequence has at least one row.
        total: T, the number of rows, on the host.
        max_seqlen: the longest length, on the host; of a layout that is filled up a length that none exceeds.
        real: () int64, how many rows of a layout that is filled up are real; those behind them stand in sequences of
            their own, and nothing reads them. None where all rows are real.
    """

    cu_seqlens: Tensor
    total: int
    max_seqlen: int
    real: Tensor | None = None

    @classmethod
    def from_lengths(cls, lengths: Tensor, device: torch.device | str | None = None) -> "Ragged":
        """Make the layout of sequences whose lengths are given.

        Args:
            lengths: (B,). Where they lie on the host there is no synchronisation, else there is one.
            device: of the layout; None for that of the lengths.
        """
        if lengths.device.type == "cpu":
            on_host = lengths.tolist()
            ends = torch.tensor([0, *accumulate(on_host)], dtype=torch.int32)
            layout = cls(to_device(ends, device or "cpu"), sum(on_host), max(on_host))
            layout.__dict__["host_lengths"] = on_host  # where `cached_property` looks
            return layout
        ends = pad(lengths.cumsum(0), (1, 0)).int()
        total, longest = torch.stack([ends[-1], lengths.max().int()]).tolist()
        return cls(ends if device is None else to_device(ends, device), total, longest)

    @classmethod
    def filled_up(cls, lengths: Tensor, capacity: int, longest: int, real: Tensor) -> "Ragged":
        """Make a layout of `capacity` + `FILLERS` rows without a synchronisation.

        Behind the sequences that are given come `FILLERS` others of about the same length, one row or more.

        Args:
            lengths: (B,) int64, on the device; their sum is at most `capacity`.
            capacity: rows that there is room for.
            longest: no given length exceeds it.
            real: () int64, on the device; how many of the rows of the given sequences are real.
        """
        total = capacity + FILLERS
        spare = total - lengths.sum()
        fillers = (spare + torch.arange(FILLERS, device=lengths.device)) // FILLERS
        ends = pad(torch.cat([lengths, fillers]).cumsum(0), (1, 0)).int()
        return cls(ends, total, max(longest, -(-total // FILLERS)), real)

    @classmethod
    def uniform(cls, batch: int, length: int, device: torch.device | str = "cpu") -> "Ragged":
        """Make the layout of `batch` sequences of one length, without a synchronisation."""
        cu_seqlens = torch.arange(batch + 1, dtype=torch.int32, device=device) * length
        return cls(cu_seqlens, batch * length, length)

    @property
    def batch(self) -> int:
        """B, the number of sequences."""
        return len(self.cu_seqlens) - 1

    @property
    def is_uniform(self) -> bool:
        """Whether all sequences have one length, so that packed and padded tensors are the same memory."""
        return self.total == self.batch * self.max_seqlen

    @cached_property
    def is_real(self) -> Tensor:
        """(T,) bool, the rows that are real."""
        rows = torch.arange(self.total, device=self.cu_seqlens.device)
        return torch.ones_like(rows, dtype=torch.bool) if self.real is None else rows < self.real

    @cached_property
    def lengths(self) -> Tensor:
        """(B,) int64."""
        return self.cu_seqlens.diff().long()

    @cached_property
    def host_lengths(self) -> list[int]:
        """The B lengths on the host; costs one host synchronisation where they differ."""
        return [self.max_seqlen] * self.batch if self.is_uniform else self.lengths.tolist()

    @cached_property
    def first_rows(self) -> Tensor:
        """(B,) int64, the row of each sequence's first element."""
        return self.cu_seqlens[:-1].long()

    @cached_property
    def last_rows(self) -> Tensor:
        """(B,) int64, the row of each sequence's last element."""
        return self.cu_seqlens[1:].long() - 1

    @cached_property
    def sequence_ids(self) -> Tensor:
        """(T,) int64, which sequence each row belongs to."""
        ids = torch.arange(self.batch, device=self.cu_seqlens.device)
        return ids.repeat_interleave(self.lengths, output_size=self.total)

    @cached_property
    def positions(self) -> Tensor:
        """(T,) int64, the 0-based position of each row in its own sequence."""
        rows = torch.arange(self.total, device=self.cu_seqlens.device)
        return rows - self.first_rows[self.sequence_ids]

    @cached_property
    def mirrored_rows(self) -> Tensor:
        """(T,) int64, for each row that which stands as far from its sequence's end as it from the beginning."""
        rows = torch.arange(self.total, device=self.cu_seqlens.device)
        return (self.first_rows + self.last_rows)[self.sequence_ids] - rows

    def pieces(self, rows: int) -> Tensor:
        """(T // rows + B, 3) int32: the sequences cut into pieces of `rows` rows, the last of each maybe shorter.

        A line holds a piece's first row, the row behind its last, and its sequence. Piece k of sequence b stands
        in line cu_seqlens[b] // rows + b + k; lines between that hold no piece have no rows.
        """
        if rows not in self._pieces:
            first_line = self.first_rows // rows + torch.arange(self.batch, device=self.cu_seqlens.device)
            lines = torch.arange(self.total // rows + self.batch, device=self.cu_seqlens.device)
            sequence = torch.searchsorted(first_line, lines, right=True) - 1
            end = self.last_rows[sequence] + 1
            first = torch.minimum(self.first_rows[sequence] + (lines - first_line[sequence]) * rows, end)
            cut = torch.stack([first, torch.minimum(first + rows, end), sequence], 1)
            self._pieces[rows] = cut.int()
        return self._pieces[rows]

    def pieces_by_place(self, rows: int, from_end: bool) -> tuple[Tensor, Tensor]:
        """The lines of `pieces(rows)`, those of the first pieces of the sequences first, and their places.

        Args:
            rows: of a piece.
            from_end: whether a place is how many pieces stand behind, not how many stand in front.

        Returns:
            lines (T // rows + B,) int32, and their places, -1 where a line holds no piece.
        """
        if (rows, from_end) not in self._places:
            first, end, sequence = self.pieces(rows).long().unbind(1)
            place = (first - self.first_rows[sequence]) // rows
            if from_end:
                place = (self.lengths[sequence] - 1) // rows - place
            place = torch.where(first < end, place, -1)
            order = place.argsort(stable=True)
            self._places[rows, from_end] = order.int(), place[order].int()
        return self._places[rows, from_end]

    @cached_property
    def _pieces(self) -> dict[int, Tensor]:
        return {}

    def last_places(self, count: int) -> tuple[Tensor, Tensor]:
        """Where the last rows of each sequence lie, oldest first.

        Returns:
            (B, count) int64 both: rows of the packed tensor, and places in the sequence. In a shorter sequence the
            first are in front of it, where places are negative.
        """
        if count not in self._last_places:
            places = self.lengths[:, None] + torch.arange(-count, 0, device=self.cu_seqlens.device)
            self._last_places[count] = self.first_rows[:, None] + places, places
        return self._last_places[count]

    def first_places(self, count: int) -> tuple[Tensor, Tensor]:
        """Where the first rows of each sequence lie; of a shorter one its last row as often as there are too few.

        Returns:
            (B, count) int64 both: rows of the packed tensor, and places in the sequence.
        """
        if count not in self._first_places:
            places = torch.arange(count, device=self.cu_seqlens.device).minimum(self.lengths[:, None] - 1)
            self._first_places[count] = self.first_rows[:, None] + places, places
        return self._first_places[count]

    @cached_property
    def _first_places(self) -> dict[int, tuple[Tensor, Tensor]]:
        return {}

    @cached_property
    def _last_places(self) -> dict[int, tuple[Tensor, Tensor]]:
        return {}

    @cached_property
    def _places(self) -> dict[tuple[int, bool], tuple[Tensor, Tensor]]:
        return {}

    def of_sequences(self, chosen: list[int]) -> tuple[Tensor, "Ragged"]:
        """The rows (T',) int64 of some sequences in the packed tensor, and the layout of these sequences alone."""
        lengths = [self.host_lengths[b] for b in chosen]
        device = self.cu_seqlens.device
        ends = to_device(torch.tensor([0, *accumulate(lengths)], dtype=torch.int32), device)
        part = Ragged(ends, sum(lengths), max(lengths))
        first = self.first_rows[to_device(torch.tensor(chosen), device)]
        return first[part.sequence_ids] + part.positions, part

    def to_padded(self, values: Tensor, fill: float = 0.0) -> Tensor:
        """(T, ...) to (B, max_seqlen, ...), with `fill` behind the end of the shorter sequences."""
        shape = (self.batch, self.max_seqlen, *values.shape[1:])
        if self.is_uniform:
            return values.view(shape)
        padded = values.new_full((self.batch * self.max_seqlen, *values.shape[1:]), fill)
        return padded.index_copy(0, self._padded_rows, values).view(shape)

    def to_packed(self, padded: Tensor) -> Tensor:
        """(B, L, ...) with L >= max_seqlen to (T, ...), leaving out what lies behind each sequence."""
        if self.is_uniform and padded.shape[1] == self.max_seqlen:
            return padded.reshape(self.total, *padded.shape[2:])
        rows = self.sequence_ids * padded.shape[1] + self.positions
        return padded.reshape(-1, *padded.shape[2:]).index_select(0, rows)

    @cached_property
    def _padded_rows(self) -> Tensor:
        return self.sequence_ids * self.max_seqlen + self.positions
