"""`genotok compare run`: train one arm with one seed, and measure it."""

import gc
import json
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from genotok.atomic import atomic_path
from genotok.comparison.measures import (
    bits_per_base,
    boundary_stability,
    embeddings,
    probe_accuracy,
    probe_data,
    variant_correlation,
)
from genotok.comparison.plan import entropy_settings, realised_flops, training_settings
from genotok.comparison.settings import ProbeTable, VariantSettings
from genotok.models import GenomicLM
from genotok.settings import parse_settings
from genotok.training.config import TrainConfig
from genotok.training.entropies import entropy_train_config
from genotok.training.loop import Trainer
from genotok.training.monitor import METRICS_NAME, SPEED_NAME, read_metrics
from genotok.training.precision import choose_device

MEASURES_NAME = "measures.json"


def run_arm(plan: dict[str, Any], name: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train one arm with one seed and measure it; training that was cut short goes on from its checkpoint.

    Writes `model/`, for an arm that needs one `entropy_model/`, and `measures.json`, with which the run is done.

    Args:
        plan: of `genotok.comparison.plan.make_plan`.
        name: of the arm.
        seed: one of the plan's.
        folder: of the run.

    Returns:
        The JSON values of `measures.json`.

    Raises:
        InputError: a setting does not fit, or training has lost its way.
        genotok.training.interruption.Terminated: SIGTERM came, and a checkpoint has been written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = training_settings(plan, name, seed)
    speeds = {}
    if plan["arms"][name]["entropy_model"] is not None:
        own = entropy_train_config(entropy_settings(plan, name, seed), f"{name}: entropy model")
        speeds["entropy_model"] = train(own, folder / "entropy_model")
        settings["entropy_model"] = str(folder / "entropy_model")
    speeds["model"] = train(parse_settings(TrainConfig, settings, name), folder / "model")
    found = {"arm": name, "seed": seed, **_training(plan, name, folder, speeds)}
    found |= _measures(plan, folder / "model")
    with atomic_path(folder / MEASURES_NAME) as path:
        path.write_text(json.dumps(found, indent=1) + "\n")
    for part in (*speeds, "model"):
        shutil.rmtree(folder / part / "checkpoints", ignore_errors=True)
    return found


def train(config: TrainConfig, folder: Path) -> dict[str, float]:
    """Train, or go on; a run of the same settings that is at its end is not trained again.

    Returns:
        `seconds` of all its steps, `bases_per_second` (the median of its records but the first) and `memory_bytes`.
    """
    gc.collect()  # of a run before in this process, whose memory is not this one's
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    trainer = Trainer(config, folder)
    trainer.run(resume=True, restart_if_changed=True)
    return speed(read_metrics(folder / SPEED_NAME))


def speed(records: Sequence[dict[str, Any]]) -> dict[str, float]:
    """What `speed.jsonl` says of a run; its first record holds what is done once, such as making kernels."""
    known = [record for record in records if "bases_per_second" in record]
    steady = known[1:] or known
    return {
        "seconds": sum(record["seconds"] for record in known),
        "bases_per_second": statistics.median(record["bases_per_second"] for record in steady),
        "memory_bytes": max(record["memory_bytes"] for record in known),
    }


def chunk_fractions(records: Sequence[dict[str, Any]]) -> list[float]:
    """Chunks a row of each chunking stage, the mean over the records of training."""
    rows = [record["chunk_fraction"] for record in records if record["split"] == "train"]
    return [statistics.fmean(stage) for stage in zip(*rows, strict=True)]


def _training(
    plan: dict[str, Any], name: str, folder: Path, speeds: dict[str, dict[str, float]]
) -> dict[str, Any]:
    """What training cost: of an arm with an entropy model that of both, one behind the other."""
    records = read_metrics(folder / "model" / METRICS_NAME)
    fractions = chunk_fractions(records)
    flops = realised_flops(plan, name, fractions)
    validations = [record["bits_per_base"] for record in records if record["split"] == "valid"]
    return {
        "chunk_fraction": fractions,
        "flops_per_base": flops,
        "deviation": flops / plan["settings"]["flops_per_base"] - 1,
        "bases": plan["bases"],
        "seconds": sum(part["seconds"] for part in speeds.values()),
        "bases_per_second": 1 / sum(1 / part["bases_per_second"] for part in speeds.values()),
        "memory_bytes": max(part["memory_bytes"] for part in speeds.values()),
        "valid_bits_per_base": validations[-1] if validations else None,
    }


def _measures(plan: dict[str, Any], folder: Path) -> dict[str, Any]:
    shared = plan["settings"]
    device, threads = shared["train"].get("device", "auto"), shared["train"].get("threads", 2)
    draws, shards, batch_size = shared["draws"], Path(shared["shards"]), shared["evaluate_batch_size"]
    model = GenomicLM.from_pretrained(folder, choose_device(device)).eval()
    bits, chunks = bits_per_base(model, shards, shared["block"], draws, batch_size)
    found = {
        "model_sha256": model.content_hash(),
        "bits_per_base": {genome: one.as_json() for genome, one in bits.items()},
        **chunks,
        "stability": boundary_stability(model, shards, shared["sites"], batch_size)
        if shared["sites"]
        else [],
        "probe": None,
        "variants": None,
    }
    if shared["probe"] is not None:
        data = probe_data(ProbeTable(**shared["probe"]))
        found["probe"] = probe_accuracy(embeddings(model, data), data, draws).as_json()
    del model
    if shared["variants"] is not None:
        about = VariantSettings(**shared["variants"])
        found["variants"] = variant_correlation(folder, about, draws, device, threads).as_json()
    return found


def letters_a_row(run: dict[str, Any], letters_a_token: float) -> float:
    """Letters of the held-out sequence for each row that the main network reads."""
    return run["stages"][-1]["mean_length"] if run["stages"] else letters_a_token
