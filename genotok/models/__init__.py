"""Models: what they are made of, and how they are run."""

from genotok.models.config import ModelConfig
from genotok.models.language_model import GenomicLM
from genotok.models.output import ModelOutput

__all__ = ["GenomicLM", "ModelConfig", "ModelOutput"]
