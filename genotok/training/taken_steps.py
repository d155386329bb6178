"""Steps that have been taken, and how their numbers come to the host without its waiting for a GPU.

A GPU is told to take a step long before it has done so. If the host read the loss of a step behind it, the GPU would
have nothing to do until the host had told it the next one. So the numbers of a step travel while the next one is
under way, and are read behind that: the host is one step ahead, and never more. Whether a step may count, the GPU
decides by itself: see `Guard`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from genotok.kernels.transfers import OnItsWay
from genotok.shards.sampler import Batch
from genotok.training.distributed import Ranks
from genotok.training.labelled import LabelledBatch
from genotok.training.objective import StepLosses
from genotok.training.precision import Precision
from genotok.training.step import FoundLosses


@dataclass
class TakenStep:
    """A step that has been taken.

    Attributes:
        step: its number, 1-based.
        batch: what this rank has read, on the host.
        due: whether its record is due to be noted.
        rate: learning rate of the innermost stage.
        stage_rates: those of all stages.
        found: its losses, on the device.
        norm: () the norm of the gradient.
        stage_norms: (S,) those of the stages; (0,) unless it is due.
    """

    step: int
    batch: Batch | LabelledBatch
    due: bool
    rate: float
    stage_rates: list[float]
    found: FoundLosses
    norm: Tensor
    stage_norms: Tensor

    def __post_init__(self) -> None:
        """Send the numbers off."""
        norms = torch.cat([self.norm.view(1), self.stage_norms.to(self.norm.device)]).double()
        self._numbers = OnItsWay(torch.cat([self.found.values, norms]))

    @cached_property
    def numbers(self) -> tuple[StepLosses, float, list[float]]:
        """The losses of the global batch, the norm of the gradient, and those of the stages, once they are there."""
        values = self._numbers.read()
        norm, *of_stages = values[len(self.found.values) :]
        return self.found.on_host(values), norm, of_stages


def may_be_late(precision: Precision, ranks: Ranks, parallel: str) -> bool:
    """Whether the numbers of a step are read behind the next one.

    On the CPU nothing is won by it. The loss scaling of fp16 needs to know of a step before the next, and the
    optimizer takes no condition for weights that lie in parts.
    """
    in_parts = ranks.size > 1 and parallel == "fsdp"
    return ranks.device.type == "cuda" and not precision.scales and not in_parts


class Guard:
    """Keeps an optimizer from stepping, from the first step on that may not count; the device looks at it itself.

    Args:
        optimizer: a fused one, which has such a condition for the loss scaling of fp16.
        device: of the weights.

    Attributes:
        closed: () float32, 1 once a step may not count, else 0.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device):
        self.optimizer, self.closed = optimizer, torch.zeros((), device=device)

    @torch.no_grad()
    def look(self, step: TakenStep) -> None:
        """Close where the loss or the gradient of a step is no number, or its chunks had no room."""
        found = step.found
        good = found.values.isfinite().all() & step.norm.isfinite() & (found.left_out == 0)
        self.closed.copy_(torch.where(good, self.closed, 1.0))

    def open(self) -> None:
        """Let the optimizer step again."""
        self.closed.zero_()

    @contextmanager
    def asked(self) -> Iterator[None]:
        """A block in which the optimizer steps only where the guard is open."""
        self.optimizer.found_inf = self.closed
        yield
        del self.optimizer.found_inf
