"""The precision that products under autocast are taken in."""

import torch
from torch import Tensor


def as_products_take_it(x: Tensor) -> Tensor:
    """x as a linear layer under the autocast around rounds it; itself where it does not."""
    device = x.device.type
    if x.dtype is not torch.float32 or not torch.is_autocast_enabled(device):
        return x
    return x.to(torch.get_autocast_dtype(device))
