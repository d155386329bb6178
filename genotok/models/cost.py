"""What a model costs: parameters, floating-point operations and memory, by part.

A multiply-add counts as 2 operations. The formulas are those of H-Net's appendix B (arXiv 2507.07955), per layer and
forward pass, with what is wrong there put right: Mamba-2's output projection reads `expand` x width features, its
convolution runs over x, B and C, the gates act on the widened features, and a lookup in the embedding is no product.
As there, causal attention is not halved; a sliding window counts as the rows that it holds. The state-space scan
counts as its recurrence, which kernels that work by blocks exceed or undercut. Norms and additions to the residual
stream are left out.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log2, prod

import torch
from torch import Tensor

from genotok.errors import InputError
from genotok.models.chunkers.spans import chunk_lengths
from genotok.models.config import ModelConfig
from genotok.models.language_model import GenomicLM
from genotok.models.layout import BlockLayout
from genotok.models.positions import GLOBAL_FEATURES, PLACE_FEATURES
from genotok.models.saved import without_numbers

FLOAT, DOUBLE, POSITION = 4, 8, 8  # bytes
TRAINING_FLOATS = 4  # a parameter, its gradient, and AdamW's two moments
ENTROPY_MODEL = "entropy model"


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of a forward pass.

    Attributes:
        linear: products with weights.
        attention: products of queries with keys, and of attention weights with values.
        scan: state-space and moving-average recurrences, and convolutions.
        other: softmax, gates, cosines.
    """

    linear: float = 0.0
    attention: float = 0.0
    scan: float = 0.0
    other: float = 0.0

    @property
    def total(self) -> float:
        """The sum."""
        return self.linear + self.attention + self.scan + self.other

    def __add__(self, more: "Flops") -> "Flops":
        return Flops(
            self.linear + more.linear,
            self.attention + more.attention,
            self.scan + more.scan,
            self.other + more.other,
        )


@dataclass(frozen=True)
class Part:
    """One part of a model.

    Attributes:
        name: `entropy model`, `embedding`, `stage S encoder`, `stage S chunker` (chunker, skip, chunk states,
            upsampler), `stage S blocks` (the innermost stage), `stage S decoder`, `head`, and `heads` of the task
            `prediction` where there are any.
        parameters: their number; tied weights count once, with the embedding.
        flops: of a forward pass over one sequence.
        cache: bytes of the generation cache of one sequence in float32.
    """

    name: str
    parameters: int
    flops: Flops
    cache: float


@dataclass(frozen=True)
class ModelCost:
    """What a forward pass over one sequence costs.

    Attributes:
        length: tokens of the sequence.
        compression: for each chunking stage, how many of its rows make one chunk.
        parts: in the order in which they are run.
    """

    length: int
    compression: list[float]
    parts: list[Part]

    @property
    def parameters(self) -> int:
        """Of the whole model."""
        return sum(part.parameters for part in self.parts)

    @property
    def flops(self) -> Flops:
        """Of the whole pass."""
        return sum((part.flops for part in self.parts), Flops())

    @property
    def weight_bytes(self) -> int:
        """The weights in float32."""
        return FLOAT * self.parameters

    @property
    def training_bytes(self) -> int:
        """Weights, gradients and the moments of AdamW in float32; activations come on top.

        Of an entropy model the weights alone, since it is frozen.
        """
        frozen = sum(part.parameters for part in self.parts if part.name == ENTROPY_MODEL)
        return FLOAT * (TRAINING_FLOATS * (self.parameters - frozen) + frozen)

    @property
    def cache_bytes(self) -> float:
        """The generation cache of one sequence of `length` tokens in float32."""
        return sum(part.cache for part in self.parts)


def model_cost(config: ModelConfig, length: int, compression: Sequence[float]) -> ModelCost:
    """Count what a model costs on one sequence.

    Args:
        config: the architecture.
        length: tokens of the sequence.
        compression: for each chunking stage, outermost first, how many of its rows make one chunk.

    Raises:
        InputError: the length or the compression fits no sequence of this model.
    """
    parameters = parameters_by_part(config)
    parts = [
        Part(name, parameters[name], *cost) for name, cost in _part_costs(config, length, compression).items()
    ]
    return ModelCost(length, list(compression), parts)


def training_flops(config: ModelConfig, length: int, compression: Sequence[float]) -> float:
    """Operations of a forward and a backward pass over one sequence, the latter counted as two of the former.

    An entropy model is run forward alone. Arguments and errors are those of `model_cost`.
    """
    costs = _part_costs(config, length, compression)
    return sum(flops.total * (1 if name == ENTROPY_MODEL else 3) for name, (flops, _) in costs.items())


def _part_costs(
    config: ModelConfig, length: int, compression: Sequence[float]
) -> dict[str, tuple[Flops, float]]:
    """Operations and cache bytes of all parts."""
    stages = config.stage_layout.depth - 1
    if length < 1:
        raise InputError(f"length: {length} should be at least 1")
    if len(compression) != stages or any(not ratio >= 1 for ratio in compression):
        raise InputError(
            f"compression: {list(compression)} should be {stages} numbers, one a chunking stage, each at least 1"
        )
    costs = {"embedding": (Flops(), 0.0), **_stage_costs(config, length, compression)}
    entropy_config = config.entropy_model
    if entropy_config is not None:
        own = model_cost(entropy_config, length, [])
        costs = {ENTROPY_MODEL: (own.flops, own.cache_bytes), **costs}
    width = config.d_model[0]
    dense = width if config.head == "roberta" else 0
    costs["head"] = (Flops(linear=2.0 * length * width * (config.vocab_size + dense)), 0.0)
    if config.heads:
        costs["heads"] = (_prediction_heads(config, length), 0.0)
    return costs


def _stage_costs(
    config: ModelConfig, length: int, compression: Sequence[float]
) -> dict[str, tuple[Flops, float]]:
    """Operations and cache bytes of the parts of all stages, in the order in which they are run."""
    layout, before, behind = config.stage_layout, {}, {}
    for s in range(layout.depth):
        rows = max(1.0, length / prod(compression[:s]))
        flops, cache = _blocks(layout.encoder, config, s, rows)
        if config.positions[s]:
            flops += Flops(linear=2.0 * rows * GLOBAL_FEATURES * config.d_model[s])
        if s == 0 and any(config.positions):
            cache += POSITION
        before[f"stage {s} {'encoder' if layout.inner else 'blocks'}"] = flops, cache
        if layout.inner is None:
            break
        before[f"stage {s} chunker"] = _chunker(config, s, rows, rows / compression[s])
        behind = {f"stage {s} decoder": _blocks(layout.decoder, config, s, rows), **behind}
        layout = layout.inner
    return before | behind


def _prediction_heads(config: ModelConfig, length: int) -> Flops:
    """Operations of all heads of the task `prediction`."""
    linear = other = 0.0
    for head in config.heads.values():
        width, rows = config.d_model[0], length if head.per == "nucleotide" else 1
        inner = head.hidden or width
        linear += 2.0 * rows * (width * head.hidden + inner * head.outputs)
        if head.per == "sequence":
            other += 2.0 * length * width * (1 + (head.pool == "attention"))
    return Flops(linear=linear, other=other)


def _chunker(config: ModelConfig, stage: int, rows: float, chunks: float) -> tuple[Flops, float]:
    """Operations and cache bytes of a stage's chunker, skip connection, chunk states, upsampler and positions."""
    width, kind = config.d_model[stage], config.chunkers[stage]["kind"]
    products = 1 + {"routing": 2, "merge": 1}.get(kind, 0)
    flops = Flops(
        linear=2.0 * products * rows * width**2,
        scan=3.0 * rows * width * (kind == "merge"),
        other=6.0 * rows * width * (kind in ("routing", "merge")),
    )
    merging = FLOAT * width + 2 * DOUBLE + 2 * POSITION
    unsure = 2 * (FLOAT + POSITION)
    kept = {"routing": FLOAT * width, "static": POSITION, "merge": merging, "entropy": unsure}.get(kind, 0)
    if config.positions[stage]:
        flops += Flops(linear=2.0 * rows * width * PLACE_FEATURES)
    states, of_states = _chunk_states(config, stage, rows, chunks)
    upsampler, of_upsampler = _upsampler(config, stage, rows, chunks)
    of_places = 2 * POSITION if any(config.positions) else 0
    return flops + states + upsampler, float(kept + of_states + of_upsampler + of_places)


def _chunk_states(config: ModelConfig, stage: int, rows: float, chunks: float) -> tuple[Flops, int]:
    width, kind = config.d_model[stage], config.chunk_states[stage]
    if kind == "cross_attention":
        linear = 4.0 * (rows + chunks) * width**2
        return Flops(linear=linear, attention=4.0 * rows * width), FLOAT * (
            3 * width + 2 * config.attention.heads[stage]
        )
    if kind == "mean":
        return Flops(other=rows * width), FLOAT * width + POSITION
    return Flops(), 0


def _upsampler(config: ModelConfig, stage: int, rows: float, chunks: float) -> tuple[Flops, int]:
    width, settings = config.d_model[stage], config.upsamplers[stage]
    if isinstance(settings, dict):
        near = settings["window"]
        linear, attention = 4.0 * (rows + chunks) * width**2, 4.0 * rows * near * width
        return Flops(linear=linear, attention=attention), FLOAT * 2 * near * width + POSITION
    return Flops(scan=3.0 * chunks * width * (settings == "ema")), FLOAT * width


def _blocks(
    blocks: tuple[BlockLayout, ...], config: ModelConfig, stage: int, rows: float
) -> tuple[Flops, float]:
    flops, cache = Flops(), 0.0
    for block in blocks:
        of_mixer, kept = MIXER_COSTS[block.mixer](config, stage, rows)
        flops, cache = flops + of_mixer, cache + kept
        if block.mlp:
            inner = config.d_intermediate[stage]
            matrices = 3 if config.mlp == "swiglu" else 2
            linear = 2.0 * matrices * rows * config.d_model[stage] * inner
            flops += Flops(linear=linear, other=5.0 * rows * inner)
    return flops, cache


def attention_cost(config: ModelConfig, stage: int, rows: float) -> tuple[Flops, float]:
    """Operations and cache bytes of one attention mixer over a sequence of `rows`."""
    width, window = config.d_model[stage], config.attention.window[stage]
    heads = config.attention.heads[stage]
    key_width = width // heads * config.attention.kv_heads_of(stage)
    seen = rows if window < 0 else min(rows, window + 1)
    flops = Flops(
        linear=4.0 * rows * width * (width + key_width),
        attention=4.0 * rows * seen * width,
        other=3.0 * heads * rows * seen,
    )
    return flops, 2.0 * FLOAT * seen * key_width


def mamba2_cost(config: ModelConfig, stage: int, rows: float) -> tuple[Flops, float]:
    """Operations and cache bytes of one Mamba-2 mixer over a sequence of `rows`."""
    width, sizes = config.d_model[stage], config.mamba2
    inner, states = width * sizes.expand, sizes.d_state
    heads, channels = inner // sizes.head_dim, inner + 2 * states
    flops = Flops(
        linear=2.0 * rows * width * (inner + channels + heads) + 2.0 * rows * inner * width,
        scan=6.0 * rows * inner * states + 2.0 * rows * channels * sizes.d_conv,
        other=5.0 * rows * inner,
    )
    return flops, float(FLOAT * ((sizes.d_conv - 1) * channels + inner * states))


def hyena_cost(config: ModelConfig, stage: int, rows: float) -> tuple[Flops, float]:
    """Operations and cache bytes of one Hyena mixer over a sequence of `rows`.

    A transform of n real numbers counts as 2.5 n log2 n. The filters are written once a pass, and counted in full.
    The cache holds them beside what they have read; the sequences of a batch share them.
    """
    width, sizes = config.d_model[stage], config.hyena
    filters, channels = sizes.order - 1, (sizes.order + 1) * width
    written = sizes.d_filter * (sizes.d_position + sizes.filter_layers * sizes.d_filter + filters * width)
    padded = 2 * rows
    transforms = 3 * filters * width * 2.5 * padded * log2(padded)
    flops = Flops(
        linear=2.0 * rows * width * (channels + width) + 2.0 * rows * written,
        scan=transforms + 2.0 * rows * channels * sizes.d_conv,
        other=3.0 * rows * filters * width + rows * width,
    )
    return flops, FLOAT * (2.0 * rows * filters * width + (sizes.d_conv - 1) * channels)


MixerCost = Callable[[ModelConfig, int, float], tuple[Flops, float]]
MIXER_COSTS: dict[str, MixerCost] = {"attention": attention_cost, "mamba2": mamba2_cost, "hyena": hyena_cost}


def parameters_by_part(config: ModelConfig) -> dict[str, int]:
    """The number of parameters of each part, by the names of `Part`."""
    with without_numbers():
        model = GenomicLM(config)
    counts = {"embedding": 0, "head": 0}
    for key, parameter in model.named_parameters():
        name = part_of_parameter(key, config.stage_layout.depth)
        counts[name] = counts.get(name, 0) + parameter.numel()
    return counts


def part_of_parameter(key: str, stages: int) -> str:
    """The part that a parameter belongs to, of a model of so many stages."""
    found = re.match(r"backbone\.((?:inner\.)*)(\w+)", key)
    if found is None:
        return key.split(".")[0].replace("_", " ")
    stage, module = found[1].count("inner."), found[2]
    if stage == stages - 1:
        return f"stage {stage} blocks"
    of_chunker = dict.fromkeys(("skip", "states", "upsampler", "chunk_positions"), "chunker")
    parts = {"widening": "encoder", "positions": "encoder", **of_chunker}
    return f"stage {stage} {parts.get(module, module)}"


@dataclass(frozen=True)
class ChunkStatistics:
    """The chunks of one stage in given sequences.

    Attributes:
        compression: rows of the stage a chunk.
        chunks: their number.
        mean, median, longest: their lengths in tokens, start tokens not counted.
    """

    compression: float
    chunks: int
    mean: float
    median: float
    longest: int


@torch.no_grad()
def measure_chunks(model: GenomicLM, windows: Sequence[str]) -> list[ChunkStatistics]:
    """Run a model on windows of letters, one by one, and count its chunks; one entry a chunking stage."""
    start = model.tokenizer.start_id
    rows, chunks, lengths = [], [], []
    for window in windows:
        ids = [start] * (start is not None) + model.tokenizer.encode_letters(window.encode()).tolist()
        boundaries = model(torch.tensor([ids], device=model.device)).packed_boundaries
        rows.append([stage.ragged.total for stage in boundaries])
        chunks.append([int(stage.mask.sum()) for stage in boundaries])
        lengths.append(chunk_lengths(boundaries, int(start is not None)) if boundaries else [])
    return [
        _statistics(sum(of_rows) / sum(of_chunks), torch.cat(of_lengths))
        for of_rows, of_chunks, of_lengths in zip(
            *(zip(*part, strict=True) for part in (rows, chunks, lengths)), strict=True
        )
    ]


def _statistics(compression: float, lengths: Tensor) -> ChunkStatistics:
    middle = lengths.double().quantile(0.5).item()
    return ChunkStatistics(
        compression, len(lengths), lengths.double().mean().item(), middle, int(lengths.max())
    )
