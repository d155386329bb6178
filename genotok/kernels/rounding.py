"""The precision that products under autocast are taken in."""

import torch
from torch import Tensor


def product_dtype(x: Tensor, otherwise: torch.dtype) -> torch.dtype:
    """The dtype of products on the device of x under the autocast around; `otherwise` where there is none."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else otherwise


def as_products_take_it(x: Tensor) -> Tensor:
    """x as a linear layer under the autocast around rounds it; itself where it does not."""
    return x.to(product_dtype(x, x.dtype)) if x.dtype is torch.float32 else x
