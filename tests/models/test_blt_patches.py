"""BLT's patches: the official patcher's own output, and the rules one by one."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genotok.errors import InputError
from genotok.models.chunkers import blt_patch_lengths

CASES = json.loads((Path(__file__).parents[1] / "data" / "blt" / "blt_patches.json").read_text())
MODES = ("entropy", "space", "bpe", "bpe_patcher", "static", "byte")


def patches(tokens, mode, **arguments):
    return blt_patch_lengths(torch.tensor(tokens), mode, **arguments).tolist()


@pytest.mark.parametrize("case", CASES, ids=[f"{c['mode']}-{i}" for i, c in enumerate(CASES)])
@pytest.mark.parametrize("next_token", [False, True])
def test_the_official_patcher(case, next_token):
    arguments = dict(case["args"])
    if case["mode"] == "entropy":
        arguments["entropies"] = torch.tensor(case["entropies"])
    wanted = case[f"patch_lengths_{'with' if next_token else 'without'}_next_token"]
    assert patches(case["tokens"], case["mode"], include_next_token=next_token, **arguments) == wanted


def test_the_cases_cover_all_modes_but_the_one_with_a_model():
    assert len(CASES) == 15
    assert {case["mode"] for case in CASES} == set(MODES) - {"bpe_patcher"}


batches = st.tuples(st.integers(1, 4), st.integers(1, 30)).flatmap(
    lambda shape: st.lists(
        st.lists(
            st.tuples(st.integers(0, 259), st.floats(0, 1.375, width=32)),
            min_size=shape[1],
            max_size=shape[1],
        ),
        min_size=shape[0],
        max_size=shape[0],
    )
)
rules = st.fixed_dictionaries(
    {
        "threshold": st.one_of(st.none(), st.floats(0, 1.4)),
        "threshold_add": st.one_of(st.none(), st.floats(-0.5, 0.5)),
        "monotonicity": st.booleans(),
        "patch_size": st.integers(1, 9),
        "max_patch_length": st.one_of(st.none(), st.integers(1, 6)),
        "include_next_token": st.booleans(),
    }
)


@given(batches, st.sampled_from(MODES), rules)
@settings(max_examples=150, deadline=None)
def test_every_row_is_cut_as_if_alone_and_whole(batch, mode, rule):
    tokens = torch.tensor([[token for token, _ in row] for row in batch])
    entropies = torch.tensor([[entropy for _, entropy in row] for row in batch])
    rule |= {"entropies": entropies, "predicted_ids": tokens}
    lengths = blt_patch_lengths(tokens, mode, **rule)
    assert (lengths > 0).any(0).all()  # no column more than the longest row needs
    for row in range(len(tokens)):
        single = rule | {"entropies": entropies[row : row + 1], "predicted_ids": tokens[row : row + 1]}
        (alone,) = blt_patch_lengths(tokens[row : row + 1], mode, **single).tolist()
        assert lengths[row].tolist() == alone + [0] * (lengths.shape[1] - len(alone))
        assert sum(alone) == tokens.shape[1] + rule["include_next_token"]
        assert min(alone) > 0
        assert max(alone) <= (rule["max_patch_length"] or 31)


def entropy_oracle(entropies, threshold, threshold_add, monotonicity):
    """The starts by the rules as they are written down, token by token."""
    starts = [0, 1]
    for start in range(2, len(entropies)):
        now, before = entropies[start - 1], entropies[start - 2]
        if monotonicity:
            high = start == 2 or now - before > threshold
        elif threshold_add is not None:
            high = start == 2 or (start != 3 and now > threshold and now - before > threshold_add)
        else:
            high = now > threshold
        starts += [start] * high
    starts = [start for start in starts if start < len(entropies)]
    return [end - start for start, end in zip(starts, [*starts[1:], len(entropies)], strict=True)]


@given(
    st.lists(st.integers(0, 11).map(lambda eighths: eighths / 8), min_size=1, max_size=25),
    st.integers(-4, 11).map(lambda eighths: eighths / 8),
    st.one_of(st.none(), st.integers(-3, 3).map(lambda eighths: eighths / 8)),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_the_entropy_rules(entropies, threshold, threshold_add, monotonicity):
    """Eighths, so that differences are exact and ties come up often."""
    rule = {"threshold": threshold, "threshold_add": threshold_add, "monotonicity": monotonicity}
    found = patches([[69] * len(entropies)], "entropy", entropies=torch.tensor([entropies]), **rule)
    assert found == [entropy_oracle(entropies, **rule)]


def test_without_a_threshold_the_highest_entropies_count():
    """21 tokens in patches of 4.1 are 5, of which 2 begin at tokens 0 and 1 anyway."""
    entropies = torch.rand(3, 21, generator=torch.Generator().manual_seed(0))
    lengths = blt_patch_lengths(
        torch.zeros(3, 21),
        "entropy",
        entropies=entropies,
        threshold=None,
        patch_size=4.1,
        include_next_token=True,
    )
    for row, values in zip(lengths.tolist(), entropies.tolist(), strict=True):
        highest = sorted(range(1, 21), key=values.__getitem__)[-3:]
        starts = [0, 1, *sorted(token + 1 for token in highest)]
        ends = [*starts[1:], 22]
        assert row == [end - start for start, end in zip(starts, ends, strict=True)]
    short = {"entropies": torch.ones(1, 3), "threshold": None}
    assert patches([[69] * 3], "entropy", **short) == [[1, 2]]


def test_a_delimiter_as_the_first_token_makes_no_empty_patch():
    assert patches([[3, 69, 71, 3, 75, 3]], "bpe") == [[1, 3, 2]]
    assert patches([[3, 69, 71, 3, 75, 3]], "bpe", include_next_token=True) == [[1, 3, 3]]


def test_a_model_that_predicts_delimiters():
    predicted = torch.tensor([[3, 9, 3, 3, 9, 3], [9, 9, 9, 9, 9, 9]])
    tokens = [[69] * 6, [71] * 6]
    assert patches(tokens, "bpe_patcher", predicted_ids=predicted) == [[1, 2, 1, 2], [1, 5, 0, 0]]
    found = patches(tokens, "bpe_patcher", predicted_ids=predicted, include_next_token=True)
    assert found == [[1, 2, 1, 2, 1], [1, 6, 0, 0, 0]]


@pytest.mark.parametrize(
    ("tokens", "mode", "arguments", "sentence"),
    [
        ([[1, 2]], "entropie", {}, "mode: 'entropie' is unknown; there are entropy, bpe"),
        ([[1, 2]], "entropy", {}, "entropies: the mode 'entropy' needs them"),
        ([[1, 2]], "bpe_patcher", {}, "predicted_ids: the mode 'bpe_patcher' needs them"),
        ([[1, 2]], "entropy", {"entropies": torch.ones(2, 1)}, "entropies: the shape (2, 1) is not (1, 2)"),
        ([1, 2], "byte", {}, "token_ids must be (batch, length), both at least 1, not (2,)"),
        ([[]], "byte", {}, "token_ids must be (batch, length), both at least 1, not (1, 0)"),
        ([[1, 2]], "static", {}, "patch_size: 4.5 must be a whole number"),
        ([[1, 2]], "static", {"patch_size": 0}, "patch_size: 0 must be a whole number, at least 1"),
        ([[1, 2]], "byte", {"max_patch_length": 0}, "max_patch_length: 0 must be at least 1"),
    ],
)
def test_what_does_not_fit_is_said(tokens, mode, arguments, sentence):
    with pytest.raises(InputError) as error:
        patches(tokens, mode, **arguments)
    assert str(error.value).startswith(sentence)
