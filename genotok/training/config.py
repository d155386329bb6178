"""What a training run is told."""

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from genotok.errors import InputError


@dataclass
class TrainConfig:
    """Settings of `genotok train`; every one can stand in CONFIG.yaml.

    Attributes:
        shards: folder with `manifest.json`.
        model: a preset's name, a path to a model configuration in JSON, or the configuration itself.
        steps: optimizer steps.
        entropy_model: folder of the model whose entropies the chunker `entropy` cuts by, needed with this chunker;
            it becomes a frozen part of the trained model.
        batch_size: windows a step.
        learning_rate: of the innermost stage, at the plateau.
        stage_learning_rates: factor on the learning rate of each stage, outermost first; None derives them
            from the target chunk lengths and the widths (H-Net, arXiv 2507.07955, section 2.3).
        warmup, decay: fractions of the steps over which the learning rate rises and falls.
        weight_decay: of the weight matrices; norms, biases, embeddings and state-space parameters have none.
        beta1, beta2: of AdamW.
        clip: largest norm of the gradient.
        target_chunk_length: tokens a chunk that the ratio loss steers each stage to, one value a chunking stage;
            the value of a stage whose chunker learns nothing is ignored.
        ratio_weight: weight of the ratio loss; over 0.02 has been seen to destabilise DNA.
        both_strands: whether windows are read from either strand.
        seed: of weights and order.
        device: `auto`, `cpu`, `cuda` or a device of torch.
        precision: `auto` (bf16 on a GPU, fp32 elsewhere), `fp32` or `bf16`.
        threads: threads on the CPU; part of the run, since sums depend on it.
        log_every, validate_every, checkpoint_every: in steps; 0 leaves it to the end.
        validation_windows: how many windows of the split `valid` are looked at each time.
        keep_checkpoints: how many of the latest are kept.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    shards: str
    model: str | dict[str, Any]
    steps: int
    entropy_model: str | None = None
    batch_size: int = 16
    learning_rate: float = 1e-3
    stage_learning_rates: list[float] | None = None
    warmup: float = 0.1
    decay: float = 0.2
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    clip: float = 1.0
    target_chunk_length: list[float] = field(default_factory=lambda: [3.0])
    ratio_weight: float = 0.02
    both_strands: bool = True
    seed: int = 1
    device: str = "auto"
    precision: str = "auto"
    threads: int = 2
    log_every: int = 10
    validate_every: int = 0
    checkpoint_every: int = 0
    validation_windows: int = 64
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        """Refuse values outside their range, naming the key."""
        for key in ("steps", "batch_size", "threads", "log_every", "validation_windows", "keep_checkpoints"):
            self._need(key, getattr(self, key) >= 1, "at least 1")
        for key in ("validate_every", "checkpoint_every", "weight_decay", "ratio_weight", "seed"):
            self._need(key, getattr(self, key) >= 0, "at least 0")
        for key in ("learning_rate", "clip"):
            self._need(key, getattr(self, key) > 0, "more than 0")
        for key in ("warmup", "decay", "beta1", "beta2"):
            self._need(key, 0 <= getattr(self, key) < 1, "from 0 to less than 1")
        self._need("decay", self.warmup + self.decay <= 1, "at most 1 together with warmup")
        self._need("precision", self.precision in ("auto", "fp32", "bf16"), "auto, fp32 or bf16")
        lengths = self.target_chunk_length
        self._need("target_chunk_length", all(length > 1 for length in lengths), "more than 1 in every stage")
        factors = self.stage_learning_rates or []
        self._need("stage_learning_rates", all(factor > 0 for factor in factors), "more than 0")

    def _need(self, key: str, holds: bool, what: str) -> None:
        if not holds:
            raise InputError(f"{key}: is {getattr(self, key)!r} and must be {what}")

    def identity(self) -> dict[str, Any]:
        """The settings that change the weights or the metrics, as JSON values; a run resumes only with the same."""
        values = asdict(self)
        for key in ("shards", "entropy_model", "checkpoint_every", "keep_checkpoints"):
            values.pop(key)
        return values
