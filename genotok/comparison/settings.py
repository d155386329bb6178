"""What a comparison of tokenizers is told."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from genotok.comparison.arms import find_arm
from genotok.errors import InputError

# What the plan, and not the user, decides for a run of `genotok train`.
DECIDED = ("shards", "model", "init", "seed", "entropy_model", "table", "data", "target_chunk_length", "task")


@dataclass
class VariantSettings:
    """Measured effects of variants that scores are compared with.

    Attributes:
        vcf: the variants.
        reference: FASTA that they lie on.
        truth: INFO field (`Number=A`) with the effects, higher = fitter.
        window: letters around a variant.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    vcf: str
    reference: str
    truth: str
    window: int = 512


@dataclass
class ProbeTable:
    """Labelled sequences that linear probes of the frozen models predict.

    Attributes:
        table: CSV, TSV, JSON lines, Parquet or FASTA.
        label: column of the classes.
        sequence: column of the sequences.
        test_fraction: share of the rows that is held out.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    table: str
    label: str
    sequence: str = "sequence"
    test_fraction: float = 0.2


@dataclass(kw_only=True)
class ComparisonSettings:
    """Settings of `genotok compare plan`.

    Attributes:
        shards: that all arms read; of a tokenizer with a token a letter.
        train: settings of `genotok train` that all arms share; `learning_rate` is that of a stage which reads every
            base and is `reference_width` wide, see `genotok.comparison.plan.learning_rate`.
        arms: their names, see `genotok.comparison.arms`; each once.
        seeds: of weights, order of windows and strands; every arm is trained once with each.
        flops_per_base: operations of training for each base that is read, the same for every arm.
        tolerance: largest relative deviation from it that a plan may have.
        chunk_length: letters a chunk that arms with one learned stage are steered to.
        chunk_lengths_two_stages: rows a chunk of the two stages of `hnet_2stage`, outermost first.
        expected_rows: rows a chunk of each stage, by arm, with which its model is sized in place of those that it is
            steered to: what a pilot run has found.
        outer_layers: Mamba-2 blocks of an encoder, and of a decoder, around a chunking stage.
        outer_share: largest share of the operations that encoder and decoder of the outermost stage take.
        entropy_share: largest share of the operations that the entropy model of the arm `entropy` takes.
        aspect: width over layers that main networks come close to.
        reference_width: see `train`.
        tokenizers: folder with `bpe_N.json` of `genotok bpe`, for arms that need them.
        block: bases of a contig that are drawn together in the bootstrap.
        draws: bootstrap samples.
        sites: places at which the stability of boundaries is looked at; 0 leaves it out.
        variants, probe: further measures; None leaves them out.
        evaluate_batch_size: windows a batch in evaluation.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    shards: str
    train: dict[str, Any]
    arms: list[str]
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3])
    flops_per_base: float
    tolerance: float = 0.03
    chunk_length: float = 4.0
    expected_rows: dict[str, list[float]] = field(default_factory=dict)
    chunk_lengths_two_stages: list[float] = field(default_factory=lambda: [3.0, 2.0])
    outer_layers: int = 2
    outer_share: float = 0.4
    entropy_share: float = 0.1
    aspect: float = 40.0
    reference_width: int = 256
    tokenizers: str = "."
    block: int = 20_000
    draws: int = 1000
    sites: int = 256
    variants: VariantSettings | None = None
    probe: ProbeTable | None = None
    evaluate_batch_size: int = 16

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for name in self.arms:
            find_arm(name)
        if len(set(self.arms)) < len(self.arms) or len(self.arms) < 2:
            raise InputError("arms: should name at least two arms, each once")
        if len(set(self.seeds)) < len(self.seeds) or not self.seeds:
            raise InputError("seeds: should hold at least one seed, each once")
        if len(self.chunk_lengths_two_stages) != 2:
            raise InputError("chunk_lengths_two_stages: should hold two lengths")
        for key in ("chunk_length", "flops_per_base", "aspect"):
            if not getattr(self, key) > 1:
                raise InputError(f"{key}: is {getattr(self, key)} and must be more than 1")
        for key in ("outer_layers", "reference_width", "block", "draws", "evaluate_batch_size"):
            if getattr(self, key) < 1:
                raise InputError(f"{key}: is {getattr(self, key)} and must be at least 1")
        for key in ("tolerance", "outer_share", "entropy_share"):
            if not 0 < getattr(self, key) < 1:
                raise InputError(f"{key}: is {getattr(self, key)} and must be between 0 and 1")
        for key in DECIDED:
            if key in self.train:
                raise InputError(f"train.{key}: is what the plan decides; leave it out")
        for key in ("steps", "batch_size", "learning_rate"):
            if key not in self.train:
                raise InputError(f"train.{key}: this key is needed")
