"""Cutting a contig that arrives in blocks into windows, in memory that does not grow with it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from genotok.tokenizers import LetterTokenizer

LETTERS_A_RUN = 1 << 20  # overlapping windows repeat their letters, and a run of them is held at once


@dataclass
class Windows:
    """A run of windows of one contig, as they lie in an Arrow list column.

    Attributes:
        starts: (n,) int64, 0-based position of each window's first letter in the contig.
        offsets: (n + 1,) int32 into the flat arrays.
        ids: (letters,) uint8 token ids.
        ambiguous: (letters,) bool, letters that are not one certain nucleotide.
        soft_masked: (letters,) bool, letters in lower case.
    """

    starts: np.ndarray
    offsets: np.ndarray
    ids: np.ndarray
    ambiguous: np.ndarray
    soft_masked: np.ndarray


def cut_windows(
    blocks: Iterable[bytes], tokenizer: LetterTokenizer, window: int, stride: int
) -> Iterator[Windows]:
    """Cut a contig into windows of `window` letters that begin every `stride` letters.

    The last window is shorter where the contig ends within it; a window that would hold only letters that an
    earlier one holds to the end is left out. A contig without letters gives none.

    Args:
        blocks: the contig's letters in order, in blocks of any size.
        tokenizer: letters to ids.
        window: letters a window, at least 1.
        stride: letters from one window's start to the next, from 1 to `window`.
    """
    held, start, most = b"", 0, max(1, LETTERS_A_RUN // window)
    for block in blocks:
        held += block
        # One letter more than the window must be known, to tell a full window from the last one.
        while (count := min(most, (len(held) - window - 1) // stride + 1)) > 0:
            yield _windows(held, start, count, tokenizer, window, stride)
            held, start = held[count * stride :], start + count * stride
    if held:
        yield _windows(held, start, 1, tokenizer, window, stride)


def _windows(
    held: bytes, start: int, count: int, tokenizer: LetterTokenizer, window: int, stride: int
) -> Windows:
    letters = np.frombuffer(held, np.uint8)[: (count - 1) * stride + window]
    if count > 1 and stride < window:
        letters = np.lib.stride_tricks.sliding_window_view(letters, window)[::stride].reshape(-1)
    soft_masked = letters >= ord("a")
    ids = tokenizer.encode_letters(letters & 0xDF)  # upper case, so that the mask alone carries the case
    starts = start + np.arange(count, dtype=np.int64) * stride
    offsets = np.minimum(np.arange(count + 1, dtype=np.int64) * window, len(ids)).astype(np.int32)
    return Windows(starts, offsets, ids, ~tokenizer.is_nucleotide[ids], soft_masked)
