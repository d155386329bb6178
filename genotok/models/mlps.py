"""What follows the mixer in a block, row by row."""

from torch import Tensor, nn
from torch.nn.functional import gelu

from genotok.kernels.less_kept import cheap, product
from genotok.kernels.swiglu import swiglu
from genotok.models.linear import Linear


class SwiGLU(nn.Module):
    """out(silu(gate(x)) * value(x)), with value and gate side by side in one matrix (arXiv 2002.05202)."""

    def __init__(self, width: int, intermediate: int):
        super().__init__()
        self.value_gate = Linear(width, 2 * intermediate, bias=False)
        self.out = Linear(intermediate, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(T, D) to (T, D)."""
        return self.out(cheap(swiglu, product(self.value_gate, x)))


class GeluMLP(nn.Module):
    """out(gelu(up(x))) with biases, and the GELU by its tanh (arXiv 1606.08415), as GPT-2 and HyenaDNA have it."""

    def __init__(self, width: int, intermediate: int):
        super().__init__()
        self.up = Linear(width, intermediate)
        self.out = Linear(intermediate, width)

    def forward(self, x: Tensor) -> Tensor:
        """(T, D) to (T, D)."""
        return self.out(cheap(_gelu, product(self.up, x)))


def _gelu(x: Tensor) -> Tensor:
    return gelu(x, approximate="tanh")


MLPS = {"swiglu": SwiGLU, "gelu": GeluMLP}
