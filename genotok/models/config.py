"""What a model is, as JSON that a person can read."""

import json
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from genotok.errors import InputError
from genotok.models.chunkers.settings import (
    ROUTING,
    check_chunk_states,
    check_chunkers,
    check_upsamplers,
)
from genotok.models.config_values import check_keys, is_a, per_stage, section
from genotok.models.heads import HEADS
from genotok.models.hnet_json import from_hnet_json
from genotok.models.layout import StageLayout, parse_layout
from genotok.models.mixer_config import AttentionConfig, HyenaConfig, Mamba2Config
from genotok.models.mlps import MLPS
from genotok.models.norms import NORMS
from genotok.models.positions import PERIODS
from genotok.models.prediction_heads import HeadConfig, check_head_name
from genotok.models.reasonable import reasonable_values
from genotok.tokenizers import load_tokenizer

MODEL_TYPE = "genotok"
# Keys of a saved `config.json` that describe no architecture; transformers finds its classes by the first two.
_NOT_ARCHITECTURE = {"model_type", "architectures", "transformers_version", "dtype", "torch_dtype"}
_CHOICES = {"norm": NORMS, "mlp": MLPS, "head": HEADS}
STAGE_DEFAULTS = {"chunkers": ROUTING, "chunk_states": "select", "upsamplers": "ema", "positions": None}
TASKS = ("lm", "mlm", "prediction")
DIRECTIONS = ("causal", "bidirectional")


@dataclass
class ModelConfig:
    """Everything that fixes a model's architecture.

    Attributes:
        layout: nested list of blocks, see `genotok.models.layout`.
        d_model: width of each stage, outermost first; must not fall.
        d_intermediate: width of the MLP in each stage; 0 where the stage has none.
        attention: settings of attention blocks, one value a stage.
        mamba2: settings of Mamba-2 blocks.
        hyena: settings of Hyena blocks.
        chunkers: how each stage but the innermost cuts its rows into chunks, outermost first; objects with a
            `kind` and the keys that `genotok.models.chunkers.settings.KINDS` lists. Routing where left out.
        chunk_states: what each of these stages hands to the one inside for a chunk: `select`, the chunk's first
            row (the default); `mean` of its rows; `cross_attention` of the first row over all of them. A causal
            model hands the latter two on with the next chunk.
        upsamplers: how each of these stages brings chunk states back to its rows: `ema` (H-Net's moving average,
            the default), `repeat`, or `cross_attention`, as an object with the `window` of chunks that a row sees.
        positions: segment-aware positions, one value a stage: an object whose `periods` are `fixed` or `learned`,
            or null for none (the default); see `genotok.models.positions`.
        tokenizer: name, JSON file or JSON object, see `genotok.tokenizers.load_tokenizer`. A file is replaced by
            what it holds, so that the configuration says it all.
        vocab_size: rows of the embedding and of the head; at least the tokenizer's size.
        tie_embeddings: whether the head shares the embedding's weights.
        norm_eps: epsilon of every norm.
        norm: `rms` or `layer`, around the blocks and behind the last; Mamba-2's own is always RMSNorm.
        mlp: `swiglu` without biases or `gelu` with them.
        head: `linear`, or `roberta`, which has a layer of its own in front of the vocabulary.
        tasks: what the model predicts, the usual one first: `lm`, the next token, from the tokens before it;
            `mlm`, masked tokens, from both sides; `prediction`, classes and numbers.
        heads: of the task `prediction`, by name; see `genotok.models.prediction_heads.HeadConfig`.
        prediction_direction: how states are made for the heads, `causal` or `bidirectional`; None for
            bidirectional in a model that knows `mlm` and causal in every other.
        task_weights: weights of the losses `lm` and `mlm` in the sum, 1 where left out; heads have their own.
    """

    layout: list
    d_model: list[int]
    d_intermediate: list[int]
    attention: AttentionConfig
    mamba2: Mamba2Config = field(default_factory=Mamba2Config)
    hyena: HyenaConfig = field(default_factory=HyenaConfig)
    tokenizer: str | dict[str, Any] = "nucleotide"
    vocab_size: int = 0
    tie_embeddings: bool = False
    norm_eps: float = 1e-5
    chunkers: list[dict[str, Any]] | None = None
    chunk_states: list[str] | None = None
    upsamplers: list[str | dict[str, Any]] | None = None
    positions: list[dict[str, str] | None] | None = None
    norm: str = "rms"
    mlp: str = "swiglu"
    head: str = "linear"
    tasks: list[str] = field(default_factory=lambda: ["lm"])
    heads: dict[str, HeadConfig] = field(default_factory=dict)
    prediction_direction: str | None = None
    task_weights: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Fill in what is left out and refuse what cannot be built."""
        if not isinstance(self.attention, AttentionConfig):
            self.attention = section("attention", AttentionConfig, self.attention)
        if not isinstance(self.mamba2, Mamba2Config):
            self.mamba2 = section("mamba2", Mamba2Config, self.mamba2)
        if not isinstance(self.hyena, HyenaConfig):
            self.hyena = section("hyena", HyenaConfig, self.hyena)
        self._check_types()
        stages = self.stage_layout.depth
        self.d_model = per_stage("d_model", self.d_model, stages)
        self.d_intermediate = per_stage("d_intermediate", self.d_intermediate, stages)
        grouped = ("kv_heads",) if self.attention.kv_heads is not None else ()
        for key in ("heads", "rotary_dim", "window", *grouped):
            value = per_stage(f"attention.{key}", getattr(self.attention, key), stages)
            setattr(self.attention, key, value)
        self.chunkers = check_chunkers(self.chunkers, stages - 1)
        self.chunk_states = check_chunk_states(self.chunk_states, stages - 1)
        self.upsamplers = check_upsamplers(self.upsamplers, stages - 1)
        self.positions = check_positions(self.positions, stages)
        tokenizer = load_tokenizer(self.tokenizer)
        self.tokenizer, size = tokenizer.description, tokenizer.vocab_size
        self.vocab_size = self.vocab_size or -(-size // 8) * 8
        if self.vocab_size < size:
            raise InputError(f"vocab_size: {self.vocab_size} is less than the {size} tokens of the tokenizer")
        self._check_widths()
        self._check_tasks()
        self._check_heads()
        for s, chunker in enumerate(self.chunkers):
            if "model" in chunker:
                chunker["model"] = self._checked_entropy_model(f"chunkers[{s}].model", chunker["model"])

    @property
    def stage_layout(self) -> StageLayout:
        """The layout, parsed."""
        return parse_layout(self.layout)

    @property
    def entropy_model(self) -> "ModelConfig | None":
        """The configuration of the entropy model that the chunker of the outermost stage brings along."""
        values = self.chunkers[0].get("model") if self.chunkers else None
        return None if values is None else ModelConfig.from_dict(values)

    def _checked_entropy_model(self, where: str, values: dict[str, Any]) -> dict[str, Any]:
        try:
            config = ModelConfig.from_dict(values)
        except InputError as error:
            raise InputError(f"{where}.{error}") from error
        if config.tokenizer != self.tokenizer:
            raise InputError(
                f"{where}.tokenizer: is {config.tokenizer!r}, and the model's is {self.tokenizer!r}"
            )
        if "lm" not in config.tasks:
            raise InputError(f"{where}.tasks: an entropy model predicts the next token, 'lm'")
        if config.chunkers:
            raise InputError(f'{where}.layout: an entropy model has one stage, as ["m2"] has')
        return config.to_dict()

    def _check_types(self) -> None:
        if not isinstance(self.tokenizer, str | dict):
            raise InputError(f"tokenizer: {self.tokenizer!r} should be the name of a tokenizer, or an object")
        wanted = (
            ("vocab_size", self.vocab_size, int, "a whole number"),
            ("tie_embeddings", self.tie_embeddings, bool, "true or false"),
            ("norm_eps", self.norm_eps, float, "a number"),
            ("attention.rotary_base", self.attention.rotary_base, float, "a number"),
            ("attention.bias", self.attention.bias, bool, "true or false"),
        )
        for key, value, kind, what in wanted:
            if not is_a(kind, value):
                raise InputError(f"{key}: {value!r} should be {what}")
        for key, known in _CHOICES.items():
            if getattr(self, key) not in list(known):
                raise InputError(f"{key}: {getattr(self, key)!r} should be {' or '.join(map(repr, known))}")

    def is_causal(self, task: str) -> bool:
        """Whether no token sees a later one in a task."""
        if task != "prediction":
            return task == "lm"
        if self.prediction_direction is None:
            return "mlm" not in self.tasks
        return self.prediction_direction == "causal"

    def _check_tasks(self) -> None:
        tasks = self.tasks
        if not isinstance(tasks, list) or not tasks or not all(tasks.count(task) == 1 for task in tasks):
            raise InputError(f"tasks: {tasks!r} should be a list of 'lm', 'mlm' and 'prediction', each once")
        for task in tasks:
            if task not in TASKS:
                raise InputError(f"tasks: {task!r} is unknown; there are 'lm', 'mlm' and 'prediction'")
        if self.prediction_direction not in (None, *DIRECTIONS):
            known = " or ".join(map(repr, DIRECTIONS))
            raise InputError(f"prediction_direction: {self.prediction_direction!r} should be {known}")

    def _check_heads(self) -> None:
        if not isinstance(self.heads, dict):
            raise InputError(f"heads: {self.heads!r} should be an object with a head a name")
        for name, head in self.heads.items():
            check_head_name(name)
            if not isinstance(head, HeadConfig):
                self.heads = {**self.heads, name: section(f"heads.{name}", HeadConfig, head)}
            self.heads[name].check(f"heads.{name}")
        if bool(self.heads) != ("prediction" in self.tasks):
            what = "add it to `tasks`" if self.heads else "name some, or take it from `tasks`"
            raise InputError(
                f"heads: a model has heads if 'prediction' is one of its tasks, and only then; {what}"
            )
        if not isinstance(self.task_weights, dict):
            raise InputError(f"task_weights: {self.task_weights!r} should be an object with a number a task")
        for task, weight in self.task_weights.items():
            if task not in ("lm", "mlm"):
                raise InputError(
                    f"task_weights.{task}: only 'lm' and 'mlm' have a weight here; heads have their own"
                )
            if not is_a(float, weight) or not weight > 0:
                raise InputError(f"task_weights.{task}: {weight!r} should be a number, more than 0")

    def _check_widths(self) -> None:
        stage = self.stage_layout
        for s, width in enumerate(self.d_model):
            if width < 1 or (s and width < self.d_model[s - 1]):
                raise InputError(f"d_model: {self.d_model} must be positive and must not fall inwards")
            blocks = stage.encoder + stage.decoder
            if self._crosses(s) or any(block.mixer == "attention" for block in blocks):
                self._check_attention(s, width)
            if any(block.mixer == "mamba2" for block in blocks):
                inner = width * self.mamba2.expand
                if inner % self.mamba2.head_dim:
                    raise InputError(
                        f"mamba2.head_dim: {self.mamba2.head_dim} does not divide d_model x expand = {inner} "
                        f"of stage {s}"
                    )
            if any(block.mlp for block in blocks) and self.d_intermediate[s] < 1:
                raise InputError(f"d_intermediate: stage {s} has blocks with an MLP and needs a width for it")
            stage = stage.inner

    def _crosses(self, s: int) -> bool:
        """Whether rows and chunks of a stage attend to each other."""
        if s == len(self.chunkers):
            return False
        return self.chunk_states[s] == "cross_attention" or isinstance(self.upsamplers[s], dict)

    def _check_attention(self, s: int, width: int) -> None:
        heads, rotary = self.attention.heads[s], self.attention.rotary_dim[s]
        if heads < 1 or width % heads:
            raise InputError(f"attention.heads: {heads} does not divide d_model {width} of stage {s}")
        shared = self.attention.kv_heads_of(s)
        if shared < 1 or heads % shared:
            raise InputError(f"attention.kv_heads: {shared} does not divide the {heads} heads of stage {s}")
        if rotary % 2 or not 0 <= rotary <= width // heads:
            raise InputError(
                f"attention.rotary_dim: {rotary} must be even and at most {width // heads}, "
                f"the features of a head in stage {s}"
            )
        if self.attention.window[s] < -1:
            raise InputError(
                f"attention.window: {self.attention.window[s]} must be at least 0, or -1 for all"
            )

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON values.

        Keys that came later (chunkers, shared heads of keys, heads, ...) are left out where they are the default:
        models which were saved before there was a choice keep their bytes and their hash.
        """
        values = asdict(self)
        if self.attention.kv_heads is None:
            del values["attention"]["kv_heads"]
        for key, default in STAGE_DEFAULTS.items():
            if all(value == default for value in values[key]):
                del values[key]
        for head in values["heads"].values():
            if head["class_weights"] is None:
                del head["class_weights"]
        for key in ("heads", "prediction_direction", "task_weights"):
            if not values[key]:
                del values[key]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Make a configuration from JSON values: genotok's own, or H-Net's (recognised by `arch_layout`).

        Raises:
            InputError: an unknown or missing key, or values that do not fit together; names the key.
        """
        if "arch_layout" in values:
            values = from_hnet_json(values)
        return section("", cls, _architecture(values))

    @classmethod
    def from_json(cls, path: str | Path) -> "ModelConfig":
        """Read a configuration from a JSON file."""
        try:
            values = json.loads(Path(path).read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read as a model configuration: {error}") from error
        except json.JSONDecodeError as error:
            raise InputError(f"{path}: line {error.lineno} is not JSON: {error.msg}") from error
        if not isinstance(values, dict):
            raise InputError(f"{path}: a model configuration is a JSON object, not a {type(values).__name__}")
        try:
            return cls.from_dict(values)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def to_json(self) -> str:
        """The configuration as JSON text, the same bytes every time."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @classmethod
    def reasonable(cls, d_model: list[int] | int, layout: list, **given: Any) -> "ModelConfig":
        """A configuration of widths and a layout such as `["m4", "T9"]`; see `genotok.models.reasonable`.

        Raises:
            InputError: a key that does not fit; names it.
        """
        return cls.from_dict(reasonable_values(d_model, layout, given))

    @classmethod
    def preset(cls, name: str) -> "ModelConfig":
        """A published or tried architecture by name; see `genotok/models/presets`."""
        folder = files("genotok.models") / "presets"
        known = sorted(item.name.removesuffix(".json") for item in folder.iterdir())
        if name not in known:
            raise InputError(f"model preset {name!r} is unknown; there are {', '.join(known)}")
        return cls.from_dict(json.loads((folder / f"{name}.json").read_text()))


def _architecture(values: Any) -> Any:
    """Values without the keys that a saved `config.json` has for transformers."""
    if not isinstance(values, dict):
        return values
    if values.get("model_type", MODEL_TYPE) != MODEL_TYPE:
        raise InputError(
            f"model_type: {values['model_type']!r} is not {MODEL_TYPE}; import the checkpoint first"
        )
    return {key: value for key, value in values.items() if key not in _NOT_ARCHITECTURE}


def check_positions(positions: Any, stages: int) -> list[dict[str, str] | None]:
    """Refuse positions that are none of `genotok.models.positions`; one value stands for every stage."""
    values = positions if isinstance(positions, list) else [positions] * stages
    if len(values) != stages:
        raise InputError(f"positions: {len(values)} values for the {stages} stages of the layout")
    for s, value in enumerate(values):
        if value is not None:
            check_keys(f"positions[{s}]", value, {"periods"}, {"periods"})
            if value["periods"] not in PERIODS:
                raise InputError(
                    f"positions[{s}].periods: {value['periods']!r} should be {' or '.join(map(repr, PERIODS))}"
                )
    return list(values)
