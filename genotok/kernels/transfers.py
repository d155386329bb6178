"""Copies between the host and a device for which neither waits."""

import torch
from torch import Tensor


def to_device(values: Tensor, device: torch.device | str) -> Tensor:
    """A tensor on a device; one of the host goes to a GPU without waiting for what that is doing."""
    device = torch.device(device)
    if device.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


class OnItsWay:
    """Numbers of a device on their way to the host, while both go on with their work.

    Args:
        values: (N,), of any device; those of a host are there at once.
    """

    def __init__(self, values: Tensor):
        self._values, self._copied = values.detach(), None
        if values.is_cuda:
            with torch.cuda.device_of(values):
                self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
                self._values.copy_(values.detach(), non_blocking=True)
                self._copied = torch.cuda.Event()
                self._copied.record()

    def read(self) -> list[float]:
        """The numbers; waits for the device to have come as far as to them, and no further."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._values.tolist()
