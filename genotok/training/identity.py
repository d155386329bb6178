"""By what a run is known: a checkpoint goes on only in the run that wrote it."""

import hashlib
import json

from genotok.atomic import sha256_of
from genotok.models import GenomicLM
from genotok.pretrained.main_network import weights_file
from genotok.training.config import TrainConfig
from genotok.training.data import TrainingData


def run_identity(config: TrainConfig, model: GenomicLM, data: TrainingData) -> str:
    """A hash of all that fixes the weights and the metrics: settings, architecture, data and first weights."""
    values = {"settings": config.identity(), "model": model.config.to_dict(), "files": data.files}
    if config.init is not None:
        values["init"] = model.content_hash()
    if config.main_network is not None:
        values["main_network_weights"] = sha256_of(weights_file(config.main_network.ntv2))
    if model.entropy_model is not None:
        values["entropy_model"] = model.entropy_model.content_hash()
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
