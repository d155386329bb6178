"""The outer stage's Triton kernels against the torch references in float64: on a GPU, or in Triton's interpreter.

As part of all tests, which see no GPU, `test_in_interpreter.py` runs this file in a process of its own. On a GPU:
`python -m pytest --noconftest tests/kernels/test_triton_outer.py`.
"""

import pytest
import torch
from torch.nn.functional import cosine_similarity

# Before all else of genotok, since Triton may be imported only where it can run.
from triton_device import DEVICE, INTERPRETED, poisoned_memory  # noqa: F401

from genotok.kernels import attention, triton_ema
from genotok.kernels.backend import reference_kernels, uses_triton
from genotok.kernels.ema import rewarded
from genotok.kernels.ragged import Ragged
from genotok.kernels.rms_norm import add_rms_norm
from genotok.kernels.swiglu import swiglu
from genotok.kernels.token_loss import linear_cross_entropy
from genotok.kernels.triton_ema import ema_upsample
from genotok.kernels.triton_rms_norm import add_rms_norm as triton_add_rms_norm
from genotok.kernels.triton_rotary import rotate as triton_rotate
from genotok.kernels.triton_rotary import rotated_parts as triton_rotated_parts
from genotok.kernels.triton_router import boundary_probability as triton_boundary_probability
from genotok.kernels.triton_router import pair_probability as triton_pair_probability
from genotok.kernels.triton_swiglu import swiglu as triton_swiglu
from genotok.kernels.triton_token_loss import linear_cross_entropy as triton_linear_cross_entropy
from genotok.models.chunkers.upsampling import only_real

HALF = torch.float16 if INTERPRETED else torch.bfloat16  # numpy knows no bfloat16
FLOAT_LIMIT, HALF_LIMIT = 2e-6, 8e-3


def layout(*lengths):
    return Ragged.from_lengths(torch.tensor(lengths, device=DEVICE))


def relative_error(found, wanted):
    scale = wanted.double().norm()
    return ((found.double() - wanted).norm() / torch.where(scale > 0, scale, 1.0)).item()


def random(*shape, dtype=torch.float32):
    return torch.randn(shape, device=DEVICE).to(dtype)


def compare(operation, reference, inputs, limit=FLOAT_LIMIT):
    """Hold the outputs of `operation`, and the gradients of all inputs, against `reference` in float64."""
    inputs = [part.detach().requires_grad_() for part in inputs]
    exact = [part.detach().double().requires_grad_() for part in inputs]
    found, wanted = operation(*inputs), reference(*exact)
    seen = [torch.randn_like(part) for part in wanted]
    loss = sum((part.double() * weight).sum() for part, weight in zip(found, seen, strict=True))
    gradients = torch.autograd.grad(loss, inputs)
    loss = sum((part * weight).sum() for part, weight in zip(wanted, seen, strict=True))
    expected = torch.autograd.grad(loss, exact)
    errors = [relative_error(*pair) for pair in zip((*found, *gradients), (*wanted, *expected), strict=True)]
    assert all(error < limit for error in errors), errors  # false where one is NaN


def exact_average(x, p, ragged, initial):
    """The moving average in float64, by products of decays over 1, 2, 4, ... chunks."""
    p = p.clamp(1e-4, 1 - 1e-4)[:, None]
    first = ragged.first_rows
    keep, state = (1 - p).index_fill(0, first, 0.0), p * x
    if initial is not None:
        state = state.index_add(0, first, (1 - p[first]) * initial)
    step = 1
    while step < ragged.max_seqlen:
        state = torch.cat([state[:step], state[step:] + keep[step:] * state[:-step]])
        keep = torch.cat([torch.zeros_like(keep[:step]), keep[step:] * keep[:-step]])
        step *= 2
    return state


def chunked(lengths, density):
    """Random chunks of rows: the chunk of each row, and the layout of the chunks."""
    rows = layout(*lengths)
    mask = (torch.rand(rows.total, device=DEVICE) < density).index_fill(0, rows.first_rows, True)
    counts = torch.zeros(len(lengths), dtype=torch.long, device=DEVICE)
    return mask.cumsum(0) - 1, Ragged.from_lengths(counts.index_add(0, rows.sequence_ids, mask.long()))


def compare_ema(lengths, density, probability, width, with_initial, dtype=torch.float32, limit=FLOAT_LIMIT):
    chunk_of_row, ragged = chunked(lengths, density)
    inputs = [
        random(ragged.total, width, dtype=dtype),
        probability(torch.rand(ragged.total, device=DEVICE)),
        torch.rand(len(chunk_of_row), device=DEVICE),
    ]
    inputs += [random(len(lengths), width)] if with_initial else []

    def found(x, p, confidence, initial=None):
        return (ema_upsample(x, p, confidence, chunk_of_row, ragged, initial),)

    def wanted(x, p, confidence, initial=None):
        return (rewarded(exact_average(x, p, ragged, initial)[chunk_of_row], confidence),)

    compare(found, wanted, inputs, limit)


@pytest.fixture
def small_blocks(monkeypatch):
    """So that few rows make several blocks, which need carrying over."""
    for name, size in {"BLOCK": 32, "TILE": 16, "TILE_BACK": 8, "SUMMED": 8, "CARRIED": 2}.items():
        monkeypatch.setattr(triton_ema, name, size)


PROBABILITIES = {
    "as a router's": lambda u: 0.5 + u / 2,
    "any": lambda u: u,
    "small": lambda u: u * 0.02,
}


@pytest.mark.parametrize(
    ("probability", "with_initial"),
    [("as a router's", False), ("any", True), ("small", True), ("small", False)],
)
@pytest.mark.usefixtures("small_blocks")
def test_ema(probability, with_initial):
    """What a sequence begins with is longest remembered where probabilities are small."""
    compare_ema([70, 1, 40, 33, 1], 0.4, PROBABILITIES[probability], 5, with_initial)


@pytest.mark.parametrize("density", [0.02, 1.0])
@pytest.mark.usefixtures("small_blocks")
def test_ema_of_long_and_short_chunks(density):
    compare_ema([90, 7], density, lambda u: u, 3, False)


@pytest.mark.usefixtures("small_blocks")
def test_ema_of_half_precision():
    compare_ema([60, 9], 0.5, lambda u: u, 6, False, HALF, 2e-3)


@pytest.mark.usefixtures("small_blocks")
def test_ema_does_not_leak_between_sequences():
    chunk_of_row, ragged = chunked([40, 1, 50], 0.5)
    x, p = random(ragged.total, 4), torch.rand(ragged.total, device=DEVICE)
    confidence = torch.ones(len(chunk_of_row), device=DEVICE)
    quiet = ema_upsample(x, p, confidence, chunk_of_row, ragged)
    for touched in range(3):
        inside = ragged.sequence_ids == touched
        loud = torch.where(inside[:, None], torch.full_like(x, 1e8), x)
        found = ema_upsample(loud, p, confidence, chunk_of_row, ragged)
        others = ~inside[chunk_of_row]
        assert torch.equal(found[others], quiet[others])


@pytest.mark.usefixtures("small_blocks")
def test_ema_of_chunks_that_no_row_reads():
    """Those that fill a layout up change nothing, and without their gradient the others' is whole."""
    chunk_of_row, ragged = chunked([40, 1, 50], 0.5)
    more = Ragged.filled_up(ragged.lengths, ragged.total + 4, 91, torch.tensor(ragged.total, device=DEVICE))
    sizes = [(more.total, 4), (more.total,), (len(chunk_of_row),)]
    inputs = [torch.rand(size, device=DEVICE, requires_grad=True) for size in sizes]
    gradient = random(len(chunk_of_row), 4)
    found = ema_upsample(*(only_real(part, more) for part in inputs[:2]), inputs[2], chunk_of_row, more)
    own = [part.detach()[: ragged.total].requires_grad_() for part in inputs[:2]]
    wanted = ema_upsample(*own, inputs[2], chunk_of_row, ragged)
    assert torch.equal(found, wanted)
    of_all = torch.autograd.grad(found, inputs, gradient)
    of_own = torch.autograd.grad(wanted, [*own, inputs[2]], gradient)
    for all_, own_ in zip(of_all, of_own, strict=True):
        assert torch.equal(all_[: len(own_)], own_)
        assert (all_[len(own_) :] == 0).all()


@pytest.mark.parametrize("width", [2] if INTERPRETED else [16, 300])
def test_ema_does_not_drift(width, request):
    """Of probabilities that make it remember thousands of chunks; the interpreter takes few rows, small blocks."""
    if INTERPRETED:
        request.getfixturevalue("small_blocks")
    compare_ema([1 << 7 if INTERPRETED else 1 << 20], 0.4, lambda u: u * 3e-4, width, False)


@pytest.mark.parametrize("dtype", [torch.float32, HALF])
def test_router(dtype):
    ragged = layout(9, 1, 14, 5)
    query, key = random(ragged.total, 12, dtype=dtype), random(ragged.total, 12, dtype=dtype)
    limit = FLOAT_LIMIT if dtype == torch.float32 else HALF_LIMIT
    compare(
        lambda q, k: (triton_pair_probability(q, k),),
        lambda q, k: (0.5 - 0.5 * cosine_similarity(q, k, -1, 1e-12),),
        [query, key],
        limit,
    )

    def wanted(q, k):
        between = 0.5 - 0.5 * cosine_similarity(q[:-1], k[1:], -1, 1e-12)
        return (torch.cat([between.new_ones(1), between]).index_fill(0, ragged.first_rows, 1.0),)

    compare(lambda q, k: triton_boundary_probability(q, k, ragged)[:1], wanted, [query, key], limit)
    prob, mask = triton_boundary_probability(query, key, ragged)
    assert torch.equal(mask, prob > 0.5)
    assert (prob[ragged.first_rows] == 1).all()


def test_router_of_equal_opposite_and_empty_rows():
    query = torch.tensor([[3.0, 4.0], [3.0, 4.0], [0.0, 0.0]], device=DEVICE, requires_grad=True)
    key = torch.tensor([[6.0, 8.0], [-6.0, -8.0], [1.0, 0.0]], device=DEVICE)
    found = triton_pair_probability(query, key)
    torch.testing.assert_close(found.cpu(), torch.tensor([0.0, 1.0, 0.5]))
    assert torch.autograd.grad(found.sum(), query)[0].isfinite().all()


@pytest.mark.parametrize("width", [12, 300])
@pytest.mark.parametrize("dtype", [torch.float32, HALF])
def test_addition_and_norm(width, dtype):
    x, added, weight = random(21, width), random(21, width, dtype=dtype), random(width)
    limit = FLOAT_LIMIT if dtype == torch.float32 else HALF_LIMIT
    for add in (added, None):
        inputs = [x, weight] if add is None else [x, weight, add]
        compare(
            lambda x, weight, add=None: triton_add_rms_norm(x, add, weight, 1e-5, dtype),
            lambda x, weight, add=None: add_rms_norm64(x, add, weight),
            inputs,
            limit,
        )


def add_rms_norm64(x, added, weight):
    x = x if added is None else x + added
    return x, torch.nn.functional.rms_norm(x, x.shape[-1:], weight, 1e-5)


@pytest.mark.parametrize("adds", [True, False])
def test_norm_alone_passes_no_gradient_of_the_stream(adds):
    inputs = [random(5, 8), random(8), *([random(5, 8)] if adds else [])]

    def triton(x, weight, added=None):
        return triton_add_rms_norm(x, added, weight, 1e-5, torch.float32)

    compare(
        lambda x, weight, *added: triton(x, weight, *added)[1:],
        lambda x, weight, added=None: add_rms_norm64(x, added, weight)[1:],
        inputs,
    )
    compare(
        lambda x, weight, *added: (*triton(x, weight, *added)[:1], weight),
        lambda x, weight, added=0: (x + added, weight),
        inputs,
    )


@pytest.mark.parametrize("width", [5, 1100])
def test_swiglu(width):
    compare(lambda x: (triton_swiglu(x),), lambda x: (swiglu(x),), [random(7, 2 * width)])


@pytest.mark.parametrize("dim", [16, 12, 6])
def test_rotation(dim):
    ragged = layout(30, 1, 7)
    positions = ragged.positions * 1000
    frequencies = attention.rotary_frequencies(dim, 10_000.0, torch.device(DEVICE))

    def wanted(x):
        with reference_kernels():
            return (attention.rotate(x[:, 1:4], positions, dim),)

    compare(lambda x: (triton_rotate(x[:, 1:4], positions, frequencies),), wanted, [random(38, 5, 16)])


READ = {
    "as they are": lambda q, k, v: (q, k, v),
    "head by head": lambda q, k, v: tuple(part.transpose(0, 1).exp() for part in (q, k, v)),
    "feature by feature": lambda q, k, v: tuple(part.flatten(1).t().exp() for part in (q, k, v)),
    "keys alone": lambda q, k, v: (k,),
    "values alone": lambda q, k, v: (v,),
}


@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(4, 2, 8), (3, 3, 16), (17, 1, 6)])
@pytest.mark.parametrize("read", list(READ.values()), ids=list(READ))
def test_rotated_parts(heads, kv_heads, dim, read):
    """Gradients come in the order of memory in which the parts were read, or not at all."""
    positions = layout(20, 1, 4).positions * 1000
    frequencies = attention.rotary_frequencies(dim, 10_000.0, torch.device(DEVICE))

    def wanted(rows):
        with reference_kernels():
            return read(*attention.rotated_parts(rows, heads, kv_heads, positions, dim))

    compare(
        lambda rows: read(*triton_rotated_parts(rows, heads, kv_heads, positions, frequencies)),
        wanted,
        [random(25, heads + 2 * kv_heads, 16)],
    )


def test_rotated_parts_are_one_rotation_and_no_copy():
    rows, positions = random(9, 7, 8), torch.arange(9, device=DEVICE)
    q, k, v = triton_rotated_parts(rows, 3, 2, positions, attention.rotary_frequencies(8, 1e4, rows.device))
    alone = triton_rotate(rows[:, :5], positions, attention.rotary_frequencies(8, 1e4, rows.device))
    assert torch.equal(torch.cat([q, k], 1), alone)
    # By which `less_kept` knows them.
    assert q.untyped_storage().data_ptr() == k.untyped_storage().data_ptr()
    assert v.data_ptr() == rows[:, 5:].data_ptr()


@pytest.mark.parametrize("vocabulary", [8, 12, 33])
@pytest.mark.parametrize("width", [12, 200])
def test_loss(vocabulary, width):
    labels = torch.randint(0, vocabulary, (70,), device=DEVICE)
    labels[::5] = -100
    inputs = [random(70, width), random(vocabulary, width)]
    compare(
        lambda x, weight: triton_linear_cross_entropy(x, weight, labels, torch.float32),
        lambda x, weight: linear_cross_entropy(x, weight, labels),
        inputs,
    )
    compare(
        lambda x, weight: triton_linear_cross_entropy(x, weight, labels, torch.float32)[:1],
        lambda x, weight: linear_cross_entropy(x, weight, labels)[:1],
        inputs,
    )


def test_references_run_where_they_are_asked_for():
    x = torch.randn(3, 4, device=DEVICE)
    assert uses_triton(x) == (DEVICE == "cuda")
    with reference_kernels():
        assert not uses_triton(x)
    torch.testing.assert_close(add_rms_norm(x, x, x[0], 1e-5)[0], 2 * x)


@pytest.mark.skipif(INTERPRETED, reason="flash attention needs a GPU")
@pytest.mark.parametrize("lengths", [(700, 1, 33, 1500, 64), (512, 512)])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("window", "shared"), [(-1, 8), (100, 8), (0, 2), (5000, 1)])
def test_attention(lengths, causal, window, shared):
    ragged = layout(*lengths)
    inputs = [random(ragged.total, heads, 64, dtype=HALF) for heads in (8, shared, shared)]

    def run(q, k, v):
        return (attention.ragged_attention(q, k, v, ragged, causal=causal, window=window),)

    compare(run, run, inputs, HALF_LIMIT)
