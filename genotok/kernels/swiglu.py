"""The gate of a SwiGLU."""

from torch import Tensor
from torch.nn.functional import silu

from genotok.kernels.backend import uses_triton


def swiglu(value_gate: Tensor) -> Tensor:
    """silu(gate) * value (arXiv 2002.05202).

    Args:
        value_gate: (T, 2 I), the values in front of the gates.

    Returns:
        (T, I).
    """
    if uses_triton(value_gate):
        from genotok.kernels import triton_swiglu

        return triton_swiglu.swiglu(value_gate)
    value, gate = value_gate.chunk(2, -1)
    return silu(gate) * value
