"""Counted costs, held against torch's own counter, the models themselves and numbers worked out by hand."""

import pytest
import torch
from tiny_models import STEPPED, TINY, tiny_config, tiny_model
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from genotok.errors import InputError
from genotok.models import GenomicLM, ModelConfig
from genotok.models.cost import measure_chunks, model_cost, parameters_by_part, part_of_parameter
from genotok.models.mixers.attention import Attention

LENGTH = 96
# Without windows, since the reference kernel multiplies with all keys and masks afterwards.
MODELS = {
    "one stage": {
        "layout": ["m2T1", ["M2T1"], "m2"],
        "d_model": [32, 48],
        "d_intermediate": [40, 72],
        "attention": {"heads": [4, 3], "rotary_dim": 8, "window": -1},
        "mamba2": {"d_state": 16, "head_dim": 16, "chunk_size": 16},
    },
    "two stages": {
        "layout": ["m1", ["T1m1", ["T2"], "m1T1"], "T1"],
        "d_model": [32, 32, 64],
        "d_intermediate": [24, 48, 96],
        "attention": {"heads": 4, "rotary_dim": 8, "window": -1},
        "mamba2": {"d_state": 8, "head_dim": 16, "chunk_size": 16},
    },
    "transformer": {
        "layout": ["T3"],
        "d_model": 32,
        "d_intermediate": 64,
        "attention": {"heads": 4, "rotary_dim": 8, "window": -1},
    },
    "hyena and attention": {
        "layout": ["H2T1"],
        "d_model": 32,
        "d_intermediate": 64,
        "attention": {"heads": 4, "rotary_dim": 8, "window": -1, "bias": True},
        "hyena": {"order": 3, "max_length": 128, "d_filter": 16},
        "mlp": "gelu",
        "head": "roberta",
    },
}
MODELS["grouped queries"] = {
    **MODELS["one stage"],
    "attention": {"heads": [4, 6], "rotary_dim": 8, "window": -1, "kv_heads": [1, 3]},
}
MODELS["merged chunks"] = {
    **MODELS["one stage"],
    "chunkers": {"kind": "merge", "min_length": 2, "max_length": 9},
}
MODELS["cross-attention and positions"] = {
    **MODELS["two stages"],
    "chunk_states": "cross_attention",
    "upsamplers": "cross_attention",
    "chunkers": {"kind": "static", "length": 3},
    "positions": {"periods": "fixed"},
}
MODELS["static chunks"] = {**MODELS["one stage"], "chunkers": {"kind": "static", "length": 4}}


def model_of(name):
    torch.manual_seed(0)
    return GenomicLM(ModelConfig.from_dict(MODELS[name])).eval()


def realised(model, ids, **more):
    """The model's output and its rows a chunk, stage by stage."""
    with torch.no_grad():
        output = model(ids, **more)
    return output, [stage.ragged.total / int(stage.mask.sum()) for stage in output.packed_boundaries]


def counted(model, ids):
    """What torch counts: products with weights, and batched products inside attention."""
    aten = torch.ops.aten
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model(ids)
    counts = counter.get_flop_counts()
    attention = [name for name, module in model.named_modules() if isinstance(module, Attention)]
    return {
        "linear": sum(counts["Global"].get(op, 0) for op in (aten.mm, aten.addmm)),
        "attention": sum(counts[f"GenomicLM.{name}"][aten.bmm] for name in attention),
    }


@pytest.mark.parametrize("name", MODELS)
def test_torch_counts_the_same(name):
    """Products with weights and those of attention. The scans are left out: torch sees the products that the
    kernel by blocks makes of them, and the formula counts the recurrence."""
    model = model_of(name)
    ids = torch.randint(0, 4, (1, LENGTH), generator=torch.Generator().manual_seed(1))
    _, compression = realised(model, ids)
    assert all(ratio > 1.2 for ratio in compression)
    cost = model_cost(model.config, LENGTH, compression)
    wanted, found = counted(model, ids), cost.flops
    # Rows and chunks attend to each other without batched products, which is all that torch counts.
    crossing = sum(part.flops.attention for part in cost.parts if part.name.endswith("chunker"))
    assert wanted["linear"] > 0
    assert wanted["attention"] > 0
    assert found.linear == pytest.approx(wanted["linear"], rel=0.03)
    assert found.attention - crossing == pytest.approx(wanted["attention"], rel=0.03)
    assert (crossing > 0) == ("cross" in name)


@pytest.mark.parametrize("kind", TINY)
def test_parameters(kind):
    """Every parameter lies in one part, and tied weights are counted once."""
    model = tiny_model(kind)
    counts = parameters_by_part(model.config)
    assert sum(counts.values()) == sum(parameter.numel() for parameter in model.parameters())
    assert counts["embedding"] == model.embedding.weight.numel()
    assert counts["head"] == (0 if "tied" in kind else sum(part.numel() for part in model.head.parameters()))
    stages = model.config.stage_layout.depth
    cost = model_cost(model.config, 10, [2.0] * (stages - 1))
    assert {part.name: part.parameters for part in cost.parts} == counts
    assert cost.parameters == sum(counts.values())


def test_parts_of_a_stage():
    model, counts = tiny_model("two stages that widen"), {}
    for key, parameter in model.named_parameters():
        counts.setdefault(part_of_parameter(key, 3), []).append((key, parameter))
    names = [part.name for part in model_cost(model.config, 10, [2.0, 2.0]).parts]
    assert names == [
        "embedding",
        "stage 0 encoder",
        "stage 0 chunker",
        "stage 1 encoder",
        "stage 1 chunker",
        "stage 2 blocks",
        "stage 1 decoder",
        "stage 0 decoder",
        "head",
    ]
    assert set(counts) == set(names)
    inner = model.backbone.inner
    wanted = sum(part.numel() for part in (*inner.chunker.parameters(), *inner.skip.parameters()))
    assert parameters_by_part(model.config)["stage 1 chunker"] == wanted


def isotropic(**changes):
    return ModelConfig.from_dict({**MODELS["transformer"], **changes})


def blocks_of(config, length):
    """The blocks of a model of one stage."""
    (part,) = [part for part in model_cost(config, length, []).parts if part.name == "stage 0 blocks"]
    return part


def test_attention_by_hand():
    part = blocks_of(isotropic(layout=["t1"]), 10)
    flops = part.flops
    assert (flops.linear, flops.attention, flops.other) == (8 * 10 * 32**2, 4 * 100 * 32, 3 * 4 * 100)
    assert flops.total == flops.linear + flops.attention + flops.other


def test_grouped_queries_by_hand():
    attention = {"heads": 4, "rotary_dim": 8, "window": -1}
    alone, shared = (
        blocks_of(isotropic(layout=["t1"], attention={**attention, **more}), 10)
        for more in ({}, {"kv_heads": 1})
    )
    assert shared.flops.linear == 2 * 10 * 32 * (32 + 2 * 8 + 32)
    assert (shared.flops.attention, shared.flops.other) == (alone.flops.attention, alone.flops.other)
    assert shared.cache == alone.cache / 4 == 2 * 10 * 8 * 4
    assert alone.parameters - shared.parameters == 2 * 32 * 24


def test_hyena_keeps_inputs_and_taps():
    config = isotropic(layout=["h1"], hyena={"order": 3, "max_length": 64, "d_conv": 3})
    assert blocks_of(config, 10).cache == 4 * (2 * 10 * 32 + 2 * 10 * 32 + 2 * 4 * 32)


def test_a_window_by_hand():
    config = isotropic(layout=["t1"], attention={"heads": 4, "rotary_dim": 8, "window": 4})
    assert blocks_of(config, 10).flops.attention == 4 * 10 * 5 * 32
    assert blocks_of(config, 3).flops.attention == 4 * 3 * 3 * 32


def test_mlp_and_head_by_hand():
    with_mlp, without = (model_cost(isotropic(layout=[text]), 10, []).flops for text in ("T1", "t1"))
    assert with_mlp.linear - without.linear == 6 * 10 * 32 * 64
    head = model_cost(isotropic(), 10, []).parts[-1]
    assert (head.name, head.flops.total) == ("head", 2 * 10 * 32 * 16)


def test_mamba2_by_hand():
    config = isotropic(layout=["m1"], mamba2={"d_state": 8, "d_conv": 4, "expand": 2, "head_dim": 16})
    flops = blocks_of(config, 10).flops
    assert flops.linear == 2 * 10 * (32 * (64 + 64 + 2 * 8 + 4) + 64 * 32)
    assert flops.scan == 6 * 10 * 64 * 8 + 2 * 10 * (64 + 16) * 4
    assert flops.attention == 0


def test_compression_saves_work_inside_alone():
    config = ModelConfig.from_dict(MODELS["two stages"])
    far, near = (model_cost(config, 1200, ratio) for ratio in ([4.0, 2.0], [2.0, 2.0]))
    for one, other in zip(far.parts, near.parts, strict=True):
        if one.name in ("stage 1 chunker", "stage 2 blocks", "stage 1 encoder", "stage 1 decoder"):
            assert one.flops.linear == other.flops.linear / 2
        else:
            assert one.flops.linear == other.flops.linear


@pytest.mark.parametrize("kind", STEPPED)
def test_the_cache_of_one_sequence(kind):
    model = tiny_model(kind)
    ids = torch.randint(0, 4, (1, 30), generator=torch.Generator().manual_seed(2))
    output, compression = realised(model, ids, use_cache=True)
    assert model_cost(model.config, 30, compression).cache_bytes == pytest.approx(output.cache.bytes)


def test_memory():
    cost = model_cost(tiny_config("mamba"), 10, [])
    assert cost.weight_bytes == 4 * cost.parameters
    assert cost.training_bytes == 16 * cost.parameters


@pytest.mark.parametrize(
    ("length", "compression", "named"),
    [
        (0, [2.0], "length"),
        (5, [], "compression"),
        (5, [0.5], "compression"),
        (5, [float("nan")], "compression"),
    ],
)
def test_bad_input(length, compression, named):
    with pytest.raises(InputError, match=named):
        model_cost(tiny_config("one stage"), length, compression)


def test_chunks_of_sequences():
    """The chunks tile the letters, and their number is what the model's boundaries say."""
    model = tiny_model("two stages that widen")
    windows = ["ACGTTGCAGGATTACA" * 3, "CATTAG" * 4, "G"]
    found = measure_chunks(model, windows)
    assert len(found) == 2
    for stage in found:
        assert stage.mean * stage.chunks == pytest.approx(48 + 24 + 1)
        assert 1 <= stage.median <= stage.longest
    start, outer = model.tokenizer.start_id, []
    for window in windows:
        ids = torch.tensor([[start, *model.tokenizer.encode(window)]])
        outer.append(int(realised(model, ids)[0].boundaries[0].mask.sum()))
    assert found[0].compression == pytest.approx((49 + 25 + 2) / sum(outer))
    assert measure_chunks(tiny_model("mamba"), windows) == []
