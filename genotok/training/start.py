"""The model that a run starts with: a fresh one, or one that was trained before."""

import sys
from typing import Any

from genotok.errors import InputError
from genotok.models import GenomicLM, ModelConfig
from genotok.models.saved import CONFIG_NAME, build_model
from genotok.pretrained.main_network import load_ntv2_weights
from genotok.training.config import DataConfig, MainNetwork, TrainConfig


def read_model_config(model: str | dict[str, Any]) -> ModelConfig:
    """The architecture that the key `model` names: a preset, a JSON file, or the configuration itself.

    A configuration of `layout` and `d_model` that leaves out `attention` or `d_intermediate` is filled in by
    `ModelConfig.reasonable`.
    """
    if isinstance(model, dict):
        short = {"layout", "d_model"} <= model.keys() and not {"attention", "d_intermediate"} <= model.keys()
        try:
            return ModelConfig.reasonable(**model) if short else ModelConfig.from_dict(model)
        except InputError as error:
            raise InputError(f"model.{error}") from error
    return ModelConfig.from_json(model) if model.endswith(".json") else ModelConfig.preset(model)


def starting_config(config: TrainConfig) -> ModelConfig:
    """The architecture of a run; with `init` that of the folder, changed by the keys of `model`.

    Where `model` brings heads and no tasks, `prediction` is added to the tasks of the folder's model.

    Raises:
        InputError: there is no such model, or the keys do not fit together.
    """
    if config.init is None:
        return read_model_config(config.model)
    known, changes = ModelConfig.from_json(f"{config.init}/{CONFIG_NAME}"), dict(config.model or {})
    if changes.get("heads") and "prediction" not in known.tasks:
        changes.setdefault("tasks", [*known.tasks, "prediction"])
    return read_model_config(known.to_dict() | changes)


def starting_model(config: TrainConfig, model_config: ModelConfig) -> GenomicLM:
    """A model of fresh weights, drawn from torch's generator, or with those of `init` and of `main_network`.

    Raises:
        InputError: these do not fit.
    """
    model = _with_init(config, model_config)
    if config.main_network is not None:
        _put_into_main_network(model, config.main_network)
    return model


def _put_into_main_network(model: GenomicLM, published: MainNetwork) -> None:
    try:
        report = load_ntv2_weights(model, published.ntv2, freeze=published.freeze, layers=published.layers)
    except InputError as error:
        raise InputError(f"main_network: {error}") from error
    print(f"{published.ntv2}: {report}", file=sys.stderr)


def _with_init(config: TrainConfig, model_config: ModelConfig) -> GenomicLM:
    model = GenomicLM(model_config)
    if config.init is None:
        return model
    trained = GenomicLM.from_pretrained(config.init)
    heads = trained.config.heads
    new = tuple(f"heads.{name}." for name, head in model_config.heads.items() if heads.get(name) != head)
    gone = tuple(f"heads.{name}." for name, head in heads.items() if model_config.heads.get(name) != head)
    kept = {key: value for key, value in trained.state_dict().items() if not key.startswith(gone)}
    fresh = {key: value for key, value in model.state_dict().items() if key.startswith(new)}
    return build_model(GenomicLM, model_config, kept | fresh, config.init)


def choose_task(config: TrainConfig, model: ModelConfig) -> str:
    """The task of a run, or of the first of its data sets.

    Raises:
        InputError: the model does not know it.
    """
    return task_of(config.data_sets[0], model, "task" if config.data is None else "data[0].task")


def task_of(data: DataConfig, model: ModelConfig, key: str) -> str:
    """The task of a data set: `prediction` with a table, else `lm` or `mlm`.

    Args:
        data: the data set.
        model: what is trained.
        key: of the setting, for a complaint.

    Raises:
        InputError: the model does not know it.
    """
    if data.table is not None:
        known, task = model.tasks, "prediction"
    else:
        known = [task for task in model.tasks if task != "prediction"]
        task = data.task or (known[0] if known else "lm")
    if task not in known:
        raise InputError(f"{key}: is {task!r}, and the model knows {', '.join(map(repr, model.tasks))}")
    return task
