"""Float8 where most of the work lies: the matrices of the main network."""

import torch
from torch import Tensor, nn

from genotok.kernels.float8_linear import fits_float8, float8_linear
from genotok.models import GenomicLM
from genotok.models.linear import Linear


class Float8Linear(nn.Linear):
    """A linear layer whose products are float8 while it learns; its weights stay as they are.

    In evaluation mode it is a linear layer like any other, so that validation says what `genotok evaluate` will.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(T, K) to (T, N), bfloat16 while it learns."""
        if not self.training:
            return super().forward(x)
        product = float8_linear(x, self.weight)
        return product if self.bias is None else product + self.bias.to(product.dtype)

    @classmethod
    def of(cls, linear: nn.Linear) -> "Float8Linear":
        """A layer that shares the parameters of `linear`."""
        with torch.device("meta"):
            layer = cls(linear.in_features, linear.out_features, bias=linear.bias is not None)
        layer.weight, layer.bias = linear.weight, linear.bias
        return layer.train(linear.training)


def put_float8_into_main_network(model: GenomicLM) -> int:
    """Let the linear layers of the innermost stage's blocks learn in float8; returns how many do.

    Those whose widths are no multiples of 16 stay as they are. Names and parameters do not change.
    """
    stage = model.backbone
    while stage.inner is not None:
        stage = stage.inner
    plain = [
        (parent, name, child)
        for parent in stage.encoder.modules()
        for name, child in parent.named_children()
        if type(child) in (nn.Linear, Linear) and fits_float8(child.weight)
    ]
    for parent, name, child in plain:
        setattr(parent, name, Float8Linear.of(child))
    return len(plain)
