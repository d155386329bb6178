"""By what a run is known: a checkpoint goes on only in the run that wrote it."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from genotok.atomic import sha256_of
from genotok.models import GenomicLM
from genotok.pretrained.main_network import weights_file
from genotok.training.config import TrainConfig
from genotok.training.data import TrainingData

SHOWN = 60  # characters of a value in a sentence; of longer ones only the key is named
# How sentences call the parts; settings and architecture by keys as in CONFIG.yaml.
NAMES = {"settings": "", "model": "model", "files": "the data", "init": "the weights of init"}
NAMES |= {
    "main_network_weights": "the weights of main_network",
    "entropy_model": "the weights of entropy_model",
}


def run_identity(config: TrainConfig, model: GenomicLM, data: TrainingData) -> dict[str, Any]:
    """All that fixes the weights and the metrics, as JSON values: settings, architecture, data and first weights."""
    values = {"settings": config.identity(), "model": model.config.to_dict(), "files": data.files}
    if config.init is not None:
        values["init"] = model.content_hash()
    if config.main_network is not None:
        values["main_network_weights"] = sha256_of(weights_file(config.main_network.ntv2))
    if model.entropy_model is not None:
        values["entropy_model"] = model.entropy_model.content_hash()
    return values


def identity_hash(identity: dict[str, Any]) -> str:
    """One hash of all of it."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def differences(earlier: dict[str, Any], identity: dict[str, Any]) -> str:
    """What two runs do not have in common, for a sentence; settings by their keys, short ones with both values.

    Args:
        earlier: `run_identity` of a run, as read from JSON.
        identity: of another.
    """
    now, found = json.loads(json.dumps(identity)), {}
    for part, name in NAMES.items():
        if part == "model" and "model" in found:
            continue  # another model altogether
        for key, *values in _differing(name, earlier.get(part), now.get(part)):
            found.setdefault(key, _sentence(key, *values) if part in ("settings", "model") else key)
    return "; ".join(found.values())


def _differing(key: str, was: Any, is_now: Any) -> Iterator[tuple[str, Any, Any]]:
    """The keys below one whose values differ, and these values; None stands for what is not there."""
    if isinstance(was, dict) and isinstance(is_now, dict):
        for name in {**is_now, **was}:
            yield from _differing(f"{key}.{name}" if key else name, was.get(name), is_now.get(name))
    elif was != is_now:
        yield key, was, is_now


def _sentence(key: str, was: Any, is_now: Any) -> str:
    texts = [json.dumps(value) for value in (was, is_now)]
    return key if max(map(len, texts)) > SHOWN else f"{key} was {texts[0]} and is {texts[1]}"
