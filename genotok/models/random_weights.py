"""A model as it is before training, the control of probes and of attributions."""

import torch

from genotok.models.config import ModelConfig
from genotok.models.language_model import GenomicLM


def random_model(config: ModelConfig, seed: int) -> GenomicLM:
    """A model of some shape whose weights nobody has trained; torch's own generator stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GenomicLM(config)
