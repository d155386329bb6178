"""The models that a run leaves: the one of its end, and the best ones on the way."""

import shutil
from pathlib import Path

from genotok.atomic import atomic_directory, atomic_path
from genotok.models import GenomicLM
from genotok.models.card import CARD_NAME
from genotok.models.saved import CONFIG_NAME, WEIGHTS_NAME, build_model
from genotok.training.config import TrainConfig
from genotok.training.distributed import Ranks
from genotok.training.lora import merged
from genotok.training.selection import Selection
from genotok.training.sharing import whole_state


def plain_model(model: GenomicLM, config: TrainConfig) -> GenomicLM:
    """A model on the CPU with whole weights and no adapters; a collective where weights are in parts."""
    state = whole_state(model)
    if config.lora is not None:
        state = merged(state, config.lora)
    return build_model(GenomicLM, model.config, state, "the trained model")


def best_folder(folder: Path, step: int) -> Path:
    """Where the model of a step lies, as one of the best of a run."""
    return folder / "best" / f"step-{int(step):08d}"


def save_best(model: GenomicLM, config: TrainConfig, folder: Path, step: int, ranks: Ranks) -> None:
    """Write a model among the best of a run, in the folder `best`."""
    model = plain_model(model, config)
    with ranks.together():
        if ranks.first:
            with atomic_directory(best_folder(folder, step)) as temporary:
                model.save_pretrained(temporary)


def drop_others(folder: Path, selection: Selection) -> None:
    """Remove what is no longer among the best of a run."""
    kept = {best_folder(folder, step) for _, step in selection.best}
    for path in (folder / "best").glob("step-*"):
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)


def take_best(folder: Path, selection: Selection) -> None:
    """Let the best model be that of the run."""
    source = best_folder(folder, selection.best[0][1])
    for name in (WEIGHTS_NAME, CONFIG_NAME, CARD_NAME):
        with atomic_path(folder / name) as path:
            shutil.copyfile(source / name, path)
