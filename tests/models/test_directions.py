"""Models that look both ways: the same weights, every mixer, router and upsampler."""

import pytest
import torch
from tiny_models import TINY, tiny_model

from genotok.kernels.ragged import Ragged
from genotok.models.chunkers.routing import Boundaries, RoutingChunker
from genotok.models.chunkers.upsampling import EMAUpsampler
from genotok.models.mixers.both_ways import both_ways

LENGTHS = torch.tensor([23, 1, 40, 2, 7])
# Chunks that are cut from the left to the right have no mirror image, but may stand in a model that looks both ways.
every_kind = pytest.mark.parametrize("kind", TINY)


def both(kind):
    return tiny_model(kind, tasks=["lm", "mlm"])


def some_ids(lengths, seed=1):
    return torch.randint(
        0, 5, (len(lengths), int(lengths.max())), generator=torch.Generator().manual_seed(seed)
    )


@every_kind
def test_packed_equals_one_by_one(kind):
    model, ids = both(kind), some_ids(LENGTHS)
    logits = model(ids, task="mlm", lengths=LENGTHS).logits
    for row, length in enumerate(LENGTHS):
        single = model(ids[row : row + 1, :length], task="mlm").logits[0]
        torch.testing.assert_close(logits[row, :length], single, atol=1e-5, rtol=1e-5)


@every_kind
@pytest.mark.parametrize("place", [0, 20, 39])
def test_every_token_reaches_every_place(kind, place):
    model, ids = both(kind), some_ids(torch.tensor([40]))
    embedded = model.embedding(ids[0]).detach().requires_grad_()
    model.embedding.forward = lambda _: embedded
    logits = model(ids, task="mlm").logits
    for seen in (0, 39):
        (gradient,) = torch.autograd.grad(logits[0, place].square().sum(), embedded, retain_graph=True)
        assert gradient[seen].abs().max() > 0


@every_kind
def test_gradients_are_numbers(kind):
    model, ids = both(kind), some_ids(LENGTHS)
    model(ids, task="mlm", labels=ids, lengths=LENGTHS).loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not name.endswith("states.start"):
            assert parameter.grad.isfinite().all(), name


@every_kind
def test_the_causal_pass_stays_causal(kind):
    """Also in a model that can do both."""
    causal, model = tiny_model(kind), both(kind)
    model.load_state_dict(causal.state_dict())
    ids = some_ids(LENGTHS)
    assert torch.equal(model(ids, task="lm", lengths=LENGTHS).logits, causal(ids, lengths=LENGTHS).logits)


def mirrored(values, ragged):
    return values[ragged.mirrored_rows]


def test_mirrored_rows():
    ragged = Ragged.from_lengths(torch.tensor([3, 1, 4]))
    assert ragged.mirrored_rows.tolist() == [2, 1, 0, 3, 7, 6, 5, 4]


@pytest.mark.parametrize("kind", ["mamba", "hyena"])
def test_a_mirrored_sequence_gives_the_mirror_image(kind):
    mixer = tiny_model(kind).backbone.encoder.blocks[0].mixer
    ragged = Ragged.from_lengths(LENGTHS)
    x = torch.randn(ragged.total, 16, generator=torch.Generator().manual_seed(2))
    y = both_ways(mixer, x, ragged)
    again = mirrored(both_ways(mixer, mirrored(x, ragged), ragged), ragged)
    torch.testing.assert_close(again, y, atol=1e-5, rtol=1e-5)
    backwards = mirrored(mixer(mirrored(x, ragged), ragged), ragged)
    torch.testing.assert_close(y, (mixer(x, ragged) + backwards) / 2, atol=1e-6, rtol=1e-6)


def test_the_router_sees_a_mirrored_boundary_as_the_same():
    torch.manual_seed(3)
    router, ragged = RoutingChunker(8), Ragged.from_lengths(LENGTHS)
    for parameter in router.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(ragged.total, 8)
    prob = router(x, ragged, causal=False).prob
    other = mirrored(router(mirrored(x, ragged), ragged, causal=False).prob, ragged)
    # The boundary in front of row t of one is the one behind row t of the other.
    for first, last in zip(ragged.first_rows, ragged.last_rows, strict=True):
        torch.testing.assert_close(prob[first + 1 : last + 1], other[first:last])
        assert prob[first] == other[last] == 1
    assert not torch.allclose(prob, router(x, ragged).prob)


def test_the_moving_average_runs_both_ways():
    """Against the recurrences written out, one from each end."""
    random = torch.Generator().manual_seed(4)
    ragged = Ragged.from_lengths(torch.tensor([9, 1, 12]))
    prob = torch.rand(ragged.total, generator=random).index_fill(0, ragged.first_rows, 1.0)
    boundaries = Boundaries(prob, prob > 0.5, ragged)
    layout = boundaries.chunk_layout()
    chunks = torch.randn(layout.total, 3, generator=random)
    found = EMAUpsampler()(chunks, boundaries, layout, None, causal=False)
    p = prob[boundaries.mask].clamp(1e-4, 1 - 1e-4)
    smooth = torch.zeros_like(chunks)
    for first, last in zip(layout.first_rows.tolist(), layout.last_rows.tolist(), strict=True):
        state = torch.zeros(3)
        for c in range(first, last + 1):
            state = p[c] * chunks[c] + (1 - p[c]) * state
            smooth[c] += state / 2
        state = torch.zeros(3)
        for c in range(last, first - 1, -1):
            weight = 1 - 1e-4 if c == last else p[c + 1]
            state = weight * chunks[c] + (1 - weight) * state
            smooth[c] += state / 2
    torch.testing.assert_close(found, smooth[boundaries.chunk_of_row], atol=1e-5, rtol=1e-5)
