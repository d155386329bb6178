"""What a training run is told."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from genotok.errors import InputError
from genotok.training.curriculum import changes_of, check_schedule, value_at

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "fp8")
WHERE_DATA_LIE = ("shards", "init", "entropy_model")
# Settings that change the weights by the rounding of sums alone, or not at all.
CHECKPOINTING = ("none", "light", "projections", "blocks")  # values of `activation_checkpointing`
HOW_IT_RUNS = (
    *("accumulate", "parallel", "rank_timeout", "activation_checkpointing", "compile"),
    *("chunk_capacity", "cuda_graph", "checkpoint_every", "keep_checkpoints", "keep_best", "loader_workers"),
)


@dataclass
class TableConfig:
    """Labelled sequences to train the task `prediction` on.

    Attributes:
        train, valid: tables, see `genotok.shards.tables.read_table`; all of `valid` is looked at in a validation.
        labels: the column of each head, by the head's name; a list of columns for a head with several outputs.
        sequence: the column with the sequences.
        max_length: letters of a sequence that are read; those behind them are left out. None for all.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    train: str
    labels: dict[str, str | list[str]]
    valid: str | None = None
    sequence: str = "sequence"
    max_length: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.max_length is not None and self.max_length < 1:
            raise InputError(f"table.max_length: is {self.max_length!r} and must be at least 1")
        if not self.labels:
            raise InputError("table.labels: must name the column of at least one head")


@dataclass(kw_only=True)
class DataConfig:
    """One data set of a run.

    Attributes:
        shards: folder with `manifest.json`, for `lm` and `mlm`; either these or a table.
        table: labelled sequences, for `prediction`.
        name: what it is called in `metrics.jsonl`; None for the name of the folder or the table.
        task: as that of the run.
        weight: share of the steps that read it, against the weights of the others; or a schedule.
        batch_size: windows, or rows, a step; None for that of the run.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    shards: str | None = None
    table: TableConfig | None = None
    name: str | None = None
    task: str | None = None
    weight: float | dict[int, float] = 1.0
    batch_size: int | None = None

    def check(self, key: str, steps: int) -> None:
        """Refuse what cannot be; sentences begin with `key`."""
        if (self.shards is None) == (self.table is None):
            raise InputError(f"{key}: needs either `shards` or `table`")
        if self.name is None:
            self.name = Path(self.shards or self.table.train).name.split(".")[0]
        known, what = (None, "prediction"), "prediction with a table"
        if self.table is None:
            known, what = (None, "lm", "mlm"), "lm or mlm with shards"
        if self.task not in known:
            raise InputError(f"{key + '.' if key else ''}task: is {self.task!r} and must be {what}")
        check_schedule(f"{key}.weight", self.weight, steps, lambda weight: weight >= 0, "at least 0")
        if self.batch_size is not None and self.batch_size < 1:
            raise InputError(f"{key}.batch_size: is {self.batch_size!r} and must be at least 1")


@dataclass
class MainNetwork:
    """Published layers that the model's innermost stage begins with; see `genotok.pretrained.load_ntv2_weights`.

    Attributes:
        ntv2: folder or file with weights of Nucleotide Transformer v2.
        freeze: whether training leaves them as they are.
        layers: the checkpoint's layer for each block; None spreads them evenly.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    ntv2: str
    freeze: bool = False
    layers: list[int] | None = None


@dataclass
class LoraConfig:
    """Adapters that learn in place of the weights; see `genotok.training.lora`.

    Attributes:
        rank: of the product that is added to a weight.
        alpha: the product is multiplied by alpha / rank.
        targets: names of linear layers of the backbone, as patterns.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    rank: int = 8
    alpha: float = 16.0
    targets: list[str] = field(default_factory=lambda: ["backbone.*"])

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.rank < 1:
            raise InputError(f"lora.rank: is {self.rank!r} and must be at least 1")
        if self.alpha <= 0:
            raise InputError(f"lora.alpha: is {self.alpha!r} and must be more than 0")


@dataclass(kw_only=True)
class TrainConfig:
    """Settings of `genotok train`; every one can stand in CONFIG.yaml.

    Attributes:
        shards: folder with `manifest.json`, for the tasks `lm` and `mlm`.
        table: labelled sequences, for the task `prediction`; either these or shards.
        data: several data sets in place of `shards` or `table`; each step reads one of them, drawn by their weights
            from seed and step.
        model: a preset's name, a path to a model configuration in JSON, or the configuration itself; with `init`
            the keys of its configuration that change, if any.
        init: folder of a model to start from. Heads whose configuration is the same are taken over, other heads
            are new; all other weights must fit.
        main_network: published layers for the model's innermost stage; None leaves its weights as they are.
        freeze_backbone: whether only the heads learn.
        freeze: weights that do not learn, by patterns of their names in `model.safetensors`.
        lora: adapters that learn in place of the weights; None for none.
        task: `lm`, `mlm` or `prediction`; None for `prediction` with a table, and with shards for that of `lm`
            and `mlm` which the model names first.
        mask_probability, mask_span: share of the tokens that `mlm` hides (or a schedule, see
            `genotok.training.curriculum`), and the mean length of a hidden run.
        soft_mask_weight: what a soft-masked letter counts in the training loss of `lm` and `mlm`, against 1.
        window_length: letters of the windows that training reads, cut from those of the shards or joined of them; or
            a schedule. None for those of the shards.
        bases_per_step: letters a step; with it the windows are as many as are in so many letters, whatever
            `batch_size` is.
        label_smoothing: share of the labels of `lm` and `mlm` that the training loss spreads over the vocabulary.
        steps: optimizer steps.
        entropy_model: folder of the model whose entropies the chunker `entropy` cuts by, needed with this chunker;
            it becomes a frozen part of the trained model. A model from `init` brings its own.
        batch_size: windows, or rows of the table, a step, over all ranks.
        accumulate: micro batches that each rank runs one after the other for a step; saves memory.
        parallel: how ranks share the model: `ddp`, each has all of it; `fsdp`, each a part of every weight; `auto` is
            `ddp`.
        rank_timeout: seconds after which a rank that does not answer is lost.
        learning_rate: of the innermost stage, at the plateau.
        stage_learning_rates: factor on the learning rate of each stage, outermost first; None derives them
            from the target chunk lengths and the widths (H-Net, arXiv 2507.07955, section 2.3).
        warmup, decay: fractions of the steps over which the learning rate rises and falls.
        weight_decay: of the weight matrices; norms, biases, embeddings and state-space parameters have none.
        beta1, beta2: of AdamW.
        clip: largest norm of the gradient.
        target_chunk_length: tokens a chunk that the ratio loss steers each stage to, one value a chunking stage;
            the value of a stage whose chunker learns nothing is ignored. A schedule has such a list from each step.
            None for 3 at every stage, see `with_chunk_lengths`.
        ratio_weight: weight of the ratio loss; 0.03 is reported to make training on DNA unstable.
        both_strands: whether sequences are read from either strand; None for windows yes, rows of a table no.
        seed: of weights and order.
        device: `auto`, `cpu`, `cuda` or a device of torch.
        activation_checkpointing: what the backward pass works out again and the forward pass does not keep until
            then: `none`; `light`, what only moves memory (norms, gates, short convolutions, rotations);
            `projections`, the products of rows with weights as well, so that residual streams, scans and attention
            are kept; or `blocks`, all but what enters a block. Each keeps less than the one before it and takes more
            time.
        compile: whether `torch.compile` makes kernels of norms and MLPs.
        chunk_capacity: how many chunks there is room for, as a share of the rows of each chunking stage, outermost
            first. Chunks are filled up to so many, so that the host never waits for their number and all shapes stay
            as they are; a step that makes more is done again at its exact size. None for exact sizes throughout.
        cuda_graph: whether forward and backward passes of `lm` and `mlm` over windows of one length are recorded as
            CUDA graphs and replayed, see `genotok.training.recorded_passes`. On one GPU; models with chunks need
            `chunk_capacity`.
        precision: `fp32`, `bf16`, `fp16` with loss scaling, `fp8` in the main network and bf16 elsewhere, or
            `auto` for the preset of the task, see `genotok.training.precision.choose_precision`.
        threads: threads on the CPU; part of the run, since sums depend on it.
        log_every, validate_every, checkpoint_every: in steps; 0 leaves it to the end.
        validation_windows: how many windows of the split `valid` of each data set are looked at each time.
        loader_workers: processes that make batches ahead; 0 makes them between the steps.
        keep_checkpoints: how many of the latest are kept.
        keep_best: how many of the models with the best validations are kept, in the folder `best`.
        best_by: the key of a validation that tells which is best, of several data sets behind a name and a point;
            None for that of the task, and of the first data set that has a validation.
        patience: validations in a row without a better one after which the run ends, and its model is the best one;
            0 for never.
        ema_decay: of a moving average of the weights, which then is what is validated and saved; 0 for none.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    steps: int
    shards: str | None = None
    table: TableConfig | None = None
    data: list[DataConfig] | None = None
    model: str | dict[str, Any] | None = None
    init: str | None = None
    freeze_backbone: bool = False
    freeze: list[str] = field(default_factory=list)
    lora: LoraConfig | None = None
    task: str | None = None
    mask_probability: float | dict[int, float] = 0.15
    mask_span: float = 1.0
    soft_mask_weight: float = 1.0
    window_length: int | dict[int, int] | None = None
    bases_per_step: int | None = None
    label_smoothing: float = 0.0
    entropy_model: str | None = None
    batch_size: int = 16
    accumulate: int = 1
    parallel: str = "auto"
    rank_timeout: float = 600.0
    learning_rate: float = 1e-3
    stage_learning_rates: list[float] | None = None
    warmup: float = 0.1
    decay: float = 0.2
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    clip: float = 1.0
    target_chunk_length: list[float] | dict[int, list[float]] | None = None
    ratio_weight: float = 0.02
    both_strands: bool | None = None
    seed: int = 1
    device: str = "auto"
    activation_checkpointing: str = "none"
    compile: bool = False
    chunk_capacity: list[float] | None = None
    cuda_graph: bool = False
    precision: str = "auto"
    threads: int = 2
    log_every: int = 10
    validate_every: int = 0
    checkpoint_every: int = 0
    validation_windows: int = 64
    loader_workers: int = 0
    keep_checkpoints: int = 2
    keep_best: int = 0
    best_by: str | None = None
    patience: int = 0
    ema_decay: float = 0.0
    main_network: MainNetwork | None = None

    def __post_init__(self) -> None:
        """Refuse values outside their range, naming the key."""
        self._need("steps", self.steps >= 1, "at least 1")
        self._check_data_and_task()
        at_least_1 = ("batch_size", "accumulate", "threads", "log_every", "validation_windows")
        for key in (*at_least_1, "keep_checkpoints"):
            self._need(key, getattr(self, key) >= 1, "at least 1")
        at_least_0 = ("validate_every", "checkpoint_every", "keep_best", "patience", "weight_decay")
        for key in (*at_least_0, "ratio_weight", "seed", "loader_workers"):
            self._need(key, getattr(self, key) >= 0, "at least 0")
        for key in ("learning_rate", "clip", "rank_timeout"):
            self._need(key, getattr(self, key) > 0, "more than 0")
        for key in ("warmup", "decay", "beta1", "beta2", "ema_decay"):
            self._need(key, 0 <= getattr(self, key) < 1, "from 0 to less than 1")
        self._need("decay", self.warmup + self.decay <= 1, "at most 1 together with warmup")
        self._need("patience", not self.patience or self.validate_every > 0, "0 without validate_every")
        known = f"{', '.join(CHECKPOINTING[:-1])} or {CHECKPOINTING[-1]}"
        self._need("activation_checkpointing", self.activation_checkpointing in CHECKPOINTING, known)
        self._need("parallel", self.parallel in ("auto", "ddp", "fsdp"), "auto, ddp or fsdp")
        self._need("precision", self.precision in PRECISIONS, "auto, fp32, bf16, fp16 or fp8")
        self._check_schedules()
        shares = self.chunk_capacity or []
        self._need("chunk_capacity", all(0 < share <= 1 for share in shares), "more than 0 and at most 1")
        factors = self.stage_learning_rates or []
        self._need("stage_learning_rates", all(factor > 0 for factor in factors), "more than 0")

    def _check_data_and_task(self) -> None:
        given = [key for key in ("shards", "table", "data") if getattr(self, key) is not None]
        if not given:
            raise InputError("shards: this key is needed, or else `table` or `data`")
        if len(given) > 1:
            raise InputError(f"{given[1]}: stands beside `{given[0]}`, and a run has either")
        if self.model is None and self.init is None:
            raise InputError("model: this key is needed, or else `init`")
        if self.init is not None and isinstance(self.model, str):
            raise InputError(f"model: is {self.model!r}, and beside `init` it can only hold keys that change")
        self._check_data_sets()
        only_tables = all(part.table is not None for part in self.data_sets)
        self._need("freeze_backbone", not self.freeze_backbone or only_tables, "false without a table")
        self._need("mask_span", self.mask_span >= 1, "at least 1")
        self._need("label_smoothing", 0 <= self.label_smoothing < 1, "from 0 to less than 1")
        self._need("soft_mask_weight", 0 <= self.soft_mask_weight <= 1, "from 0 to 1")
        if self.patience:
            self.keep_best = max(self.keep_best, 1)
        if self.both_strands is None and self.data is None:
            self.both_strands = self.table is None

    @property
    def data_sets(self) -> list[DataConfig]:
        """The data sets of the run, one where `shards` or `table` names it; its name is then empty."""
        return self.data or [DataConfig(shards=self.shards, table=self.table, name="", task=self.task)]

    def _check_data_sets(self) -> None:
        if self.data is None:
            self.data_sets[0].check("", self.steps)
            return
        if self.task is not None:
            raise InputError("task: each part of `data` has its own")
        self._need("data", len(self.data) >= 1, "a list with one data set or more")
        for number, part in enumerate(self.data):
            part.check(f"data[{number}]", self.steps)
            if part.name in {other.name for other in self.data[:number]}:
                raise InputError(f"data[{number}].name: {part.name!r} is that of another part as well")
        for step in changes_of((part.weight for part in self.data), self.steps)[:-1]:
            if not sum(value_at(part.weight, step) for part in self.data) > 0:
                raise InputError(f"data: all weights are 0 from step {step} on")

    def _check_schedules(self) -> None:
        def check(key: str, holds, what: str) -> None:
            check_schedule(key, getattr(self, key), self.steps, holds, what)

        check("mask_probability", lambda share: 0 < share < 1, "more than 0 and less than 1")
        if self.target_chunk_length is not None:
            check(
                "target_chunk_length", lambda found: all(x > 1 for x in found), "more than 1 in every stage"
            )
        if self.window_length is not None:
            check("window_length", lambda letters: letters >= 1, "at least 1")
        if self.bases_per_step is not None:
            self._need("bases_per_step", self.bases_per_step >= 1, "at least 1")

    def _need(self, key: str, holds: bool, what: str) -> None:
        if not holds:
            raise InputError(f"{key}: is {getattr(self, key)!r} and must be {what}")

    def with_chunk_lengths(self, stages: int) -> "TrainConfig":
        """These settings for a model of so many chunking stages, each steered to 3 tokens a chunk unless told."""
        if self.target_chunk_length is not None:
            return self
        return replace(self, target_chunk_length=[3.0] * stages)

    def identity(self) -> dict[str, Any]:
        """The settings that change the weights or the metrics, as JSON values; a run resumes only with the same."""
        values = asdict(self)
        for key in (*WHERE_DATA_LIE, *HOW_IT_RUNS):
            values.pop(key)
        for part in (values, *(values["data"] or [])):
            if part["table"] is not None:
                part["table"] = {k: v for k, v in part["table"].items() if k not in ("train", "valid")}
        for part in values["data"] or []:
            part.pop("shards")
        main_network = values.pop("main_network")
        if main_network:  # the weights themselves count, not where they lie
            values["main_network"] = {key: main_network[key] for key in ("freeze", "layers")}
        return values
