"""How ranks share a model: each with all of it (DDP), or each with a part of every weight (FSDP2)."""

import contextlib
import warnings
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from genotok.models.blocks import Block
from genotok.training.distributed import Ranks, is_in_parts
from genotok.training.objective import Passes, PassSums


class Shared:
    """Runs a model so that every rank ends with the gradient of all ranks.

    With `ddp` every rank holds the whole model, and gradients are averaged while the backward pass goes on. With
    `fsdp` every rank holds a part of each weight, of its gradient and of its moments, and a block has its weights
    whole only while it runs (FSDP2, `torch.distributed.fsdp.fully_shard`).

    Args:
        passes: the model; with `fsdp` its parameters become `DTensor`s.
        parallel: `auto` (ddp), `ddp` or `fsdp`; one rank alone needs neither.
        ranks: who else is there.
    """

    def __init__(self, passes: Passes, parallel: str, ranks: Ranks):
        self.passes, self.ranks = passes, ranks
        self._run: nn.Module = passes
        self._kept_whole: list[nn.Parameter] = []
        self._in_parts = ranks.size > 1 and parallel == "fsdp"
        if ranks.size > 1:
            self._share_parts() if self._in_parts else self._copy()

    def _copy(self) -> None:
        if not any(parameter.requires_grad for parameter in self.passes.parameters()):
            return  # make_optimizer says so
        # What a pass does not use (heads of another task, what only causal passes need) has no gradient on any rank,
        # as on one alone. Only models that do nothing but predict the next token use all they have.
        uses_all = self.passes.model.config.tasks == ["lm"]
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")  # its successor is new
        self._run = DistributedDataParallel(
            self.passes, broadcast_buffers=False, find_unused_parameters=not uses_all
        )

    def _share_parts(self) -> None:
        # Their import takes a second, which runs of one rank need not wait for.
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        model = self.passes.model
        # FSDP2 has no parts of a single number, and the entropy model, frozen and small, also runs by itself.
        alone = () if model.entropy_model is None else set(model.entropy_model.parameters())
        kept = [p for p in model.parameters() if p.ndim == 0 or p in alone]
        self._kept_whole = [
            parameter for parameter in kept if parameter.requires_grad
        ]  # in one order on all ranks
        # No block's output is changed in place, which is what this warns of.
        warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
        mesh = init_device_mesh(self.ranks.device.type, (self.ranks.size,))
        for block in (module for module in model.backbone.modules() if isinstance(module, Block)):
            fully_shard(block, mesh=mesh)
        # Also the outermost weights: only so every parameter lies in parts again behind a pass without gradient.
        fully_shard(model, mesh=mesh, ignored_params=set(kept), reshard_after_forward=True)

    def __call__(self, *inputs) -> PassSums:
        """A pass; see `Passes`."""
        return self._run(*inputs)

    def more_to_come(self, more: bool) -> contextlib.AbstractContextManager:
        """The context of a pass; gradients wait for later micro batches where there are `more`."""
        if isinstance(self._run, DistributedDataParallel) and more:
            return self._run.no_sync()
        if self._in_parts:
            self.passes.model.set_requires_gradient_sync(not more)
        return contextlib.nullcontext()

    def finish_gradients(self) -> None:
        """Average the gradients of the few weights that every rank holds whole beside FSDP2."""
        for parameter in self._kept_whole:
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = self.ranks.sum(gradient) / self.ranks.size


def clip_gradient(parameters: Iterable[nn.Parameter], largest: float) -> Tensor:
    """Scale the gradient down to a norm of at most `largest`; the norm before, the same on all ranks."""
    parameters = [parameter for parameter in parameters if parameter.grad is not None]
    norm = gradient_norm(parameters)
    torch.nn.utils.clip_grads_with_norm_(whole_ones(parameters), largest, norm)
    torch.nn.utils.clip_grads_with_norm_(parts(parameters), largest, norm)
    return norm


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The norm of a gradient over all ranks; a collective where parameters are in parts."""
    parameters = [parameter for parameter in parameters if parameter.grad is not None]
    norms = []
    for group in (whole_ones(parameters), parts(parameters)):
        if group:
            norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in group])
            norms.append(norm.full_tensor() if is_in_parts(norm) else norm)
    return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))


def parts(parameters: list[nn.Parameter]) -> list[nn.Parameter]:
    """Those of which this rank holds a part."""
    return [parameter for parameter in parameters if is_in_parts(parameter)]


def whole_ones(parameters: list[nn.Parameter]) -> list[nn.Parameter]:
    """Those that this rank holds whole."""
    return [parameter for parameter in parameters if not is_in_parts(parameter)]


def local(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor; it shares memory with it."""
    return tensor.to_local() if is_in_parts(tensor) else tensor


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the weights and buffers of a model, whole and on the CPU; a collective where they are in parts."""
    return {name: whole(tensor).to("cpu", copy=True) for name, tensor in model.state_dict().items()}


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, detached; a collective where it is in parts."""
    tensor = tensor.detach()
    return tensor.full_tensor() if is_in_parts(tensor) else tensor
