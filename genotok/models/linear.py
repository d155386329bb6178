"""The linear layers of blocks, whose weights hold nearly all of the gradient."""

from torch import Tensor, nn

from genotok.kernels.autocast_linear import autocast_linear


class Linear(nn.Linear):
    """torch's linear layer, whose weight gets its gradient in float32 under a GPU's autocast."""

    def forward(self, x: Tensor) -> Tensor:
        """(T, D) to (T, E)."""
        return autocast_linear(x, self.weight, self.bias)
