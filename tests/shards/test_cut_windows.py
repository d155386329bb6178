"""Windows of a contig that arrives in blocks, against slicing the whole contig."""

import numpy as np
import pytest
from fasta_files import CERTAIN, sliced
from hypothesis import given, settings
from hypothesis import strategies as st

from genotok.shards import windows
from genotok.shards.windows import LetterReader, cut_windows
from genotok.tokenizers import load_tokenizer

LETTERS = "ACGTNRacgtnuU"


@st.composite
def cuts(draw):
    """Letters, blocks that hold them, a window and a stride."""
    letters = draw(st.text(LETTERS, max_size=150))
    places = sorted(draw(st.lists(st.integers(0, len(letters)), max_size=8)))
    blocks = [letters[a:b] for a, b in zip([0, *places], [*places, len(letters)], strict=True) if b > a]
    window = draw(st.integers(1, 40))
    return letters, blocks, window, draw(st.integers(1, window))


def encoded(blocks):
    return [block.encode() for block in blocks]


@pytest.mark.parametrize("letters_a_run", [1, 50, 1 << 20])
@pytest.mark.parametrize("tokenizer", ["nucleotide", "byte"])
@settings(max_examples=80, deadline=None)
@given(cut=cuts())
def test_equals_slicing(tokenizer, letters_a_run, cut):
    letters, blocks, window, stride = cut
    tokenizer = load_tokenizer(tokenizer)
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "LETTERS_A_RUN", letters_a_run)
        for run in cut_windows(map(LetterReader(tokenizer), encoded(blocks)), window, stride):
            assert len(run.offsets) == len(run.starts) + 1
            assert run.offsets[-1] == len(run.ids) <= max(letters_a_run, window)
            parts = (np.split(part, run.offsets[1:-1]) for part in (run.ids, run.ambiguous, run.soft_masked))
            found += zip(
                run.starts.tolist(), *([row.tolist() for row in part] for part in parts), strict=True
            )
    wanted = [
        (
            start,
            tokenizer.encode(text.upper()),
            [letter not in CERTAIN for letter in text],
            [letter.islower() for letter in text],
        )
        for start, text in sliced(letters, window, stride)
    ]
    assert found == wanted


@settings(max_examples=80, deadline=None)
@given(cut=cuts())
def test_every_letter_is_there(cut):
    letters, blocks, window, stride = cut
    counts = np.zeros(len(letters), int)
    reader = LetterReader(load_tokenizer("nucleotide"))
    for run in cut_windows(map(reader, encoded(blocks)), window, stride):
        for start, length in zip(run.starts, np.diff(run.offsets), strict=True):
            counts[start : start + length] += 1
    assert (counts >= 1).all()
    if stride == window:
        assert (counts == 1).all()
