"""The model as users meet it: padded ids in, logits, loss and boundaries out."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from genotok.errors import InputError
from genotok.kernels.ragged import Ragged
from genotok.kernels.token_loss import is_fused
from genotok.kernels.transfers import to_device
from genotok.models.cache import StageCache
from genotok.models.chunkers.settings import WITH_INPUTS, check_chunkers
from genotok.models.config import ModelConfig
from genotok.models.entropies import entropy_cache, next_token_entropies, next_token_entropy_step
from genotok.models.generation import generate
from genotok.models.heads import HEADS, LinearHead
from genotok.models.output import ModelOutput, StageBoundaries, ragged_to_length
from genotok.models.prediction_heads import PredictionHead, checked_labels, prediction_loss
from genotok.models.saved import LoadReport, model_hash, read_model, save_model
from genotok.models.stage import Stage
from genotok.models.token_losses import next_token_loss, token_loss
from genotok.tokenizers import IGNORED_LABEL, load_tokenizer


class GenomicLM(nn.Module):
    """A language model over nucleotides, bytes or other tokens, with any number of learned stages.

    Causal when it predicts the next token; bidirectional when it predicts masked ones.

    Args:
        config: the architecture.

    Attributes:
        entropy_model: the small causal model whose entropies the chunker `entropy` cuts by, where the
            configuration brings one along. It is frozen: training leaves it as it is.
        load_report: how the weights that it was read from fitted; None in a new model.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.load_report: LoadReport | None = None
        self.tokenizer = load_tokenizer(config.tokenizer)
        self.embedding = nn.Embedding(config.vocab_size, config.d_model[0])
        self.backbone = Stage(config.stage_layout, config)
        self.head = HEADS[config.head](config.d_model[0], config.vocab_size, config.norm_eps)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight
        if config.heads:
            width = config.d_model[0]
            self.heads = nn.ModuleDict(
                {name: PredictionHead(head, width) for name, head in config.heads.items()}
            )
        self.reset_parameters()
        entropy_config = config.entropy_model
        self.entropy_model = None if entropy_config is None else GenomicLM(entropy_config)
        self.requires_grad_()

    def requires_grad_(self, requires_grad: bool = True) -> "GenomicLM":
        """As torch's, but the entropy model stays frozen."""
        super().requires_grad_(requires_grad)
        if self.entropy_model is not None:
            self.entropy_model.requires_grad_(False)
        return self

    def train(self, mode: bool = True) -> "GenomicLM":
        """As torch's, but the entropy model stays in evaluation mode."""
        super().train(mode)
        if self.entropy_model is not None:
            self.entropy_model.eval()
        return self

    def set_entropy_threshold(self, threshold: float) -> None:
        """Let chunks begin behind entropies over `threshold`, in nats; it takes the place of `mean_length`."""
        settings = {key: value for key, value in self.config.chunkers[0].items() if key != "mean_length"}
        (self.config.chunkers[0],) = check_chunkers([settings | {"threshold": threshold}], 1)
        self.backbone.chunker.threshold = threshold

    def reset_parameters(self) -> None:
        """Draw all weights from torch's global generator, as H-Net does."""
        nn.init.normal_(self.embedding.weight, std=0.02 if self.config.tie_embeddings else 1.0)
        self.backbone.initialise()
        if not self.config.tie_embeddings:
            nn.init.normal_(self.head.weight, std=0.02)
        for name, parameter in self.head.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif name == "dense.weight":
                nn.init.normal_(parameter, std=0.02)
        for name in self.config.heads:
            self.heads[name].initialise()

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        device: torch.device | str = "cpu",
        *,
        revision: str | None = None,
        strict: bool = True,
    ) -> "GenomicLM":
        """Read a model from a folder, or from the Hugging Face Hub by `owner/name` or `owner/name@revision`.

        With `strict=False` weights that do not fit are left out, and `load_report` says which; see
        `genotok.models.saved.read_model`.
        """
        return read_model(cls, source, revision, strict).to(device)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json`, `model.safetensors` and a card into a folder; the same model gives the same bytes."""
        save_model(self, folder)

    def content_hash(self) -> str:
        """SHA-256 over the configuration and the weights, in hexadecimal."""
        return model_hash(self)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.embedding.weight.device

    def forward(
        self,
        input_ids: Tensor,
        task: str | Sequence[str] | None = None,
        labels: Tensor | Mapping[str, Tensor] | None = None,
        lengths: Tensor | None = None,
        output_hidden_states: bool = False,
        boundary_inputs: Tensor | None = None,
        use_cache: bool = False,
        label_smoothing: float = 0.0,
        chunk_capacity: Sequence[float] = (),
    ) -> ModelOutput:
        """Run the model on a padded batch.

        On a GPU the host waits for the number of chunks once a chunking stage, and not at all where these have a
        capacity; and for `lengths`, unless they lie on the host.

        Args:
            input_ids: (B, L) token ids.
            task: `lm`, prediction of the next token; `mlm`, prediction of masked tokens from both sides;
                `prediction`, what the heads say; or a list of those that read in one direction and so share one
                pass. None for the first of the configuration's tasks.
            labels: of `lm` and `mlm` (B, L) token ids. In `lm`, as a rule `input_ids` itself: the logits at t are
                held against the label at t + 1. In `mlm` the token that a mask hides, at its own place. Labels
                of -100, and those behind the end of a sequence, do not count. With heads, labels by name:
                those of `lm` or `mlm`, and of each head as `prediction_loss` takes them; a name may be left out.
            lengths: (B,) how many of the L tokens are real; None when all are. A sequence of none gets zeros, and
                its labels do not count; not all may be so.
            output_hidden_states: whether to return the states as well.
            boundary_inputs: (B, L), needed when the chunker of the outermost stage is `given` (bool, true where a
                chunk begins) or `entropy` (nats, at t of the prediction of token t + 1). A model with an entropy
                model of its own works them out where they are not given.
            use_cache: whether to return the cache as well.
            label_smoothing: share of the labels of `lm` and `mlm` that the loss spreads over the vocabulary;
                that of a head stands in its configuration and acts in training mode alone.
            chunk_capacity: of each chunking stage, outermost first, how many chunks there is room for, as a share of
                its rows. Boundaries beyond are left out, which `left_out` of `packed_boundaries` counts; where it is
                0 the result is the same but for rounding. Not with `use_cache`. Empty for no limit.

        Returns:
            padded as `input_ids` is; `ModelOutput` says the shapes.

        Raises:
            InputError: the shapes, the labels or the task do not fit.
        """
        tasks = self._tasks(task)
        lengths = None if lengths is None else lengths.cpu()
        if (
            lengths is not None
            and lengths.shape == input_ids.shape[:1]
            and 0 < (lengths == 0).sum() < len(lengths)
        ):
            kept = (lengths > 0).to(input_ids.device)
            parts = (_rows_of(part, kept) for part in (labels, lengths, boundary_inputs))
            labels, lengths, boundary_inputs = parts
            settings = (labels, lengths, output_hidden_states, boundary_inputs, use_cache, label_smoothing)
            output = self(input_ids[kept], task, *settings, chunk_capacity)
            return output.with_empty_sequences(kept)
        ragged = self._layout(input_ids, lengths)
        packed_ids = ragged.to_packed(input_ids)
        embedded = self.embedding(packed_ids)
        packed_inputs = self._packed_boundary_inputs(boundary_inputs, input_ids, ragged)
        between = [] if output_hidden_states else None
        cache = None
        if use_cache:
            self._check_steps("lm" if "lm" in tasks else tasks[0])
            states, boundaries, cache = self.backbone.prefill(embedded, ragged, packed_inputs, between)
            self._add_entropy_cache(cache, packed_ids, ragged)
        else:
            causal = self.config.is_causal(tasks[0])
            settings = (packed_inputs, causal, between, None, chunk_capacity)
            states, boundaries = self.backbone(embedded, ragged, *settings)
        length = input_ids.shape[1]
        output = ModelOutput(None, packed_boundaries=boundaries, cache=cache)
        if tasks != ["prediction"]:
            logits = self._scored(output, states, ragged, length, tasks, None if label_smoothing else labels)
            output.logits = ragged_to_length(logits, ragged, length)
        if "prediction" in tasks:
            output.predictions = self._predictions(states, ragged, packed_ids, length)
        for s, stage in enumerate(boundaries):
            rows = stage.ragged.max_seqlen if s else length
            padded = (ragged_to_length(part, stage.ragged, rows) for part in (stage.prob, stage.mask))
            output.boundaries.append(StageBoundaries(*(part[: len(input_ids)] for part in padded)))
        if labels is not None:
            self._add_losses(output, tasks, labels, lengths, label_smoothing)
        if output_hidden_states:
            hidden = (embedded, *between, states)
            output.hidden_states = [ragged_to_length(x, ragged, length) for x in hidden]
        return output

    def _tasks(self, task: str | Sequence[str] | None) -> list[str]:
        """The tasks of one pass, checked."""
        tasks = [task or self.config.tasks[0]] if task is None or isinstance(task, str) else list(task)
        for name in tasks:
            if name not in self.config.tasks:
                known = ", ".join(repr(task) for task in self.config.tasks)
                raise InputError(f"task {name!r} is unknown; this model knows {known}")
        if len({self.config.is_causal(name) for name in tasks}) != 1:
            raise InputError(f"tasks {tasks!r} do not read in one direction; run the model once for each")
        return tasks

    def _scored(
        self,
        output: ModelOutput,
        states: Tensor,
        ragged: Ragged,
        length: int,
        tasks: list[str],
        labels: Tensor | Mapping[str, Tensor] | None,
    ) -> Tensor:
        """The logits (T, V); where one kernel gives the loss of `lm` or `mlm` as well, it is put into the output."""
        name = next(task for task in tasks if task != "prediction")
        labels = labels.get(name) if isinstance(labels, Mapping) else labels
        fused = isinstance(self.head, LinearHead) and is_fused(states, self.config.vocab_size)
        if not fused or labels is None or labels.shape != (ragged.batch, length):
            return self.head(states)
        packed = ragged.to_packed(labels.long())
        if name == "lm":
            packed = packed.roll(-1).index_fill(0, ragged.last_rows, IGNORED_LABEL)
        losses, logits = self.head(states, packed)
        output.losses[name] = losses.sum() / (packed != IGNORED_LABEL).sum().clamp(min=1)
        return logits

    def _predictions(self, states: Tensor, ragged: Ragged, ids: Tensor, length: int) -> dict[str, Tensor]:
        """What the heads give, by name; packed states in, padded predictions out."""
        table = to_device(torch.from_numpy(self.tokenizer.is_nucleotide), ids.device)
        certain = table[ids.clamp(max=len(table) - 1)] & (ids < len(table))
        predictions = {name: head(states, ragged, certain) for name, head in self.heads.items()}
        for name, head in self.config.heads.items():
            if head.per == "nucleotide":
                predictions[name] = ragged_to_length(predictions[name], ragged, length)
        return predictions

    def _add_losses(
        self,
        output: ModelOutput,
        tasks: list[str],
        labels: Tensor | Mapping[str, Tensor],
        lengths: Tensor | None,
        label_smoothing: float,
    ) -> None:
        heads = self.config.heads if "prediction" in tasks else {}
        known = [*(task for task in tasks if task != "prediction"), *heads]
        if not isinstance(labels, Mapping):
            if heads:
                raise InputError(f"labels: should be given by name, of {', '.join(known)}")
            labels = {known[0]: labels}
        for name, wanted in labels.items():
            if name not in known:
                raise InputError(f"labels.{name}: unknown name; known are {', '.join(known)}")
            if name in heads:
                predictions = output.predictions[name]
                wanted = checked_labels(name, heads[name], predictions, wanted)
                loss = prediction_loss(heads[name], predictions, wanted, lengths, self.training)
            elif name in output.losses:
                loss = output.losses.pop(name)
            else:
                function = next_token_loss if name == "lm" else token_loss
                loss = function(output.logits, wanted, lengths, label_smoothing)
            output.losses[name] = loss
        weights = {name: head.weight for name, head in heads.items()} | self.config.task_weights
        weighted = [weights.get(name, 1.0) * loss for name, loss in output.losses.items()]
        output.loss = sum(weighted[1:], weighted[0]) if weighted else None

    def _packed_boundary_inputs(self, inputs: Tensor | None, ids: Tensor, ragged: Ragged) -> Tensor | None:
        if inputs is None and self.entropy_model is not None:
            return next_token_entropies(self.entropy_model, ragged.to_packed(ids), ragged)
        kind = self.config.chunkers[0]["kind"] if self.config.chunkers else "none"
        if (inputs is not None) != (kind in WITH_INPUTS):
            verb = "needs" if inputs is None else "takes no"
            raise InputError(f"boundary_inputs: the chunker {kind!r} of the outermost stage {verb} inputs")
        if inputs is None:
            return None
        if inputs.shape != ids.shape:
            raise InputError(
                f"boundary_inputs must have the shape {tuple(ids.shape)} of input_ids, not {tuple(inputs.shape)}"
            )
        return ragged.to_packed(inputs.to(ids.device))

    def _check_steps(self, task: str = "lm") -> None:
        if task != "lm" or "lm" not in self.config.tasks:
            raise InputError("only a model that predicts the next token can be run step by step")
        parts = {
            type(part).__name__ for part in self.backbone.parts_with_memory() if not hasattr(part, "step")
        }
        if self.entropy_model is not None:
            self.entropy_model._check_steps()
        elif self.config.chunkers and self.config.chunkers[0]["kind"] == "entropy":
            parts.add("EntropyChunker, and no entropy model of its own,")
        if parts:
            raise InputError(f"a model with {', '.join(sorted(parts))} cannot be run step by step")

    def _add_entropy_cache(self, cache: StageCache, ids: Tensor, ragged: Ragged) -> None:
        if self.entropy_model is not None:
            cache.chunker.model = entropy_cache(self.entropy_model, ids, ragged)

    @torch.no_grad()
    def prefill(self, input_ids: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, StageCache]:
        """Read prompts.

        Args:
            input_ids: (B, L) token ids.
            lengths: (B,) how many of the L tokens are real; None when all are.

        Returns:
            (B, V), the logits of the token behind each prompt, and the cache that `step` goes on from.
        """
        self._check_steps()
        ragged = self._layout(input_ids, lengths)
        ids, inputs = ragged.to_packed(input_ids), self._packed_boundary_inputs(None, input_ids, ragged)
        states, _, cache = self.backbone.prefill(self.embedding(ids), ragged, boundary_inputs=inputs)
        self._add_entropy_cache(cache, ids, ragged)
        return self.head(states[ragged.last_rows]), cache

    @torch.no_grad()
    def step(self, input_ids: Tensor, cache: StageCache) -> Tensor:
        """Read one further token of each sequence.

        Args:
            input_ids: (B,) token ids.
            cache: of the B sequences, from `prefill` or `forward(..., use_cache=True)`; brought up to date in place.

        Returns:
            (B, V), the logits of the token that comes next.
        """
        states = self.backbone.step(self.embedding(input_ids), cache)
        self._step_entropies(input_ids, cache)
        return self.head(states)

    @torch.no_grad()
    def fixed_step(self, input_ids: Tensor, cache: StageCache) -> Tensor:
        """`step` of shapes that stay the same, and without a host synchronisation: what a CUDA graph can hold.

        The cache needs `reserve`d rows, and stages inside are run for every token of every sequence.
        """
        states = self.backbone.fixed_step(self.embedding(input_ids), cache)
        self._step_entropies(input_ids, cache)
        return self.head(states)

    def _step_entropies(self, input_ids: Tensor, cache: StageCache) -> None:
        if self.entropy_model is not None:
            of_chunker = cache.chunker
            of_chunker.previous = of_chunker.entropy
            of_chunker.entropy = next_token_entropy_step(self.entropy_model, input_ids, of_chunker.model)

    @property
    def can_extend(self) -> bool:
        """Whether `extend` works with this model."""
        return "lm" in self.config.tasks and self.entropy_model is None and self.backbone.can_extend

    @torch.no_grad()
    def extend(
        self,
        input_ids: Tensor,
        cache: StageCache,
        lengths: Tensor | None = None,
        of_cache: Tensor | None = None,
    ) -> Tensor:
        """Read many further tokens of each sequence at once; other than by `step` the cache stays as it is.

        So several continuations of one prompt cost the prompt once.

        Args:
            input_ids: (B, L) token ids that follow on what the cache has read.
            cache: from `prefill`.
            lengths: (B,) how many of the L tokens are real; None when all are.
            of_cache: (B,) int64, which sequence of the cache each goes on from; None for one after the other.

        Returns:
            (B, L, V) logits, zero behind the end of a sequence.

        Raises:
            InputError: a part of the model has no such way, see `can_extend`, or the shapes do not fit.
        """
        if not self.can_extend:
            raise InputError("this model cannot read many tokens behind a cache at once")
        ragged = self._layout(input_ids, lengths)
        if of_cache is None:
            of_cache = torch.arange(len(input_ids), device=input_ids.device)
        embedded = self.embedding(ragged.to_packed(input_ids))
        states = self.backbone.extend(embedded, ragged, cache, of_cache)
        return ragged_to_length(self.head(states), ragged, input_ids.shape[1])

    def generate(self, prompts: Sequence[Tensor | str], length: int, **settings) -> Tensor:
        """Continue prompts by `length` tokens, (B, length); settings as in `genotok.models.generation.generate`."""
        return generate(self, prompts, length, **settings)

    def _layout(self, input_ids: Tensor, lengths: Tensor | None) -> Ragged:
        if input_ids.ndim != 2 or 0 in input_ids.shape:
            raise InputError(
                f"input_ids must be (batch, length), both at least 1, not {tuple(input_ids.shape)}"
            )
        batch, longest = input_ids.shape
        if lengths is None:
            return Ragged.uniform(batch, longest, input_ids.device)
        fits = lengths.shape == (batch,)
        if fits:
            lengths = lengths.cpu()
            ragged = Ragged.from_lengths(lengths, input_ids.device)
            fits = ragged.max_seqlen <= longest and int(lengths.min()) >= 1
        if not fits:
            raise InputError(f"lengths must hold {batch} values from 1 to {longest}, not {lengths.tolist()}")
        return ragged


def _rows_of(part: Tensor | Mapping[str, Tensor] | None, kept: Tensor) -> Tensor | dict[str, Tensor] | None:
    if isinstance(part, Mapping):
        return {name: _rows_of(value, kept) for name, value in part.items()}
    return None if part is None else part[kept.to(part.device)]
