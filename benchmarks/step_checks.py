"""What only a GPU shows of the training loop: `python -m benchmarks.step_checks`, from the repository's root.

Each check prints a line, and the command fails where one does not hold:

- steps whose chunks have room go by without a wait, also those that are noted (`set_sync_debug_mode("error")`), and
  likewise where they are replayed as CUDA graphs;
- a gradient that is no number leaves every weight as it was, although the host sees it a step later;
- chunks that are filled up to a capacity give the losses and gradients of chunks at their exact size, with memory
  poisoned in front, since kernels leave what nothing reads unwritten;
- what the backward pass works out again gives the loss and the gradients of what is kept.
"""

import contextlib
import math
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.scaling import TINY, random_shards
from genotok.errors import InputError
from genotok.models import GenomicLM, ModelConfig
from genotok.models.output import ModelOutput
from genotok.training.block_execution import run_blocks
from genotok.training.config import CHECKPOINTING, TrainConfig
from genotok.training.loop import Trainer
from genotok.training.monitor import METRICS_NAME, read_metrics

STAGES = {
    **TINY,
    "layout": ["m1T1", ["m1T1", ["T1M1"], "m1"], "m1"],
    "d_model": [64, 64, 96],
    "d_intermediate": [64, 64, 96],
    "attention": {"heads": 2, "rotary_dim": 16, "window": [15, -1, -1]},
    "mamba2": {"d_state": 16, "head_dim": 16},
    "chunkers": [{"kind": "routing"}, {"kind": "static", "length": 3}],  # which rounding does not move
}


def trainer_of(folder: Path, **changes: Any) -> Trainer:
    """A run of twelve steps."""
    settings = {"steps": 12, "batch_size": 4, "threads": 1, "log_every": 2, "device": "cuda", "model": TINY}
    shards = random_shards(folder, 1 << 13, 64)
    return Trainer(TrainConfig(shards=str(shards), **(settings | changes)), folder / "run")


def check_steps_without_waiting(folder: Path, precision: str, graph: bool) -> None:
    """Steps 4 to 11 of a run."""
    settings = {"chunk_capacity": [1.0], "ema_decay": 0.9, "cuda_graph": graph}
    trainer = trainer_of(folder, precision=precision, **settings)
    whole_step = trainer._train_step

    def forbidden(*arguments: Any) -> None:
        torch.cuda.set_sync_debug_mode("error" if 3 <= trainer.step < 11 else "default")
        try:
            whole_step(*arguments)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    trainer._train_step = forbidden
    trainer.run()
    steps = [record["step"] for record in read_metrics(folder / "run" / METRICS_NAME)]
    assert trainer.late, "numbers are not read late"
    assert steps == [2, 4, 6, 8, 10, 12], steps


def check_no_weight_is_destroyed(folder: Path) -> None:
    """The gradient of step 4 is infinite; the run ends behind step 5."""
    trainer = trainer_of(folder)
    whole, before = trainer._take, {}

    def taken(batch: Any, step: int, *others: Any, **named: Any) -> Any:
        if step == 4:
            before.update({name: p.detach().clone() for name, p in trainer.model.named_parameters()})
            trainer.model.head.weight.register_hook(lambda gradient: gradient * math.inf)
        return whole(batch, step, *others, **named)

    trainer._take = taken
    said = ""
    try:
        trainer.run()
    except InputError as error:
        said = str(error)
    assert "no number any more at step 4" in said, said
    assert trainer.step == 5, trainer.step
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(parameter, before[name]), name


def check_room_for_chunks(dtype: torch.dtype | None) -> float:
    """A model of two chunking stages; returns the largest relative difference of a gradient."""
    torch.manual_seed(0)
    model = GenomicLM(ModelConfig.from_dict(STAGES)).cuda()
    ids = torch.randint(4, 8, (4, 700), device="cuda")
    (exact, wanted), (filled, found) = (_run(model, ids, dtype, room) for room in ((), (1.0, 1.0)))
    assert all(gradient.isfinite().all() for gradient in found.values()), "a gradient is no number"
    for own, other in zip(filled.packed_boundaries, exact.packed_boundaries, strict=True):
        assert torch.equal(own.real_mask[: len(other.mask)], other.mask), "boundaries differ"
    torch.testing.assert_close(filled.loss, exact.loss, rtol=1e-5 if dtype is None else 1e-2, atol=0)
    return _worst(found, wanted, 1e-3 if dtype is None else 5e-2)


def check_checkpointing(way: str, dtype: torch.dtype | None) -> float:
    """The same model with and without; returns the largest relative difference of a gradient."""
    torch.manual_seed(0)
    kept, again = (GenomicLM(ModelConfig.from_dict(STAGES)).cuda() for _ in range(2))
    again.load_state_dict(kept.state_dict())
    run_blocks(again, way, compiled=False)
    ids = torch.randint(4, 8, (4, 700), device="cuda")
    (exact, wanted), (other, found) = (_run(model, ids, dtype) for model in (kept, again))
    torch.testing.assert_close(other.loss, exact.loss, rtol=1e-6, atol=0)
    return _worst(found, wanted, 1e-4)


def _worst(found: dict[str, Tensor], wanted: dict[str, Tensor], limit: float) -> float:
    """The largest relative difference of a parameter's gradient, which does not reach the limit."""
    errors = {
        name: ((gradient - wanted[name]).norm() / wanted[name].norm().clamp(min=1e-6)).item()
        for name, gradient in found.items()
    }
    worst = max(errors, key=errors.get)
    assert errors[worst] < limit, (worst, errors[worst])
    return errors[worst]


def _run(
    model: GenomicLM, ids: Tensor, dtype: torch.dtype | None, room: tuple[float, ...] = ()
) -> tuple[ModelOutput, dict[str, Tensor]]:
    poison = torch.full((1 << 28,), math.nan, device="cuda")
    del poison
    model.zero_grad()
    lengths = torch.tensor([700, 3, 512, 129])
    with contextlib.nullcontext() if dtype is None else torch.autocast("cuda", dtype=dtype):
        output = model(ids, labels=ids, lengths=lengths, chunk_capacity=room)
    output.loss.backward()
    return output, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def main() -> None:
    """Run all of them."""
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device: these checks need one")
    for precision, graph in (("bf16", False), ("fp32", False), ("bf16", True), ("fp32", True)):
        with tempfile.TemporaryDirectory() as folder:
            check_steps_without_waiting(Path(folder), precision, graph)
        replayed = ", replayed" if graph else ""
        print(f"steps without waiting, {precision}{replayed}: hold", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        check_no_weight_is_destroyed(Path(folder))
    print("no weight is destroyed: holds", flush=True)
    for dtype in (torch.bfloat16, None):
        error = check_room_for_chunks(dtype)
        print(f"room for chunks, {dtype or 'float32'}: gradients differ by at most {error:.1e}", flush=True)
        for way in CHECKPOINTING[1:]:
            error = check_checkpointing(way, dtype)
            print(f"{way}, {dtype or 'float32'}: gradients differ by at most {error:.1e}", flush=True)


if __name__ == "__main__":
    main()
