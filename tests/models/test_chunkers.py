"""Chunkers one by one: packing, gradients, causality, limits on the length, and extreme lengths."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_model

from genotok.errors import InputError
from genotok.kernels.ragged import Ragged
from genotok.models.chunkers.length_limits import choose_starts, split_long_chunks
from genotok.models.chunkers.settings import KINDS, check_chunkers, make_chunker
from genotok.models.chunkers.upsampling import EMAUpsampler, RepeatUpsampler

WIDTH = 6
LENGTHS = torch.tensor([23, 1, 70, 2, 7])
SETTINGS = {
    "routing": {},
    "merge": {"min_length": 2, "max_length": 7},
    "static": {"length": 3},
    "given": {},
    "entropy": {"threshold": 1.0, "threshold_add": 0.1, "max_length": 5},
}
every_chunker = pytest.mark.parametrize("kind", SETTINGS)


def make(kind, **changes):
    """A chunker whose weights are all moved from where they begin, and which takes inputs in any case."""
    torch.manual_seed(0)
    (values,) = check_chunkers({"kind": kind, **SETTINGS[kind], **changes}, 1)
    chunker = make_chunker(values, WIDTH)
    with torch.no_grad():
        for parameter in chunker.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    takes_inputs = kind in ("given", "entropy")
    return chunker, (lambda x, ragged, inputs: chunker(x, ragged, *([inputs] if takes_inputs else [])))


def some_rows(lengths=LENGTHS, seed=1, kind="routing"):
    random = torch.Generator().manual_seed(seed)
    total = int(lengths.sum())
    inputs = 1.4 * torch.rand(total, generator=random)
    inputs = inputs > 1.0 if kind == "given" else inputs
    return torch.randn(total, WIDTH, generator=random), inputs


def lengths_of_chunks(boundaries):
    """A list of chunk lengths for each sequence."""
    parts = boundaries.mask.split(boundaries.ragged.lengths.tolist())
    return [torch.diff(part.nonzero()[:, 0], append=torch.tensor([len(part)])).tolist() for part in parts]


def test_every_kind_is_tested():
    assert SETTINGS.keys() == KINDS.keys()


@every_chunker
def test_packed_equals_one_by_one(kind):
    chunker, cut = make(kind)
    (x, inputs), sizes = some_rows(kind=kind), LENGTHS.tolist()
    x.requires_grad_()
    leaves = [x, *chunker.parameters()]
    whole = cut(x, Ragged.from_lengths(LENGTHS), inputs)
    parts = [
        cut(part, Ragged.uniform(1, len(part)), own)
        for part, own in zip(x.split(sizes), inputs.split(sizes), strict=True)
    ]
    assert torch.equal(whole.mask, torch.cat([part.mask for part in parts]))
    torch.testing.assert_close(whole.prob, torch.cat([part.prob for part in parts]), atol=1e-6, rtol=1e-5)
    assert whole.prob.dtype == torch.float32
    assert whole.learned == (kind in ("routing", "merge")) == whole.prob.requires_grad
    if not whole.learned:
        assert torch.equal(whole.prob, whole.mask.float())
        return
    weights = torch.sin(torch.arange(len(x)).float())
    found = torch.autograd.grad((weights * whole.prob).sum(), leaves)
    alone = torch.cat([part.prob for part in parts])
    for packed, single in zip(found, torch.autograd.grad((weights * alone).sum(), leaves), strict=True):
        assert single.norm() > 1e-3
        torch.testing.assert_close(packed, single, atol=1e-4, rtol=1e-4)


@every_chunker
def test_boundaries_depend_on_no_later_row(kind):
    _, cut = make(kind)
    lengths = torch.tensor([5, 40])
    ragged = Ragged.from_lengths(lengths)
    x, inputs = some_rows(lengths, kind=kind)
    before = cut(x, ragged, inputs)
    for place in (1, 4, 5, 6, 20, 44):
        later_x, later_inputs = some_rows(lengths, seed=2 + place, kind=kind)
        later_x[:place], later_inputs[:place] = x[:place], inputs[:place]
        after = cut(later_x, ragged, later_inputs)
        assert torch.equal(after.mask[:place], before.mask[:place])
        torch.testing.assert_close(after.prob[:place], before.prob[:place], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", ["routing", "merge"])
def test_gradients_of_a_boundary_reach_no_later_row(kind):
    _, cut = make(kind)
    x, _ = some_rows(torch.tensor([40]))
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(cut(x, Ragged.uniform(1, 40), None).prob[20], x)
    assert gradient[20].norm() > 0
    assert gradient[19].norm() > 0
    assert not gradient[21:].any()


def test_an_entropy_at_a_token_cuts_behind_it():
    _, cut = make("entropy", threshold_add=None, max_length=None)
    x, _ = some_rows(torch.tensor([8, 6]))
    entropies = torch.zeros(14)
    entropies[[3, 7, 11]] = 1.2  # at 7 is the end of the first sequence
    mask = cut(x, Ragged.from_lengths(torch.tensor([8, 6])), entropies).mask
    assert mask.nonzero()[:, 0].tolist() == [0, 1, 4, 8, 9, 12]


@every_chunker
@pytest.mark.parametrize("length", [1, 2])
def test_short_sequences(kind, length):
    _, cut = make(kind)
    lengths = torch.full((3,), length)
    x, inputs = some_rows(lengths, kind=kind)
    boundaries = cut(x, Ragged.from_lengths(lengths), inputs)
    first = torch.arange(3) * length
    assert boundaries.mask[first].all()
    assert (boundaries.prob[first] == 1).all()
    assert boundaries.chunk_layout().batch == 3
    assert boundaries.prob.isfinite().all()


ONE_CHUNK = {  # what makes a single chunk of every sequence, where that can be said
    "merge": {"min_length": 70, "max_length": 70},
    "static": {"length": 70},
    "given": {},
}
ONE_TOKEN = {  # what makes a chunk of every token
    "merge": {"min_length": 1, "max_length": 1},
    "static": {"length": 1},
    "given": {},
    "entropy": {"threshold": -1, "threshold_add": None},
}


@pytest.mark.parametrize("kind", ONE_CHUNK)
def test_one_chunk_a_sequence(kind):
    _, cut = make(kind, **ONE_CHUNK[kind])
    x, _ = some_rows()
    boundaries = cut(x, Ragged.from_lengths(LENGTHS), torch.zeros(len(x), dtype=torch.bool))
    assert lengths_of_chunks(boundaries) == [[length] for length in LENGTHS.tolist()]


def test_one_chunk_a_sequence_of_equal_rows():
    """Routing sees no difference; BLT always makes a chunk of the first token, and another of the rest."""
    ragged = Ragged.from_lengths(LENGTHS)
    same = torch.ones(ragged.total, WIDTH)
    routing = make_chunker({"kind": "routing"}, WIDTH)
    assert lengths_of_chunks(routing(same, ragged)) == [[length] for length in LENGTHS.tolist()]
    _, cut = make("entropy", threshold_add=None, max_length=None)
    found = lengths_of_chunks(cut(same, ragged, torch.zeros(ragged.total)))
    assert found == [[1, length - 1] if length > 1 else [1] for length in LENGTHS.tolist()]


@pytest.mark.parametrize("kind", ONE_TOKEN)
def test_one_token_a_chunk(kind):
    _, cut = make(kind, **ONE_TOKEN[kind])
    x, _ = some_rows()
    inputs = torch.ones(len(x), dtype=torch.bool if kind == "given" else torch.float32)
    assert cut(x, Ragged.from_lengths(LENGTHS), inputs).mask.all()


def test_static_chunks_are_counted_in_each_sequence():
    _, cut = make("static")
    found = lengths_of_chunks(cut(some_rows()[0], Ragged.from_lengths(LENGTHS), None))
    assert found == [[3] * 7 + [2], [1], [3] * 23 + [1], [2], [3, 3, 1]]


@pytest.mark.parametrize(("shortest", "longest"), [(1, 3), (2, 7), (4, 4), (5, 30)])
def test_merging_keeps_its_limits(shortest, longest):
    _, cut = make("merge", min_length=shortest, max_length=longest)
    lengths = torch.tensor([400, 3, 211])
    found = lengths_of_chunks(cut(some_rows(lengths)[0], Ragged.from_lengths(lengths), None))
    for *inner, last in found:
        assert all(shortest <= length <= longest for length in inner)
        assert last <= longest
    assert shortest == longest or len(set(found[0])) > 2


def test_merging_cuts_where_the_rows_change():
    """Stretches of nearly equal rows, each in a direction of its own."""
    lengths = [6, 4, 9, 5, 7, 4, 8, 5, 6, 9, 4, 7]
    random = torch.Generator().manual_seed(3)
    stretches = torch.nn.functional.one_hot(torch.arange(len(lengths)) % WIDTH, WIDTH).float()
    x = stretches.repeat_interleave(torch.tensor(lengths), 0)
    x = x + 0.02 * torch.randn(x.shape, generator=random)
    chunker = make_chunker({"kind": "merge", "min_length": 2, "max_length": 12}, WIDTH)
    (found,) = lengths_of_chunks(chunker(x, Ragged.uniform(1, len(x))))
    assert found[-8:] == lengths[-8:]  # at first there is little to compare with


def test_merging_adapts_to_how_much_the_rows_differ():
    """Rows that are much more alike are cut about as often, since only their own sequence is the measure."""
    rows, ragged = some_rows(torch.tensor([600]))[0], Ragged.uniform(1, 600)
    chunker = make_chunker({"kind": "merge", "min_length": 1, "max_length": 16}, WIDTH)
    alike, apart = (2 + scale * rows for scale in (0.5, 2.0))
    assert chunker._distances(apart, ragged)[0].mean() > 5 * chunker._distances(alike, ragged)[0].mean()
    chunks = [int(chunker(x, ragged).mask.sum()) for x in (alike, apart)]
    assert 2 / 3 < chunks[0] / chunks[1] < 3 / 2
    assert 600 / 8 < chunks[0] < 600 / 2


def test_new_merging_begins_near_the_middle_of_its_limits():
    x = some_rows(torch.tensor([4000]))[0]
    for shortest, longest in ((1, 9), (2, 8), (4, 16)):
        chunker = make_chunker({"kind": "merge", "min_length": shortest, "max_length": longest}, WIDTH)
        chunks = int(chunker(x, Ragged.uniform(1, 4000)).mask.sum())
        assert (shortest * longest) ** 0.5 * 0.7 < 4000 / chunks < (shortest * longest) ** 0.5 * 1.4


@pytest.mark.parametrize("target", [2.0, 3.0, 5.0])
def test_the_ratio_loss_steers_merging(target):
    """The offset alone is enough to reach the wanted mean length."""
    x, ragged = some_rows(torch.tensor([1500]))[0], Ragged.uniform(1, 1500)
    chunker = make_chunker({"kind": "merge", "min_length": 1, "max_length": 12}, WIDTH)
    optimizer = torch.optim.SGD([chunker.offset], lr=1.0)
    for _ in range(60):
        boundaries = chunker(x, ragged)
        chosen, wanted = boundaries.mask.float().mean(), boundaries.prob.mean()
        loss = target / (target - 1) * ((target - 1) * chosen * wanted + (1 - chosen) * (1 - wanted))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert 1 / chosen.item() == pytest.approx(target, rel=0.1)


@pytest.mark.parametrize(("shortest", "longest"), [(1, 1), (1, 4), (2, 7), (5, 5), (3, 40)])
def test_merging_row_by_row(shortest, longest):
    """Steps, of other sequences each time, give the probabilities and the boundaries of the whole pass."""
    chunker, _ = make("merge", min_length=shortest, max_length=longest)
    full, random = torch.full((4,), 90), torch.Generator().manual_seed(4)
    x = some_rows(full)[0].view(4, 90, WIDTH)
    with torch.no_grad():
        whole = chunker(x.flatten(0, 1), Ragged.uniform(4, 90))
        prob, mask = whole.prob.view(4, 90), whole.mask.view(4, 90)
        lengths = torch.tensor([1, 2, 30, 7])
        prompts = torch.cat([row[:length] for row, length in zip(x, lengths, strict=True)])
        read, cache = chunker.prefill(prompts, Ragged.from_lengths(lengths))
        assert torch.equal(read.mask, torch.cat([row[:n] for row, n in zip(mask, lengths, strict=True)]))
        while lengths.min() < 90:
            going = (lengths < 90).nonzero()[:, 0]
            rows = going[torch.randperm(len(going), generator=random)[: 1 + int(lengths.sum()) % 3]]
            part = cache.select(rows)
            found = chunker.step(x[rows, lengths[rows]], part)
            cache.put(rows, part)
            assert torch.equal(found.mask, mask[rows, lengths[rows]])
            torch.testing.assert_close(found.prob, prob[rows, lengths[rows]], atol=1e-5, rtol=1e-5)
            lengths[rows] += 1
    assert cache.position.tolist() == [90] * 4
    assert cache.since.tolist() == [90 - int(row.nonzero().max()) for row in mask]


def test_merging_keeps_count_over_many_steps():
    """The running moments do not drift: 5000 rows of steps against the whole pass."""
    chunker, _ = make("merge", min_length=1, max_length=9)
    x = some_rows(torch.tensor([5000]))[0]
    with torch.no_grad():
        whole = chunker(x, Ragged.uniform(1, 5000))
        _, cache = chunker.prefill(x[:1], Ragged.uniform(1, 1))
        found = torch.cat([chunker.step(row[None], cache).prob for row in x[1:]])
    torch.testing.assert_close(found, whole.prob[1:], atol=1e-5, rtol=1e-5)


def test_equal_rows_give_finite_gradients():
    chunker, _ = make("merge")
    x = torch.zeros(50, WIDTH, requires_grad=True)
    for rows in (x, x + 1):
        prob = chunker(rows, Ragged.from_lengths(torch.tensor([49, 1]))).prob
        gradients = torch.autograd.grad(prob.sum(), [x, *chunker.parameters()])
        assert all(gradient.isfinite().all() for gradient in gradients)


sequences = st.lists(st.lists(st.booleans(), min_size=1, max_size=40), min_size=1, max_size=4)


@given(sequences, st.integers(1, 6), st.integers(0, 8))
@settings(max_examples=200, deadline=None)
def test_starts_are_those_of_a_walk(candidates, shortest, more):
    ragged = Ragged.from_lengths(torch.tensor([len(part) for part in candidates]))
    wanted = []
    for part in candidates:
        since = 0
        for row, candidate in enumerate(part):
            begins = row == 0 or since == shortest + more or (candidate and since >= shortest)
            since = 1 if begins else since + 1
            wanted.append(begins)
    flat = torch.tensor([row for part in candidates for row in part])
    assert choose_starts(flat, ragged, shortest, shortest + more).tolist() == wanted
    if shortest == 1:
        first = flat.index_fill(0, ragged.first_rows, True)
        assert split_long_chunks(first, 1 + more).tolist() == wanted


def test_repeating_gives_each_row_the_state_of_its_chunk():
    ragged = Ragged.from_lengths(LENGTHS)
    x, _ = some_rows()
    boundaries = make("merge")[0](x, ragged)
    layout = boundaries.chunk_layout()
    chunks = torch.randn(layout.total, 4, requires_grad=True)
    rows, chunk = RepeatUpsampler()(chunks, boundaries, layout, None), -1
    for row, begins in enumerate(boundaries.mask.tolist()):
        chunk += begins
        assert torch.equal(rows[row], chunks[chunk])
    (gradient,) = torch.autograd.grad(rows.square().sum(), boundaries.prob)
    sign = boundaries.mask.float() * 2 - 1
    torch.testing.assert_close(gradient, sign * 2 * rows.square().sum(-1))


def test_static_chunks_come_back_almost_unsmoothed():
    """Their probability is 1, which the moving average takes as 0.9999."""
    ragged = Ragged.from_lengths(LENGTHS)
    boundaries = make("static")[0](some_rows()[0], ragged)
    layout = boundaries.chunk_layout()
    chunks = torch.randn(layout.total, 4)
    smooth, plain = (up(chunks, boundaries, layout, None) for up in (EMAUpsampler(), RepeatUpsampler()))
    torch.testing.assert_close(smooth, plain, atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", ["given", "entropy"])
def test_a_model_with_boundary_inputs(kind):
    """Boundaries follow the inputs; sequences of a padded batch equal those alone."""
    chunker = {"kind": "given"} if kind == "given" else {"kind": "entropy", "threshold": 1.0}
    model = tiny_model("one stage", chunkers=[chunker])
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 4, (2, 12), generator=random)
    inputs = 1.4 * torch.rand(2, 12, generator=random)
    inputs = inputs > 0.9 if kind == "given" else inputs
    output = model(ids, lengths=torch.tensor([12, 5]), labels=ids, boundary_inputs=inputs)
    alone = model(ids[1:, :5], boundary_inputs=inputs[1:, :5])
    torch.testing.assert_close(output.logits[1, :5], alone.logits[0], atol=1e-5, rtol=1e-5)
    assert torch.equal(output.boundaries[0].mask[1, :5], alone.boundaries[0].mask[0])
    if kind == "given":
        assert torch.equal(output.boundaries[0].mask[0, 1:], inputs[0, 1:])
    output.loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    with pytest.raises(InputError, match=f"chunker '{kind}' of the outermost stage needs inputs"):
        model(ids)
    with pytest.raises(InputError, match=r"boundary_inputs must have the shape \(2, 12\) of input_ids"):
        model(ids, boundary_inputs=inputs[:, :5])


@pytest.mark.parametrize(("name", "chunker"), [("one stage", "routing"), ("transformer", "none")])
def test_a_model_that_takes_no_boundary_inputs(name, chunker):
    ids = torch.zeros(2, 4, dtype=torch.long)
    with pytest.raises(InputError, match=f"chunker '{chunker}' of the outermost stage takes no inputs"):
        tiny_model(name)(ids, boundary_inputs=ids)
