"""Devices, and the number format of the matrix products."""

import contextlib
import sys
from typing import Any

import torch
from torch import Tensor

from genotok.errors import InputError
from genotok.kernels.float8_linear import has_float8
from genotok.models import GenomicLM, ModelConfig
from genotok.training.float8 import put_float8_into_main_network

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.bfloat16}
SMALLEST_LOSS_SCALE = 2.0**-16  # under it every gradient has overflowed for dozens of steps


def choose_device(name: str) -> torch.device:
    """The device of a name; `auto` takes a GPU where there is one.

    Raises:
        InputError: torch knows no such device, or it is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device: {name!r} is no device of torch; use auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device: {name!r} was asked for, and torch sees no GPU here")
    return device


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """The context in which a forward pass runs: autocast to bf16 or fp16, or nothing; `auto` is bf16 on a GPU."""
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" else "fp32"
    if precision in DTYPES:
        return torch.autocast(device.type, dtype=DTYPES[precision])
    return contextlib.nullcontext()


def choose_precision(
    wanted: str, device: torch.device, task: str, model: ModelConfig, speaks: bool = True
) -> str:
    """The precision that a run trains in: what is `wanted`, or the preset of its task.

    The presets, for `auto`: float32 on a CPU. On a GPU `lm`, `mlm`, and classes in `prediction` bf16, or fp16 with
    loss scaling where the device has no bf16 of its own; numbers in `prediction` float32, since bf16 tells apart some
    three digits of the states that they are read from. fp8 on a device without it is bf16, which is said
    where `speaks`.
    """
    if wanted == "fp8" and not has_float8(device):
        if speaks:
            print(
                "precision: fp8 needs a GPU with float8 products (Ada, Hopper or later), and this is "
                f"{_name(device)}; the run goes on in bf16",
                file=sys.stderr,
            )
        return "bf16"
    if wanted != "auto":
        return wanted
    numbers = any(head.kind == "regression" for head in model.heads.values())
    if device.type != "cuda" or (task == "prediction" and numbers):
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"a {device.type.upper()}"


class Precision:
    """The number format of a run, and the loss scaling that fp16 needs.

    Weights, gradients, optimizer, residual streams and recurrences are float32 in every one.

    Attributes:
        name: `fp32`, `bf16`, `fp16` or `fp8`.
        skipped: steps that were left out because a gradient overflowed in fp16.

    Args:
        name: one of these, see `choose_precision`.
        device: of the model.
        model: with `fp8` the linear layers of its main network are put into it.
    """

    def __init__(self, name: str, device: torch.device, model: GenomicLM):
        self.name, self.device, self.skipped = name, device, 0
        self._scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")
        if name == "fp8" and not put_float8_into_main_network(model):
            print("precision: no layer of the main network fits fp8, and the run is bf16", file=sys.stderr)

    def autocast(self) -> contextlib.AbstractContextManager:
        """The context in which a forward pass runs."""
        return autocast(self.device, self.name)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss, scaled in fp16."""
        self._scaler.scale(loss).backward()

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Bring the gradients back to their size, before they are clipped or looked at; once a step."""
        self._scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> bool:
        """Let the optimizer step, its gradients being unscaled; returns whether it did.

        In fp16 a gradient that is no number leaves the step out and halves the scale.
        """
        before = self.loss_scale
        self._scaler.step(optimizer)
        self._scaler.update()
        done = self.loss_scale >= before
        self.skipped += not done
        return done

    @property
    def scales(self) -> bool:
        """Whether losses are scaled, so that a gradient may overflow now and then."""
        return self._scaler.is_enabled()

    @property
    def loss_scale(self) -> float:
        """What losses are multiplied by; 1 but in fp16."""
        return self._scaler.get_scale()

    @property
    def is_lost(self) -> bool:
        """Whether the scale has become so small that nothing will be learned any more."""
        return self.scales and self.loss_scale < SMALLEST_LOSS_SCALE

    def trouble(self) -> str:
        """What a sentence about a loss that is no number says of the scale; empty but in fp16."""
        if not self.scales:
            return ""
        return f", loss scale of fp16 {self.loss_scale:.3g} with {self.skipped} steps left out: use precision bf16"

    def record(self) -> dict[str, Any]:
        """What `metrics.jsonl` says about it: nothing but in fp16."""
        return {"loss_scale": self.loss_scale, "skipped_steps": self.skipped} if self.scales else {}

    def state(self) -> dict[str, Any]:
        """JSON values from which a run goes on."""
        return {"scaler": self._scaler.state_dict(), "skipped": self.skipped} if self.scales else {}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        if self.scales and state:
            self._scaler.load_state_dict(state["scaler"])
            self.skipped = state["skipped"]
