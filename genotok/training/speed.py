"""How fast a run is, what of the device it uses, and how much memory: all that depends on the clock."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from genotok.models import ModelConfig
from genotok.models.cost import training_flops
from genotok.training.stages import StageNumbers

# Dense bf16 products in TFLOP/s as the makers state them, by a part of the device's name; the first that fits counts.
PEAK_TFLOPS = {
    "GB200": 2500,
    "B200": 2250,
    "GH200": 989,
    "H200": 989,
    "H100 PCIe": 756,
    "H100 NVL": 835,
    "H100": 989,
    "H800": 989,
    "A100": 312,
    "A800": 312,
    "L40S": 362,
    "L40": 181,
    "L4": 121,
    "A40": 150,
    "A30": 165,
    "A10": 125,
    "RTX 6000 Ada": 364,
    "RTX A6000": 155,
    "RTX 4090": 165,
    "RTX 3090": 71,
}


def peak_flops(device: torch.device) -> float | None:
    """Operations a second that a device's bf16 products are said to reach; None where it is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((1e12 * peak for part, peak in PEAK_TFLOPS.items() if part in name), None)


def peak_memory(device: torch.device) -> int:
    """The most bytes so far: allocated on a GPU, or resident in the main memory for this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return resident if sys.platform == "darwin" else resident * 1024


class Speed:
    """Counts work and the time it takes, from one record to the next; validation and checkpoints do not count.

    Args:
        config: of the model.
        device: it runs on.
        unit: what is counted, `bases` or `sequences`.
        ranks: how many devices share the work that is counted.
    """

    def __init__(self, config: ModelConfig, device: torch.device, unit: str, ranks: int = 1):
        self.config, self.device, self.unit, self.ranks = config, device, unit, ranks
        self.peak = peak_flops(device)
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._seconds = self._waited = 0.0
        self._units = self._sequences = self._tokens = self._steps = 0

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around all of a step."""
        began = time.monotonic()
        yield
        self._seconds += time.monotonic() - began
        self._steps += 1

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within a step, around what waits for data."""
        began = time.monotonic()
        yield
        self._waited += time.monotonic() - began

    def add(self, units: int, sequences: int, tokens: int) -> None:
        """Note the work of a step: units, sequences and tokens of all ranks."""
        self._units += units
        self._sequences += sequences
        self._tokens += tokens

    def record(self, stages: list[StageNumbers]) -> dict[str, Any]:
        """The numbers since the last call; those that follow begin anew.

        Args:
            stages: the chunks of the latest step, from which the operations of a step are worked out.

        Returns:
            `bases_per_second` (or `sequences_per_second`), `waiting_share`, `memory_bytes` (the peak so far),
            `seconds` and `steps`; and where the peak of the device is known `mfu`: operations of the model, without
            what is computed twice, over those that the bf16 products of all devices could have done in the time.
            Sequences of a batch count with their mean length.
        """
        seconds = max(self._seconds, 1e-9)
        found = {
            f"{self.unit}_per_second": self._units / seconds,
            "waiting_share": self._waited / seconds,
            "memory_bytes": peak_memory(self.device),
            "seconds": seconds,
            "steps": self._steps,
        }
        if self.peak is not None and self._sequences:
            found["mfu"] = self._flops(stages) / seconds / (self.peak * self.ranks)
        self._begin_anew()
        return found

    def _flops(self, stages: list[StageNumbers]) -> float:
        compression = [stage.rows / stage.chunks for stage in stages]
        length = max(round(self._tokens / self._sequences), 1)
        return self._sequences * training_flops(self.config, length, compression)
