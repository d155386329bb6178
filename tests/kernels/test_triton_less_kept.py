"""What a model keeps for its backward pass on Triton's path, by the byte, and the gradients that come of it.

As part of all tests, which see no GPU, `test_in_interpreter.py` runs this file in a process of its own.
"""

import pytest
import torch

# Before all else of genotok, since Triton may be imported only where it can run.
from triton_device import INTERPRETED, poisoned_memory  # noqa: F401

from benchmarks.kept_memory import as_on_a_gpu, make_model, one_pass
from genotok.kernels import triton_ema

if not INTERPRETED:
    pytest.skip("tensors on the CPU stand for those of a GPU", allow_module_level=True)

FLOAT, HALF = 4, 2  # bytes
WIDTH, INNER, STATES, HEADS, LAYOUT = 64, 128, 16, 2, ["m1T1", ["M1"], "m1"]
WIDE, NARROW = 176, 128  # of the MLPs of the outer and the inner stage
STREAM, SCALE, NORMED = FLOAT * WIDTH, FLOAT, HALF * WIDTH
PROJECTED, CONVOLVED = HALF * (2 * INNER + 2 * STATES + HEADS), HALF * (INNER + 2 * STATES)
SCANNED = GATED = HALF * INNER
KEYS, TURNED, ATTENDED = HALF * 3 * WIDTH, HALF * 2 * WIDTH, HALF * WIDTH + FLOAT  # one head's softmax


def mamba2(policy):
    """Of a first block, whose stream is made in front of it."""
    more = {"projections": 0, "light": PROJECTED, "none": PROJECTED + NORMED + CONVOLVED + GATED}
    return SCALE + SCANNED + more[policy]


def attention(policy):
    more = {"projections": 0, "light": KEYS, "none": KEYS + NORMED + TURNED}
    return STREAM + SCALE + ATTENDED + more[policy]


def mlp(policy, wide):
    more = {"projections": 0, "light": HALF * 2 * wide, "none": NORMED + HALF * 3 * wide}
    return STREAM + SCALE + more[policy]


@pytest.fixture(scope="module")
def passes():
    """Of each policy, what a row keeps and the gradients that follow."""
    found, patch = {}, pytest.MonkeyPatch()
    patch.setattr(triton_ema, "BLOCK", 32)  # which no row is kept by, and most of whose rows would be none
    for policy in ("none", "light", "projections"):
        torch.manual_seed(0)
        model = make_model("hnet M15", LAYOUT, WIDTH, policy, mamba2={"d_state": STATES})
        kept, loss = one_pass(model, windows=1, length=21)
        with as_on_a_gpu():
            loss.backward()
        found[policy] = kept, [loss.detach(), *(p.grad for p in model.parameters())]
    patch.undo()
    return found


@pytest.mark.parametrize("policy", ["none", "light", "projections"])
def test_a_block_keeps_what_it_should(policy, passes):
    wanted = {
        "encoder.blocks.0": mamba2(policy),
        "encoder.blocks.1": attention(policy) + mlp(policy, WIDE),
        "inner.encoder.blocks.0": mamba2(policy) + mlp(policy, NARROW),
        "decoder.blocks.0": mamba2(policy),
    }
    for block, size in wanted.items():
        lines = [size for kept, size in passes[policy][0].items() if kept.block == f"backbone.{block}"]
        # Beside the rows there are a few numbers of the whole layer, and of each sequence.
        assert sum(lines) * (3 if "inner" in block else 1) == pytest.approx(size, abs=30), block


@pytest.mark.parametrize("policy", ["light", "projections"])
def test_gradients_are_those_of_keeping_all(policy, passes):
    wanted, found = passes["none"][1], passes[policy][1]
    assert len(wanted) > 30
    assert all(torch.isfinite(part).all() for part in wanted)
    assert all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))
