"""Chunks that are filled up to a capacity give what chunks at their exact size give, and nobody counts them."""

import copy

import pytest
import torch
from tiny_models import TINY, tiny_model
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeCopyMode, FakeTensorMode

from genotok.kernels.ragged import FILLERS, Ragged
from genotok.models.chunkers.routing import Boundaries

LENGTHS = torch.tensor([40, 1, 23, 40])
MODELS = [
    *("one stage", "two stages that widen", "grouped queries", "static chunks", "merged and static chunks"),
    *("entropy chunks", "summaries", "both ways"),
]
MORE = {
    "summaries": {
        **TINY["two stages that widen"],
        "chunk_states": ["mean", "cross_attention"],
        "upsamplers": ["cross_attention", "repeat"],
        "positions": [{"periods": "learned"}, {"periods": "fixed"}, None],
    },
    "both ways": {
        **TINY["two stages that widen"],
        "chunk_states": ["cross_attention", "mean"],
        "upsamplers": ["ema", "cross_attention"],
        "positions": [None, {"periods": "fixed"}, None],
        "tasks": ["mlm"],
    },
}


def make(name):
    """A model, as many capacities as it has chunking stages, and a task."""
    model = tiny_model("two stages that widen" if name in MORE else name, **MORE.get(name, {}))
    return model, len(model.config.chunkers), model.config.tasks[0]


def run(model, task, capacity, ids):
    model.zero_grad()
    out = model(ids, task, labels=ids, lengths=LENGTHS, chunk_capacity=capacity)
    loss = out.loss + sum(stage.prob[stage.ragged.is_real].square().mean() for stage in out.packed_boundaries)
    loss.backward()
    return out, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def just_enough_for(exact):
    """Capacities without a chunk to spare; sequences that fill up begin a chunk in every stage inside."""
    capacity, rows = [], len(exact.packed_boundaries[0].mask)
    for s, stage in enumerate(exact.packed_boundaries):
        room = int(stage.mask.sum()) + FILLERS * s
        capacity.append(room / rows)
        rows = room + FILLERS
    return capacity


@pytest.mark.parametrize("name", MODELS)
def test_the_same_as_without(name):
    model, stages, task = make(name)
    ids = torch.randint(4, 8, (4, 40), generator=torch.Generator().manual_seed(3))
    exact, wanted = run(model, task, (), ids)
    for capacity in ([1.0] * stages, just_enough_for(exact)):
        found, gradients = run(model, task, capacity, ids)
        torch.testing.assert_close(found.logits, exact.logits, rtol=1e-4, atol=1e-5)
        assert gradients.keys() == wanted.keys()
        for key, gradient in gradients.items():
            torch.testing.assert_close(gradient, wanted[key], rtol=1e-3, atol=1e-5, msg=key)
        for stage, other in zip(found.boundaries, exact.boundaries, strict=True):
            width = other.mask.shape[1]
            assert torch.equal(stage.mask[:, :width], other.mask)
            torch.testing.assert_close(stage.prob[:, :width], other.prob)
        for stage, other in zip(found.packed_boundaries, exact.packed_boundaries, strict=True):
            assert stage.left_out == 0
            assert stage.real_mask.sum() == other.mask.sum()
            assert stage.ragged.is_real.sum() == len(other.mask)
        inner = found.packed_boundaries[0].chunk_layout(100)
        assert (inner.total, inner.batch) == (100 + FILLERS, 4 + FILLERS)


def test_chunks_without_room_are_counted():
    model, _, task = make("two stages that widen")
    ids = torch.randint(4, 8, (4, 40), generator=torch.Generator().manual_seed(3))
    exact, _ = run(model, task, (), ids)
    chunks = int(exact.packed_boundaries[0].mask.sum())
    room = chunks - 5
    out, gradients = run(model, task, (room / 104, 1.0), ids)
    assert out.packed_boundaries[0].left_out == 5
    assert out.packed_boundaries[0].mask.sum() == room
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    first = exact.packed_boundaries[0].ragged.first_rows
    assert out.packed_boundaries[0].mask[first].all()


def test_a_layout_that_is_filled_up():
    lengths = torch.tensor([3, 1, 7])
    for capacity in (11, 12, 60):
        layout = Ragged.filled_up(lengths, capacity, 7, torch.tensor(11))
        assert layout.total == capacity + FILLERS == layout.cu_seqlens[-1]
        assert layout.lengths[:3].tolist() == [3, 1, 7]
        rest = layout.lengths[3:]
        assert len(rest) == FILLERS
        assert 1 <= rest.min() <= rest.max() <= rest.min() + 1
        assert layout.max_seqlen >= layout.lengths.max()
        assert not layout.is_uniform
        assert layout.is_real.tolist() == [True] * 11 + [False] * (layout.total - 11)


def without_data(model, mode):
    """A copy whose weights have shapes and no numbers, so that nothing can be read of what is worked out of them."""
    with FakeCopyMode(mode):
        return copy.deepcopy(model)


@pytest.mark.parametrize(
    "name", ["one stage", "two stages that widen", "merged and static chunks", "both ways"]
)
def test_nothing_is_read_of_the_device(name):
    """Every number that the host reads on the way forward and back is an error here."""
    model, stages, task = make(name)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    without = without_data(model, mode)
    ids = mode.from_tensor(torch.randint(4, 8, (4, 40)))
    run_blind(without, task, (0.7,) * stages, ids)
    if name == "one stage":
        with pytest.raises(DataDependentOutputException):
            run_blind(without, task, (), ids)


@pytest.mark.parametrize("name", ["one stage", "two stages that widen", "both ways", "summaries"])
def test_without_a_capacity_the_host_waits_once_a_stage(name, monkeypatch):
    model, stages, task = make(name)
    ids, layouts = torch.randint(4, 8, (4, 40)), []
    chunk_layout = Boundaries.chunk_layout

    def noted(self, capacity=None):
        layouts.append(chunk_layout(self, capacity))
        return layouts[-1]

    monkeypatch.setattr(Boundaries, "chunk_layout", noted)
    run_blind(model, task, (), ids)
    assert len(layouts) == stages
    monkeypatch.setattr(Boundaries, "chunk_layout", lambda self, capacity=None: layouts.pop(0))
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    run_blind(without_data(model, mode), task, (), mode.from_tensor(ids))
    assert not layouts


def run_blind(model, task, capacity, ids):
    model(ids, task, labels=ids, lengths=LENGTHS, chunk_capacity=capacity).loss.backward()
