"""All that one pass gathers, against the same things worked out from the whole."""

import math
from collections import Counter

import numpy as np
import pytest

from genotok.genomes.regions import Region
from genotok.interpret.annotation_masks import Annotation
from genotok.interpret.chunks import find_chunks, read_chunks
from genotok.interpret.token_survey import survey_tokens


@pytest.fixture
def small_bins(monkeypatch):
    monkeypatch.setattr("genotok.interpret.token_survey.BIN", 50)


def test_a_survey_is_that_of_the_whole(model, reference, small_bins):
    regions = [Region("one", 13, 240), Region("two", 0, 90), Region("two", 100, 212)]
    parts = read_chunks(model, reference, regions, window=60)
    found = survey_tokens(parts, reference, Annotation(reference.contigs))
    wholes = [find_chunks(model, reference, *region, window=60) for region in regions]

    rows = {(row.stage, row.kind): row for row in found.enrichment.table()}
    soft = [np.array([letter.islower() for letter in reference.fetch(*r, keep_case=True)]) for r in regions]
    for stage in range(2):
        boundaries = [whole.begins[stage] for whole in wholes]
        expected = sum(int((b & s).sum()) for b, s in zip(boundaries, soft, strict=True))
        assert rows[stage, "soft_masked"].boundaries == expected
        assert rows[stage, "soft_masked"].bases == sum(int(s.sum()) for s in soft)
        spans = [tuple(span) for whole in wholes for span in whole.chunks(stage).tolist()]
        assert found.vocabulary.lengths(stage) == dict(
            sorted(Counter(end - start for start, end in spans).items())
        )

    bits = Counter()
    for whole in wholes:
        for place, value in enumerate(whole.surprisal.tolist(), whole.start):
            bits[whole.contig, place // 50] += 0 if math.isnan(value) else value
    assert found.compression.bits == pytest.approx(dict(bits))
    assert sum(found.compression.bases.values()) == 227 + 90 + 112
    chunks = Counter()
    for whole in wholes:
        for place in np.flatnonzero(whole.begins[1]).tolist():
            chunks[whole.contig, (whole.start + place) // 50, 1] += 1
    assert {key: n for key, n in found.compression.chunks.items() if key[2] == 1 and n} == dict(chunks)
