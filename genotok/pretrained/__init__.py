"""Importing published checkpoints."""

import torch
from torch import Tensor

from genotok.errors import InputError
from genotok.models import GenomicLM
from genotok.models.saved import build_model
from genotok.pretrained.hnet import convert_hnet
from genotok.pretrained.hyenadna import convert_hyenadna
from genotok.pretrained.main_network import load_ntv2_weights
from genotok.pretrained.ntv2 import convert_ntv2

CONVERTERS = {"hnet": convert_hnet, "ntv2": convert_ntv2, "hyenadna": convert_hyenadna}


def import_checkpoint(
    family: str, config: dict, state_dict: dict[str, Tensor], source: str = "the checkpoint"
) -> GenomicLM:
    """Make a model of a published checkpoint.

    Args:
        family: `hnet`, `ntv2` or `hyenadna`.
        config: the configuration in the family's own JSON.
        state_dict: the weights under the family's own names.
        source: what to call the weights in an error.

    Raises:
        InputError: an unknown family, or weights that are not those of the configuration.
    """
    if family not in CONVERTERS:
        raise InputError(f"{family!r} is no family of checkpoints; there are {', '.join(CONVERTERS)}")
    if not isinstance(config, dict):
        raise InputError(f"the configuration of {source} is a JSON object, not a {type(config).__name__}")
    converted_config, converted_state = CONVERTERS[family](config, state_dict)
    # Copies, so that training the model does not change what the caller holds.
    own = {key: value.to(torch.float32, copy=True) for key, value in converted_state.items()}
    return build_model(GenomicLM, converted_config, own, source)


__all__ = ["CONVERTERS", "import_checkpoint", "load_ntv2_weights"]
