"""Which implementation an operation uses: the torch reference, or Triton where the tensors are on a CUDA device.

The environment variable GENOTOK_KERNELS=reference, or `with reference_kernels():`, keeps CUDA tensors on the
reference, for comparison.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import torch
from torch import Tensor

_forced = ContextVar("reference kernels", default=os.environ.get("GENOTOK_KERNELS", "") == "reference")


@contextmanager
def reference_kernels() -> Iterator[None]:
    """Within the block, every operation runs its torch reference on every device."""
    token = _forced.set(True)
    try:
        yield
    finally:
        _forced.reset(token)


def reference_is_asked_for() -> bool:
    """Whether operations run their torch reference on every device."""
    return _forced.get()


def uses_triton(*tensors: Tensor) -> bool:
    """Whether an operation on these tensors is Triton's: all on CUDA, none in float64, no reference asked for.

    `torch.compile` sees the reference, of which it makes kernels together with what stands around it.
    """
    if torch.compiler.is_compiling() or _forced.get() or torch.version.hip is not None:
        return False
    return all(tensor.is_cuda and tensor.dtype != torch.float64 for tensor in tensors)


def multiprocessors(device: torch.device) -> int:
    """How many programs a device runs side by side, in the unit that its maker counts; 1 of a CPU."""
    if device.type != "cuda":
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count


@cache
def has_tensor_memory_accelerator(device: torch.device) -> bool:
    """Whether a device has a tensor memory accelerator: compute capability 9.0 or later."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 9


@cache
def has_room_to_fetch_ahead(device: torch.device) -> bool:
    """Whether shared memory holds the tiles that programs of the state space fetch ahead, of 149 KB at most."""
    if device.type != "cuda":
        return True
    return torch.cuda.get_device_properties(device).shared_memory_per_block_optin >= 160 << 10
