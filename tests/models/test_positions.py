"""Segment-aware positions: what a row is told of where it stands."""

import math

import pytest
import torch
from tiny_models import ONE_STAGE, tiny_model

from genotok.errors import InputError
from genotok.kernels.ragged import Ragged
from genotok.models import ModelConfig
from genotok.models.chunkers.routing import Boundaries
from genotok.models.positions import DNA_PERIODS, GlobalPositions, Places, waves

# Two sequences of 7 and 5 tokens: chunks of 3 2 2 and of 1 4.
LENGTHS = torch.tensor([7, 5])
BEGINS = torch.tensor([1, 0, 0, 1, 0, 1, 0, 1, 1, 0, 0, 0], dtype=torch.bool)


def stages():
    ragged = Ragged.from_lengths(LENGTHS)
    boundaries = Boundaries.fixed(BEGINS, ragged)
    return Places.of_tokens(ragged), boundaries, boundaries.chunk_layout()


def test_places_of_a_causal_model():
    """A chunk knows of the one before it, since its own end lies ahead."""
    places, boundaries, layout = stages()
    assert places.token.tolist() == [*range(7), *range(5)]
    chunks = places.of_chunks(boundaries, layout, causal=True)
    assert chunks.token.tolist() == [0, 3, 5, 0, 1]
    assert chunks.length.tolist() == [0, 3, 2, 0, 1]
    place, length = places.in_chunks(chunks, boundaries)
    assert place.tolist() == [0, 1, 2, 0, 1, 0, 1, 0, 0, 1, 2, 3]
    assert length.tolist() == [0, 0, 0, 3, 3, 2, 2, 0, 1, 1, 1, 1]


def test_places_of_a_model_that_looks_both_ways():
    places, boundaries, layout = stages()
    chunks = places.of_chunks(boundaries, layout, causal=False)
    assert chunks.length.tolist() == [3, 2, 2, 1, 4]
    # A second stage: chunks of 2 1 and of 2 of these chunks; tokens stay tokens.
    inner = Boundaries.fixed(torch.tensor([True, False, True, True, False]), layout)
    outer = chunks.of_chunks(inner, inner.chunk_layout(), causal=False)
    assert outer.token.tolist() == [0, 5, 0]
    assert outer.length.tolist() == [5, 2, 5]
    place, _ = chunks.in_chunks(outer, inner)
    assert place.tolist() == [0, 3, 0, 0, 1]


def test_waves_come_back_after_their_period():
    far = 1 << 20
    for period in DNA_PERIODS:
        steps = round(2 * period)  # of both 3 and 10.5 a whole number of tokens
        found = waves(torch.tensor([5, 5 + steps, far, far + steps]), (period,))
        torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=0)
        torch.testing.assert_close(found[2], found[3], atol=1e-5, rtol=0)
        angle = 2 * math.pi * 5 / period
        torch.testing.assert_close(found[0], torch.tensor([math.cos(angle), math.sin(angle)]))


@pytest.mark.parametrize("kind", ["fixed", "learned"])
def test_periods_are_learned_where_asked(kind):
    torch.manual_seed(1)
    positions = GlobalPositions(4, kind)
    tokens = torch.arange(20)
    positions(torch.zeros(20, 4), tokens, torch.zeros_like(tokens)).square().sum().backward()
    if kind == "learned":
        assert (positions.log_periods.grad != 0).all()
    else:
        assert "log_periods" not in dict(positions.named_parameters())


def test_the_same_letters_differ_by_place():
    """In a model of attention without rotary positions, nothing else tells two places apart."""
    attention = {"heads": 2, "rotary_dim": 0, "window": -1}
    layout = {"layout": ["T1", ["T1"], "T1"], "attention": attention}
    ids = torch.zeros(1, 9, dtype=torch.long)
    without = tiny_model("one stage", **layout)(ids).logits[0]
    torch.testing.assert_close(without, without[:1].expand_as(without), atol=1e-5, rtol=0)
    placed = tiny_model("one stage", **layout, positions={"periods": "fixed"})(ids).logits[0]
    assert (placed[1:] - placed[:-1]).abs().amax(-1).min() > 1e-3


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"periods": "slow"}, "positions[0].periods: 'slow' should be 'fixed' or 'learned'"),
        ({}, "positions[0].periods: this key is needed"),
        ({"periods": "fixed", "waves": 3}, "positions[0].waves: unknown key"),
        ([None], "positions: 1 values for the 2 stages of the layout"),
        ("fixed", "positions[0]: 'fixed' should be an object with keys"),
    ],
)
def test_bad_positions(value, sentence):
    with pytest.raises(InputError) as error:
        ModelConfig.from_dict({**ONE_STAGE, "positions": value})
    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        (
            "chunk_states",
            "first",
            "chunk_states[0]: 'first' is unknown; there are select, mean, cross_attention",
        ),
        ("chunk_states", 3, "chunk_states: 3 should be a name or a list of them"),
        ("upsamplers", {"kind": "cross_attention", "window": 0}, "upsamplers[0].window: 0 should be a whole"),
        ("upsamplers", {"kind": "ema", "window": 2}, "upsamplers[0].window: unknown key of 'ema'"),
        ("upsamplers", {"window": 2}, "upsamplers[0]: None is unknown"),
    ],
)
def test_bad_chunk_states_and_upsamplers(key, value, sentence):
    with pytest.raises(InputError) as error:
        ModelConfig.from_dict({**ONE_STAGE, key: value})
    assert str(error.value).startswith(sentence)


def test_defaults_are_not_written():
    values = ModelConfig.from_dict(ONE_STAGE).to_dict()
    assert not {"chunk_states", "upsamplers", "positions", "chunkers"} & values.keys()
    changed = ModelConfig.from_dict({**ONE_STAGE, "upsamplers": "cross_attention", "chunk_states": "mean"})
    assert ModelConfig.from_dict(changed.to_dict()) == changed
    assert changed.to_dict()["upsamplers"] == [{"kind": "cross_attention", "window": 4}]
