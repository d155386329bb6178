"""Passes that are recorded and replayed: the run is that without, byte by byte; what cannot be recorded is said."""

import json
import shutil
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from toy_runs import TOY_MODEL, results, toy_config

from genotok.errors import InputError
from genotok.kernels import ragged
from genotok.models import GenomicLM, ModelConfig, language_model, prediction_heads
from genotok.settings import parse_settings
from genotok.shards.writer import tokenize_genomes
from genotok.training import recorded_passes
from genotok.training.chunk_capacity import EXACT_STEPS
from genotok.training.config import TrainConfig
from genotok.training.distributed import Ranks
from genotok.training.loop import Trainer
from genotok.training.recorded_passes import SameMemory, check_recordable

aten = torch.ops.aten
# What a GPU cannot do while it records, since the host takes part in it.
READ_BY_HOST = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.repeat_interleave.Tensor,
}
OF_THE_HOST = {aten.lift_fresh.default, aten._pin_memory.default}


class Tape(TorchDispatchMode):
    """Every operation of a run, with the memory that it reads and writes, as a CUDA graph holds its kernels.

    What the host decided is on it for good. All tensors stay alive, so that no memory is used twice.
    """

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in READ_BY_HOST | OF_THE_HOST:
            with_size = function is aten.repeat_interleave.Tensor and kwargs.get("output_size") is not None
            assert with_size, function
        if function is aten.index.Tensor:
            assert all(index is None or index.dtype == torch.long for index in args[1])
        found = function(*args, **kwargs)
        self.operations.append((function, _held(args), _held(kwargs), _held(found)))
        return found

    @torch.no_grad()
    def replay(self):
        for function, args, kwargs, found in self.operations:
            read = {
                leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if is_tensor(leaf)
            }
            again = function(*args, **kwargs)
            for place, value in zip(tree_leaves(found), tree_leaves(again), strict=True):
                if is_tensor(place) and place.untyped_storage().data_ptr() not in read:
                    assert place.shape == value.shape
                    place.copy_(value)


def is_tensor(value):
    return isinstance(value, Tensor)


def _held(values):
    return tree_map(lambda value: value.detach() if is_tensor(value) else value, values)


class Tapes(SameMemory):
    """Records tapes, and counts."""

    def __init__(self, monkeypatch):
        self.monkeypatch, self.recordings, self.replays, self.phases = monkeypatch, 0, 0, 0

    def aside(self):
        return nullcontext()

    def recorded(self, run):
        def refused(*_):
            raise AssertionError("a copy from the host cannot be recorded")

        tape = Tape()
        with self.monkeypatch.context() as patch, tape:
            for module in (ragged, language_model, prediction_heads):
                patch.setattr(module, "to_device", refused)
            run()
        self.recordings += 1

        def replay():
            self.replays += 1
            tape.replay()

        return replay

    def forget(self):
        self.phases += 1


def pair(shards, folder, recorder, **changes):
    """The same run without and with recordings; the latter."""
    settings = {"chunk_capacity": [0.9], **changes}
    Trainer(toy_config(shards, **settings), folder / "plain").run()
    recorded = Trainer(toy_config(shards, cuda_graph=True, **settings), folder / "recorded", recorder)
    recorded.run()
    return recorded


def assert_same(folder):
    assert results(folder / "plain") == results(folder / "recorded")
    for path in sorted((folder / "plain" / "checkpoints").glob("step-*/*.safetensors")):
        wanted, found = load_file(path), load_file(folder / "recorded" / path.relative_to(folder / "plain"))
        assert wanted.keys() == found.keys()
        for name, value in wanted.items():
            assert torch.equal(found[name], value), (path, name)


TWO_STAGES = {
    **TOY_MODEL,
    "layout": ["m1", ["t1", ["T1"], "m1"], "t1"],
    "d_model": [16, 24, 24],
    "d_intermediate": [0, 32, 32],
    "attention": {"heads": 2, "rotary_dim": 4, "window": [7, -1, -1]},
}
VARIANTS = {
    "plain": {"ema_decay": 0.9, "clip": 0.05},
    "micro batches": {"accumulate": 2, "activation_checkpointing": "blocks"},
    "other parts": {
        "model": {
            **TWO_STAGES,
            "chunkers": [
                {"kind": "merge", "min_length": 2, "max_length": 6},
                {"kind": "static", "length": 2},
            ],
            "chunk_states": ["cross_attention", "mean"],
            "upsamplers": [{"kind": "cross_attention", "window": 2}, "repeat"],
            "positions": [{"periods": "learned"}] * 3,
        },
        "target_chunk_length": [3.0, 2.0],
        "chunk_capacity": [0.9, 0.9],
    },
    "isotropic": {
        "model": {**TOY_MODEL, "layout": ["m1T1"], "d_model": [16], "d_intermediate": [32]},
        "target_chunk_length": [],
        "chunk_capacity": None,
        "label_smoothing": 0.1,
        "precision": "fp16",
    },
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_recorded_run_has_the_same_bytes(name, toy_shards, tmp_path, monkeypatch):
    recorder = Tapes(monkeypatch)
    pair(toy_shards, tmp_path, recorder, steps=6, validate_every=3, checkpoint_every=3, **VARIANTS[name])
    assert_same(tmp_path)
    passes = 4 if name == "micro batches" else 1  # those that count chunks included
    assert recorder.recordings == (2 if name == "micro batches" else 1)
    assert recorder.replays == 4 * passes  # not the first step, nor that with the short window


@pytest.fixture(scope="module")
def soft_shards(tmp_path_factory):
    """Two contigs, with soft-masked letters."""
    folder = tmp_path_factory.mktemp("soft")
    text = "".join(np.random.default_rng(3).choice(list("ACGTacgt"), 640))
    (folder / "soft.fa").write_text(f">s\n{text}\n>v\n{text[:64]}\n")
    tokenize_genomes([folder / "soft.fa"], folder / "shards", window=32, valid=["v"])
    return folder / "shards"


def test_what_changes_over_a_run_reaches_its_recordings(soft_shards, tmp_path, monkeypatch):
    """Two tasks, windows of two lengths, and numbers that change; the second half goes on from a checkpoint."""
    model = {**TOY_MODEL, "layout": ["t1", ["m1"], "t1"], "tasks": ["lm", "mlm"]}
    changes = {
        "data": [
            {"shards": str(soft_shards), "name": "a"},
            {"shards": str(soft_shards), "name": "b", "task": "mlm"},
        ],
        "window_length": {0: 16, 7: 32},
        "bases_per_step": 64,
        "mask_probability": {0: 0.1, 5: 0.3},
        "target_chunk_length": {0: [2.0], 4: [4.0]},
        "soft_mask_weight": 0.5,
        "label_smoothing": 0.1,
    }
    values = {
        "model": model,
        "steps": 13,
        "threads": 1,
        "log_every": 1,
        "seed": 5,
        "learning_rate": 3e-3,
        **changes,
    }
    values |= {"chunk_capacity": [1.0], "checkpoint_every": 9, "keep_checkpoints": 9}

    def trainer(name, recorder=None):
        config = parse_settings(TrainConfig, {**values, "cuda_graph": recorder is not None}, "c.yaml")
        return Trainer(config, tmp_path / name, recorder)

    trainer("plain").run()
    recorder = Tapes(monkeypatch)
    trainer("recorded", recorder).run()
    assert_same(tmp_path)
    assert recorder.phases == 1  # the longer windows
    assert recorder.recordings >= 3  # of two tasks with windows of two lengths
    assert recorder.replays >= 8
    shutil.rmtree(tmp_path / "recorded" / "checkpoints" / "step-00000013")
    again = Tapes(monkeypatch)
    trainer("recorded", again).run(resume=True)
    assert_same(tmp_path)
    assert again.recordings >= 1


def test_a_recorded_step_without_room_is_taken_again(toy_shards, tmp_path, monkeypatch, capsys):
    """From step 4 on every token begins a chunk: the alarm and the weights are those without recordings."""
    recorder, whole = Tapes(monkeypatch), Trainer._take

    def taken(trainer, batch, step, *others, **named):
        if step == 4:
            with torch.no_grad():
                trainer.model.backbone.chunker.key.weight.copy_(-torch.eye(16))
        return whole(trainer, batch, step, *others, **named)

    monkeypatch.setattr(Trainer, "_take", taken)
    settings = {"steps": 6, "checkpoint_every": 0, "validate_every": 0, "chunk_capacity": [0.7]}
    trainer = pair(toy_shards, tmp_path, recorder, **settings)
    assert_same(tmp_path)
    assert trainer.room.state() == {"exact_until": 4 + EXACT_STEPS}
    assert recorder.replays == 2  # one of steps 2 and 3, and step 4 before it is found to have no room
    assert capsys.readouterr().err.count("there is no room for the chunks of this step") == 2
    said = [json.loads(line) for line in (tmp_path / "recorded" / "speed.jsonl").read_text().splitlines()]
    assert [(line["step"], line["kind"]) for line in said if "kind" in line] == [(4, "chunk_capacity")]


def test_windows_of_any_length_do_not_fill_the_memory(tmp_path, monkeypatch):
    """A step reads one contig, and each has a length of its own; in the second epoch all lengths are known."""
    monkeypatch.setattr(recorded_passes, "MOST", 2)
    contigs = [f">c{length}\n{('GATTACA' * 9)[:length]}\n" for length in (30, 31, 32, 33)]
    (tmp_path / "c.fa").write_text("".join(contigs))
    tokenize_genomes([tmp_path / "c.fa"], tmp_path / "shards", window=64)
    recorder = Tapes(monkeypatch)
    settings = {"steps": 8, "batch_size": 1, "validate_every": 0, "checkpoint_every": 0}
    pair(tmp_path / "shards", tmp_path, recorder, **settings)
    assert_same(tmp_path)
    assert recorder.recordings == recorder.replays == 2


@pytest.mark.parametrize(
    ("changes", "ranks", "sentence"),
    [
        ({}, 2, "is for one process, and this run has 2"),
        ({"chunk_capacity": None}, 1, r"needs chunk_capacity, .* such as \[0.5\]"),
        (
            {"model": {**TOY_MODEL, "tokenizer": "bpe"}},
            1,
            "the tokenizer 'bpe' makes different numbers of tokens",
        ),
    ],
)
def test_runs_that_cannot_be_recorded(changes, ranks, sentence, toy_shards, tmp_path):
    config = toy_config(toy_shards, **{"chunk_capacity": [0.5], **changes})
    trainer = Trainer(config, tmp_path)
    with pytest.raises(InputError, match=f"^cuda_graph: {sentence}"):
        check_recordable(config, trainer.model, trainer.data, Ranks(0, ranks, trainer.device), SameMemory())


def test_a_cpu_has_no_graphs(toy_shards, tmp_path):
    with pytest.raises(InputError, match="cuda_graph: needs a CUDA device"):
        Trainer(toy_config(toy_shards, cuda_graph=True, chunk_capacity=[0.5], device="cpu"), tmp_path)


def test_a_model_with_an_entropy_model_needs_the_entropies_of_the_shards(toy_shards, tmp_path):
    config = toy_config(toy_shards, chunk_capacity=[0.5])
    trainer = Trainer(config, tmp_path)
    small = ModelConfig.from_dict({**TOY_MODEL, "layout": ["t1"], "d_model": [16], "d_intermediate": [32]})
    trainer.model.entropy_model = GenomicLM(small)
    arguments = (config, trainer.model, trainer.data, trainer.ranks, SameMemory())
    with pytest.raises(InputError, match=r"cuda_graph: the entropy model .* `genotok entropy annotate`"):
        check_recordable(*arguments)
    trainer.data.windows[0].batches.column = "entropies"
    check_recordable(*arguments)


def test_recordings_are_no_part_of_the_run(toy_shards):
    assert toy_config(toy_shards, cuda_graph=True).identity() == toy_config(toy_shards).identity()
