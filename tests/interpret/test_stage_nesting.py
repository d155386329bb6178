"""Chunks within chunks, against counting by hand and by brute force."""

import random
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from genotok.interpret.chunk_rows import ChunkRows
from genotok.interpret.chunks import RegionChunks
from genotok.interpret.stage_nesting import StageNesting


def part(contig, start, begins):
    length = len(begins[0])
    probability = [np.zeros(length, np.float32) for _ in begins]
    letters = "".join(random.Random(1).choices("ACGT", k=length))
    return RegionChunks(contig, start, start + length, letters, begins, probability, np.ones(length))


def flags(text):
    return np.array([letter == "1" for letter in text])


def counted(parts):
    rows, nesting = ChunkRows(), StageNesting()
    for one in parts:
        nesting.add(rows.add(one))
    nesting.add(rows.close())
    nesting.close()
    return {stage: dict(held) for stage, held in nesting.held.items()}


def test_by_hand():
    """In two parts that adjoin, and a contig that begins within chunks."""
    parts = [
        part("c", 0, [flags("10100101"), flags("10000100")]),
        part("c", 8, [flags("01100"), flags("00100")]),
        part("d", 5, [flags("0010"), flags("0000")]),
    ]
    # c: [1 0 1 0 0], [1 0 1 0 1], [1 0 0]; d: [. . 1 .]
    assert counted(parts) == {1: {2: 2, 3: 1, 1: 1}}


def test_one_stage_holds_nothing():
    assert counted([part("c", 0, [flags("1010")])]) == {}


def by_brute_force(parts):
    """Contigs put together; a stage's chunks are counted in each chunk of the next."""
    found = {}
    for contig in dict.fromkeys(one.contig for one in parts):
        outer, inner = (
            np.concatenate([one.begins[stage] for one in parts if one.contig == contig]) for stage in (0, 1)
        )
        outer[0] = inner[0] = True
        edges = [*np.flatnonzero(inner), len(inner)]
        for start, end in pairwise(edges):
            held = int(outer[start:end].sum())
            found[held] = found.get(held, 0) + 1
    return found


@given(st.data())
def test_any_two_stages(data):
    parts = []
    for contig in "ab":
        start = 0
        for _ in range(data.draw(st.integers(1, 3))):
            outer = np.array(data.draw(st.lists(st.booleans(), min_size=1, max_size=12)))
            inner = (
                outer & np.array(data.draw(st.lists(st.booleans(), min_size=12, max_size=12)))[: len(outer)]
            )
            parts.append(part(contig, start, [outer, inner]))
            start += len(outer)
    assert counted(parts)[1] == by_brute_force(parts)
