"""Planted motifs are found again, noise makes none, and the steps between agree with slow ways of counting."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_motifs import motif_of, one_hot, planted, smooth_noise, turned, turned_word

from genotok.errors import InputError
from genotok.interpret import motifs as motifs_module
from genotok.interpret import seqlets as seqlets_module
from genotok.interpret.contributions import Contributions
from genotok.interpret.motif_search import search_motifs
from genotok.interpret.motifs import MotifSettings, background_of, cluster_seqlets
from genotok.interpret.seqlets import SeqletSettings, find_seqlets

WORDS = ["TGTGATCTAG", "CCGGAAGTGACC"]


@pytest.fixture(scope="module")
def two():
    """Two motifs at 80 places, and what is found."""
    regions, places = planted([motif_of(word) for word in WORDS])
    known = {word: motif_of(word) for word in WORDS} | {"other": motif_of("GATTACAGATTA")}
    return regions, places, search_motifs(regions, known=known)


def overlaps(seqlet, place):
    return seqlet.region == place.region and seqlet.start < place.end and place.start < seqlet.end


def test_seqlets_are_the_planted_places(two):
    _, places, found = two
    true = sum(any(overlaps(seqlet, place) for place in places) for seqlet in found.seqlets)
    recalled = sum(any(overlaps(seqlet, place) for seqlet in found.seqlets) for place in places)
    assert true / len(found.seqlets) >= 0.95
    assert recalled / len(places) >= 0.9
    assert max(seqlet.q_value for seqlet in found.seqlets) <= 0.05


def test_motifs_are_the_planted_ones(two):
    _, _, found = two
    assert {min(m.consensus, turned_word(m.consensus)) for m in found.motifs} == {
        min(word, turned_word(word)) for word in WORDS
    }
    assert [motif.name for motif in found.motifs] == ["motif_1", "motif_2"]
    for motif in found.motifs:
        best = next(match for match in found.matches if match.motif == motif.name)
        assert best.p_value < 1e-4
        assert best.known in (motif.consensus, turned_word(motif.consensus))
        assert best.strand == ("+" if best.known == motif.consensus else "-")
        assert best.overlap == len(best.known)


def test_sites_of_both_strands_lie_where_they_were_planted(two):
    _, places, found = two
    for motif in found.motifs:
        names = {motif.consensus, turned_word(motif.consensus)}
        which = next(number for number, word in enumerate(WORDS) if word in names)
        same = motif.consensus == WORDS[which]
        planted_here = {(p.region, p.start): p.reverse for p in places if p.motif == which}
        strands = [
            (planted_here.get((found.seqlets[site.seqlet].region, site.start)), site.strand)
            for site in motif.sites
        ]
        right = sum(
            reverse is not None and (strand == "-") == (reverse == same) for reverse, strand in strands
        )
        assert right / len(strands) >= 0.9
        assert {strand for _, strand in strands} == {"+", "-"}


def test_the_counts_of_a_motif_are_the_letters_at_its_sites(two):
    regions, _, found = two
    for motif in found.motifs:
        counts, mean = np.zeros(motif.counts.shape, int), np.zeros(motif.counts.shape)
        for site in motif.sites:
            region = regions[found.seqlets[site.seqlet].region]
            piece = slice(site.start, site.start + len(counts))
            step = -1 if site.strand == "-" else 1
            counts += region.one_hot[piece][::step, ::step]
            mean += region.observed[piece][::step, ::step] / len(motif.sites)
        np.testing.assert_array_equal(motif.counts, counts)
        np.testing.assert_allclose(motif.contributions, mean, atol=1e-12)
        np.testing.assert_allclose(motif.probabilities.sum(1), 1)
        quarter = (motif.probabilities * np.log2(4 * motif.probabilities)).sum(1)
        np.testing.assert_allclose(motif.information, quarter, atol=0.05)  # letters are drawn evenly


def test_the_other_strand_gives_the_same_motifs():
    regions, _ = planted([motif_of("TGTGATCTAG")], stretches=20)
    one, other = (search_motifs(side) for side in (regions, turned(regions)))
    mirrored = {(s.region, 300 - s.end, 300 - s.start) for s in other.seqlets}
    assert mirrored >= {(s.region, s.start, s.end) for s in one.seqlets if s.q_value < 0.01}
    (first,), (second,) = one.motifs, other.motifs
    assert first.consensus in (second.consensus, turned_word(second.consensus))
    assert len(first.sites) == len(second.sites)


def test_bases_that_lower_the_output_make_motifs_of_their_own():
    up, _ = planted([motif_of("TGTGATCTAG")], stretches=20, seed=1)
    down, _ = planted([motif_of("TGTGATCTAG")], stretches=20, seed=2, height=-0.3)
    found = search_motifs(
        [*up, *(Contributions("d" + r.contig, 0, r.one_hot, r.contributions) for r in down)]
    )
    assert sorted(motif.sign for motif in found.motifs) == [-1, 1]
    for motif in found.motifs:
        assert np.sign(motif.contributions.sum()) == motif.sign
        assert {found.seqlets[site.seqlet].region < 20 for site in motif.sites} == {motif.sign == 1}


@pytest.mark.parametrize("seed", range(3))
def test_noise_has_no_motif(seed):
    regions, _ = planted([], seed=seed)
    found = search_motifs(regions)
    assert len(found.seqlets) <= 2
    assert found.motifs == []


@pytest.mark.parametrize("seed", range(2))
def test_noise_that_neighbours_share_has_no_motif_and_with_a_control_no_seqlet(seed):
    regions = smooth_noise(seed)
    found = search_motifs(regions)
    assert len(found.seqlets) > 50
    assert found.motifs == []
    assert len(find_seqlets(regions, control=smooth_noise(seed + 100))) <= 2


def test_with_a_control_of_noise_the_planted_places_are_found(two):
    """And letters within them that lower the output, which shuffling does not tell from chance."""
    regions, places, found = two
    control, _ = planted([], stretches=80, seed=5)
    seqlets = find_seqlets(regions, control=control)
    assert len(seqlets) >= len(found.seqlets)
    true = sum(any(overlaps(seqlet, place) for place in places) for seqlet in seqlets)
    assert true / len(seqlets) >= 0.9


def test_stretches_that_overlap_count_once():
    regions, _ = planted([motif_of("TGTGATCTAG")], stretches=10, length=200)
    halves = [
        Contributions(r.contig, r.start + at, r.one_hot[at : at + 150], r.contributions[at : at + 150])
        for r in regions
        for at in (0, 50)
    ]
    seqlets = find_seqlets(halves)
    places = sorted(
        (halves[s.region].contig, halves[s.region].start + s.start, s.end - s.start) for s in seqlets
    )
    assert 16 <= len(places) <= 20
    for before, after in pairwise(places):
        assert before[0] != after[0] or before[1] + before[2] <= after[1]


def test_unknown_letters_are_in_no_seqlet():
    regions, places = planted([motif_of("TGTGATCTAG")], stretches=10)
    for place in places:
        regions[place.region].one_hot[place.start + 5] = 0
    for seqlet in find_seqlets(regions):
        assert regions[seqlet.region].one_hot[seqlet.start : seqlet.end].any(1).all()


@pytest.mark.parametrize("length", [1, 4, 5, 30])
def test_stretches_too_short_or_flat_have_nothing(length):
    flat = Contributions("c", 0, one_hot(np.zeros(length, int)), np.ones((length, 4)))
    found = search_motifs([flat])
    assert (found.seqlets, found.motifs) == ([], [])
    assert (
        found.statement
        == f"No seqlet stands out from the control in 1 stretch ({length} bases), so there is no motif."
    )
    assert search_motifs([]).motifs == []


def test_the_strongest_are_kept(two):
    regions, _, found = two
    strengths = sorted((seqlet.strength for seqlet in found.seqlets), reverse=True)
    few = find_seqlets(regions, SeqletSettings(most=10))
    assert sorted((seqlet.strength for seqlet in few), reverse=True) == strengths[:10]
    assert cluster_seqlets(regions, few, MotifSettings(min_seqlets=11)) == []


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(2, 4), st.integers(0, 5))
def test_peaks_are_best_windows(seed, length, shortest, more):
    values = np.random.default_rng(seed).normal(size=length)
    values[np.random.default_rng(seed).random(length) < 0.1] = np.nan
    chosen = SeqletSettings(min_length=shortest, max_length=shortest + more)
    starts, lengths, strengths = seqlets_module._peaks(values, chosen)
    slow = {}
    for start in range(length):
        sums = [
            values[start : start + width].sum() / width**0.5
            for width in range(shortest, shortest + more + 1)
            if start + width <= length
        ]
        slow[start] = max((value for value in sums if not np.isnan(value)), default=-np.inf)
    for start, width, strength in zip(starts, lengths, strengths, strict=True):
        assert strength == pytest.approx(slow[start])
        assert strength == pytest.approx(values[start : start + width].sum() / width**0.5)
        assert all(slow[near] <= slow[start] + 1e-12 for near in (start - 1, start + 1) if near in slow)
    best = max(slow, key=slow.__getitem__)
    assert slow[best] <= 0 or best in starts


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.lists(st.integers(1, 9), max_size=40))
def test_false_shares(strength, null):
    found = seqlets_module._false_shares(np.array(strength, float), np.array(null, float), 4.0)
    for place, value in enumerate(strength):
        # at every weaker threshold: false ones expected, over those that are found
        rates = [
            (sum(n >= low for n in null) + 1) / 4 / sum(s >= low for s in strength)
            for low in set(strength)
            if low <= value
        ]
        assert found[place] == pytest.approx(min(1, *rates))


def test_likeness_is_the_best_cosine_of_all_offsets():
    draw = np.random.default_rng(1)
    windows, others = (motifs_module._of_length_one(draw.normal(size=(n, 9, 4))) for n in (5, 3))
    cosine, offset, reverse = motifs_module._likeness(windows, others)
    for one in range(5):
        for other in range(3):
            best = -2
            for turn in (False, True):
                window = windows[one][::-1, ::-1] if turn else windows[one]
                for d in range(-4, 5):
                    value = sum(window[u] @ others[other][u + d] for u in range(9) if 0 <= u + d < 9)
                    if value > best + 1e-6:
                        best, where = value, (d, turn)
            assert cosine[one, other] == pytest.approx(best, abs=1e-5)
            assert (offset[one, other], reverse[one, other]) == where


@pytest.mark.parametrize(
    ("column", "letter"),
    [([0.97, 0.01, 0.01, 0.01], "A"), ([0.5, 0.25, 0.25, 0], "A"), ([0.5, 0.3, 0.1, 0.1], "M"),
     ([0.4, 0.3, 0.2, 0.1], "N"), ([0.05, 0.45, 0.05, 0.45], "Y"), ([0.25] * 4, "N")],
)  # fmt: skip
def test_consensus(column, letter):
    assert motifs_module._symbol(np.array(column)) == letter


def test_background_is_that_of_both_strands():
    letters = one_hot(np.array([0] * 60 + [1] * 30 + [2] * 6))
    assert background_of([Contributions("c", 0, letters, letters)]) == pytest.approx([0.31, 0.19, 0.19, 0.31])


@pytest.mark.parametrize(
    ("letters", "values", "said"),
    [
        (
            np.eye(4),
            np.eye(4)[:3],
            "one_hot has 4 rows and contributions 3; they should have one each per base",
        ),
        (np.eye(4)[0], np.eye(4), r"one_hot has shape \(4,\); it should be \(bases, 4\)"),
        (np.zeros((0, 4)), np.zeros((0, 4)), r"one_hot has shape \(0, 4\); it should be \(bases, 4\)"),
        (np.eye(4), np.eye(5), r"contributions has shape \(5, 5\)"),
        (2 * np.eye(4), np.eye(4), "one_hot has a row that is neither one letter nor none"),
        (np.ones((4, 4)), np.eye(4), "one_hot has a row that is neither one letter nor none"),
        (np.eye(4), np.full((4, 4), np.nan), "a contribution is not a finite number; compute them anew"),
    ],
)
def test_arrays_that_do_not_fit(letters, values, said):
    with pytest.raises(InputError, match=f"contributions of c from base 11: {said}"):
        Contributions("c", 10, letters, values)
