"""Forward and backward passes that are recorded once and replayed, so that no kernel is launched from Python.

A CUDA graph holds the kernels of a pass together with the memory that they read and write. So what changes from step
to step lies in tensors that stay where they are: the micro batch, what it weighs, the sums that come out, and the
gradients. What the host decides while a pass is recorded is decided for good, shapes first of all. Hence there is a
recording for each shape of a micro batch; steps that have none (windows of different length, heads, a shape that is
new) are run as without.

Who records is given: `CudaGraphs` on a GPU. `SameMemory` records nothing and runs the pass again over the same
memory, on any device: all of this module but the graph itself.
"""

import gc
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, fields, replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from genotok.errors import InputError
from genotok.kernels.transfers import to_device
from genotok.models import GenomicLM
from genotok.shards.sampler import Batch, with_tensors
from genotok.tokenizers import load_tokenizer
from genotok.training.config import TrainConfig
from genotok.training.data import TrainingData
from genotok.training.distributed import Ranks
from genotok.training.labelled import LabelledBatch
from genotok.training.objective import Passes

WARM_UP = 2  # passes before a recording, which compile kernels and make handles
SEEN = 1  # times that a shape has come before it is recorded; few come only once
MOST = 8  # recordings that are held at a time, so that odd shapes cannot fill the memory

AnyBatch = TypeVar("AnyBatch", Batch, LabelledBatch)
Counts = tuple[Tensor, Tensor]


@dataclass
class MicroWeights:
    """What a micro batch weighs in the losses of its step: numbers, or () float64 tensors that hold them.

    Attributes:
        shares: of the labels of each task or head, by its name.
        of_labels: of all labels of `lm` or `mlm`, whatever these weigh.
        ratio_weight: of the ratio loss.
        targets: tokens a chunk that the ratio loss steers each stage to.
    """

    shares: dict[str, float | Tensor]
    of_labels: float | Tensor
    ratio_weight: float | Tensor
    targets: Sequence[float | Tensor]

    def flat(self) -> list[float]:
        """The numbers, one behind the other."""
        shares = [share for _, share in sorted(self.shares.items())]
        return [*shares, self.of_labels, self.ratio_weight, *self.targets]

    def within(self, numbers: Tensor) -> "MicroWeights":
        """The same as views of a tensor (N,) that holds `flat`."""
        names, (*shares, of_labels, weight) = sorted(self.shares), numbers[: len(self.shares) + 2]
        targets = list(numbers[len(self.shares) + 2 :])
        return MicroWeights(dict(zip(names, shares, strict=True)), of_labels, weight, targets)


class Recorder(Protocol):
    """Records what a function does on a device."""

    def aside(self) -> AbstractContextManager:
        """A block in which a pass warms up."""

    def recorded(self, run: Callable[[], None]) -> Callable[[], None]:
        """What does again what `run` does on the device; `run` itself need not take place."""

    def forget(self) -> None:
        """Let go of what recordings share; none is used any more."""


class SameMemory:
    """Runs the function itself."""

    def aside(self) -> AbstractContextManager:
        """Nothing special."""
        return nullcontext()

    def recorded(self, run: Callable[[], None]) -> Callable[[], None]:
        """The function."""
        return run

    def forget(self) -> None:
        """Nothing is held."""


class CudaGraphs:
    """Records CUDA graphs, which share a pool of memory, since only one of them runs at a time.

    Args:
        device: a GPU.
    """

    def __init__(self, device: torch.device):
        self.device = device
        # Warm-up and recording share a stream, and so the workspaces of libraries, which belong to one.
        self._stream, self._pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """A block on the stream on which graphs are recorded."""
        current = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            yield
        current.wait_stream(self._stream)

    def recorded(self, run: Callable[[], None]) -> Callable[[], None]:
        """The replay of a graph of what `run` does.

        Raises:
            InputError: it does what no graph can hold, or there is no memory.
        """
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads may call CUDA meanwhile; as a rule ("global") that would end the recording.
            with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                run()
        except RuntimeError as error:
            why = str(error.__context__ or error).strip().split("\n")[0]
            raise InputError(f"cuda_graph: a step cannot be recorded here, leave it out: {why}") from error
        return graph.replay

    def forget(self) -> None:
        """Wait for the last replay; the next graph begins a pool, since torch takes none into one that was left."""
        torch.cuda.synchronize(self.device)
        self._pool = torch.cuda.graph_pool_handle()


def check_recordable(
    config: TrainConfig, model: GenomicLM, data: TrainingData, ranks: Ranks, recorder: Recorder | None = None
) -> Recorder:
    """What records the passes of a run: what is given, or else CUDA graphs.

    Raises:
        InputError: steps of this run cannot be recorded.
    """
    if recorder is None and ranks.device.type != "cuda":
        raise InputError("cuda_graph: needs a CUDA device, and this run has none; leave it out")
    if ranks.size > 1:
        raise InputError(
            f"cuda_graph: is for one process, and this run has {ranks.size}, which talk to each other while "
            "gradients are made; leave it out"
        )
    if model.config.chunkers and not config.chunk_capacity:
        raise InputError(
            "cuda_graph: needs chunk_capacity, with which no shape depends on where chunks begin, such as [0.5]"
        )
    if not data.windows:
        raise InputError(
            "cuda_graph: is for the tasks lm and mlm, and this run has only tables; leave it out"
        )
    worked_out = model.entropy_model is not None
    if worked_out and not any(part.batches.column == "entropies" for part in data.windows):
        raise InputError(
            "cuda_graph: the entropy model of this model would have to run in each step; `genotok entropy annotate` "
            "writes its entropies into the shards of `lm`"
        )
    tokenizer = load_tokenizer(model.config.tokenizer)
    alike = ("A" * 256, "ACGT" * 64, "GGCATCAT" * 32)
    if len({len(tokenizer.encode(letters)) for letters in alike}) > 1:
        raise InputError(
            f"cuda_graph: the tokenizer {tokenizer.name!r} makes different numbers of tokens of windows of one "
            "length, and a graph is of one shape; leave it out"
        )
    return recorder or CudaGraphs(ranks.device)


@dataclass
class _Places:
    """Where what all recordings of a task share lies.

    Attributes:
        weights: (N,) float64, the numbers of `MicroWeights`.
        values: the sums of a step so far, as `FoundLosses` has them.
        ahead: (2, S) float64, how many chunks begin in all micro batches, and how many rows they have.
    """

    weights: Tensor
    values: Tensor
    ahead: Tensor


@dataclass
class _Recording:
    """A micro batch of one shape.

    Attributes:
        batch: where it lies.
        learned: that of `FoundLosses`, which no number changes.
        run, count: replay the whole pass, and the one that counts chunks.
        parameters: those that the pass gives a gradient.
    """

    batch: Batch
    learned: list[bool] = field(default_factory=list)
    run: Callable[[], None] | None = None
    count: Callable[[], None] | None = None
    parameters: list[nn.Parameter] = field(default_factory=list)

    def read(self, micro: Batch) -> None:
        """Bring a micro batch of this shape to its place; from pinned memory without a wait."""
        for name, place in _tensors(self.batch):
            place.copy_(getattr(micro, name), non_blocking=True)


class RecordedPasses:
    """The passes of a training, recorded shape by shape.

    Args:
        recorder: who records.
        passes: the model, with `output`, which is let go of: what it holds of an autograd graph belongs to a stream.
        run: forward and backward of a micro batch on the device, see `genotok.training.step.GradientStep`. It must
            read nothing of the device, and nothing but the model and its arguments that changes from step to step.
        count: likewise the pass that counts chunks ahead.
    """

    def __init__(
        self,
        recorder: Recorder,
        passes: Passes,
        run: Callable[..., tuple[Tensor, list[bool]]],
        count: Callable[..., Counts],
    ):
        self.recorder, self.passes, self._run, self._count = recorder, passes, run, count
        self._recordings: dict[Hashable, _Recording] = {}
        self._seen: Counter[Hashable] = Counter()
        self._places: dict[str, _Places] = {}
        self._gradients: dict[nn.Parameter, Tensor] = {}
        self._phase: Hashable = None

    def enter(self, phase: Hashable) -> None:
        """Forget all recordings where a new phase of the run begins, whose shapes are others."""
        if phase != self._phase and self._recordings:
            self.recorder.forget()
            self._recordings.clear()
            self._seen.clear()
        self._phase = phase

    def run(
        self,
        micros: list[AnyBatch],
        task: str,
        capacity: tuple[float, ...],
        weights: list[MicroWeights],
        looks_ahead: bool,
    ) -> tuple[Tensor, list[bool]] | None:
        """Give the parameters, which have none, the gradient of a step, where its shapes are recorded or shall be.

        Args:
            micros: its micro batches, on the host.
            task, capacity: see `genotok.training.step.GradientStep.backward`.
            weights: of each.
            looks_ahead: whether their chunks are counted in front of the first.

        Returns:
            `values` and `learned` as `FoundLosses` has them; None where the step is to be run as without.
        """
        keys = [_shape(micro, task, capacity) for micro in micros]
        if not self._takes(keys, micros):
            return None
        recordings = []
        for key, micro, weight in zip(keys, micros, weights, strict=True):
            if key not in self._recordings:
                self._recordings[key] = self._record(micro, task, capacity, weight, looks_ahead)
            recordings.append(self._recordings[key])
        places = self._places[task]
        self._begin(places, recordings)
        if looks_ahead:
            for micro, recording in zip(micros, recordings, strict=True):
                recording.read(micro)
                recording.count()
        for micro, recording, weight in zip(micros, recordings, weights, strict=True):
            recording.read(micro)
            places.weights.copy_(self._on_device(weight))
            recording.run()
        return places.values.clone(), recordings[0].learned

    def _takes(self, keys: list[Hashable], micros: list[AnyBatch]) -> bool:
        """Whether a step is recorded, or shall be."""
        if any(key is None for key in keys) or not all(self._is_complete(micro) for micro in micros):
            return False
        new = {key for key in keys if key not in self._recordings}
        known = all(self._seen[key] >= SEEN for key in new)
        self._seen.update(new)
        return known and len(self._recordings) + len(new) <= MOST

    def _is_complete(self, micro: Batch) -> bool:
        """Whether the pass needs nothing else that would be worked out in it."""
        return self.passes.model.entropy_model is None or micro.boundary_inputs is not None

    def _on_device(self, weights: MicroWeights) -> Tensor:
        return to_device(torch.tensor(weights.flat(), dtype=torch.float64), self.passes.model.device)

    @torch.no_grad()
    def _begin(self, places: _Places, recordings: list[_Recording]) -> None:
        """Set the sums and the gradients of a step to 0."""
        parameters = {parameter: None for recording in recordings for parameter in recording.parameters}
        for parameter in parameters:
            parameter.grad = self._gradients[parameter]
        torch._foreach_zero_([self._gradients[parameter] for parameter in parameters])
        places.values.zero_()
        places.ahead.zero_()

    def _record(
        self, micro: Batch, task: str, capacity: tuple[float, ...], weights: MicroWeights, looks_ahead: bool
    ) -> _Recording:
        device = self.passes.model.device
        recording = _Recording(_placed(micro, device))
        if task not in self._places:
            self._places[task] = _new_places(weights, len(self.passes.model.config.chunkers), device)
        places = self._places[task]
        recording.read(micro)
        places.weights.copy_(self._on_device(weights))
        within = weights.within(places.weights)
        ahead = tuple(places.ahead) if looks_ahead else None

        def count() -> None:
            places.ahead.add_(torch.stack(self._count(recording.batch, task, capacity)))

        def run() -> None:
            values, recording.learned = self._run(recording.batch, task, capacity, within, ahead)
            places.values.add_(values)
            self.passes.output = None

        self._warm_up(recording, [count, run] if looks_ahead else [run])
        recording.count = self.recorder.recorded(count) if looks_ahead else None
        recording.run = self.recorder.recorded(run)
        for parameter in recording.parameters:
            parameter.grad = None
        return recording

    def _warm_up(self, recording: _Recording, runs: list[Callable[[], None]]) -> None:
        """Run passes that leave no trace but what libraries keep, and attach the gradients that are written to."""
        # Nodes of autograd that are alive would go on belonging to the stream that they were made on.
        self.passes.output = None
        gc.collect()
        device = self.passes.model.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            for _ in range(WARM_UP):
                with self.recorder.aside():
                    for run in runs:
                        run()
                for parameter in self.passes.model.parameters():
                    if parameter.grad is not None and parameter not in self._gradients:
                        self._gradients[parameter] = torch.zeros_like(parameter)
                recording.parameters = [p for p in self.passes.model.parameters() if p.grad is not None]
                for parameter in recording.parameters:
                    parameter.grad = self._gradients[parameter]


def _shape(micro: AnyBatch, task: str, capacity: tuple[float, ...]) -> Hashable:
    """What a recording is of; None where a micro batch cannot have one."""
    if isinstance(micro, LabelledBatch) or not bool((micro.lengths == micro.input_ids.shape[1]).all()):
        return None
    shapes = [(name, tuple(tensor.shape), tensor.dtype) for name, tensor in _tensors(micro)]
    return task, capacity, tuple(shapes)


def _placed(micro: Batch, device: torch.device) -> Batch:
    """Room for a micro batch; without lengths, since all its rows are full, and lengths would go through the host."""
    placed = with_tensors(micro, lambda tensor: torch.empty_like(tensor, device=device, pin_memory=False))
    return replace(placed, lengths=None)


def _tensors(batch: Batch) -> list[tuple[str, Tensor]]:
    """The tensors of a batch that go to the device, by name."""
    tensors = [(part.name, getattr(batch, part.name)) for part in fields(batch) if part.name != "lengths"]
    return [(name, tensor) for name, tensor in tensors if isinstance(tensor, Tensor)]


def _new_places(weights: MicroWeights, stages: int, device: torch.device) -> _Places:
    sizes = (len(weights.flat()),), (len(weights.shares) + 1 + 5 * stages,), (2, stages)
    return _Places(*(torch.zeros(size, dtype=torch.float64, device=device) for size in sizes))
