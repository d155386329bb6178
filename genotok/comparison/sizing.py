"""Sizes of models with which training costs a wanted number of operations a base.

Operations are those of `genotok.models.cost.training_flops`: a forward pass, and a backward pass counted as two. What
an arm saves by reading chunks in place of bases goes into a larger main network.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from genotok.comparison.arms import ENTROPY, LARGE, LEARNED, SMALL, Arm, Cuts, Shape, model_values
from genotok.errors import InputError
from genotok.models import ModelConfig
from genotok.models.cost import model_cost, training_flops

LARGE_FROM = 1e7  # operations a base from which on models have the heads of a GPU
MLP = {"T": 8 / 3, "M": 2.0}  # width of an MLP over that of its block, in transformers and behind Mamba-2
MLP_RANGE = 1.6  # the solver may widen or narrow it by this factor
ROUNDING = 8  # of widths of MLPs
MOST_LAYERS, WIDEST = 64, 4096


@dataclass(frozen=True)
class Budget:
    """What every arm may cost, and what it reads.

    Attributes:
        flops: operations of training a base.
        window: letters of a window.
        outer_layers, outer_share, entropy_share, aspect: see `genotok.comparison.settings.ComparisonSettings`.
    """

    flops: float
    window: int
    outer_layers: int = 2
    outer_share: float = 0.4
    entropy_share: float = 0.1
    aspect: float = 40.0

    @property
    def head(self) -> int:
        """Features of a head, and what widths are multiples of."""
        return LARGE if self.flops >= LARGE_FROM else SMALL


def flops_per_base(config: ModelConfig, window: int, letters: float, rows: Sequence[float]) -> float:
    """Operations of training for each base that is read.

    Args:
        config: of the model. An entropy model in it is run forward alone; its own training comes on top, see
            `entropy_training_flops`.
        window: letters of a window.
        letters: a token.
        rows: a chunk of each chunking stage, outermost first.
    """
    return training_flops(config, tokens_of(window, letters), rows) / window


def entropy_training_flops(config: ModelConfig, window: int) -> float:
    """Operations a base of training the entropy model in a configuration, on as many bases as the arm reads.

    0 where there is none.
    """
    own = config.entropy_model
    return 0.0 if own is None else flops_per_base(own, window, 1.0, [])


def tokens_of(window: int, letters: float) -> int:
    """Tokens of a window, a start token in front of them included."""
    return 1 + round(window / letters)


def solve(
    arm: Arm,
    cuts: Cuts,
    budget: Budget,
    entropy: dict[str, Any] | None = None,
    rows: Sequence[float] | None = None,
) -> ModelConfig:
    """The model of an arm that costs what the budget says.

    Width and number of layers of the main network come near the budget's aspect; the width of its MLPs then takes
    what is left, in steps of 8. Outer stages are those of `outer_width`.

    Args:
        arm: the arm.
        cuts: how long its chunks are meant to be.
        budget: what it may cost.
        entropy: configuration of the entropy model, for the arm that has one; its training counts.
        rows: a chunk of each stage as they are expected; None for those of `cuts`.

    Raises:
        InputError: the budget is too small or too large for any size.
    """
    outer = outer_width(budget) if arm.stages else 0
    cost, fits = _cost(arm, cuts, budget.window, entropy, cuts.rows if rows is None else rows), []
    for width in range(max(outer, budget.head), WIDEST + 1, budget.head):
        shape = Shape(width, 1, 1, outer, budget.outer_layers, budget.head)
        fits += _shapes(arm, budget, shape, cost)
    if not fits:
        raise InputError(
            f"flops_per_base: {budget.flops:.3g} operations a base are no size of {arm.name!r}; take "
            "more or fewer of them, or other outer layers"
        )
    return _config(arm, cuts, min(fits, key=lambda fit: fit[0])[1], entropy)


def outer_width(budget: Budget) -> int:
    """The width of outer stages, the same in all arms: the widest of which a stage with a router costs its share.

    Raises:
        InputError: even the narrowest costs more.
    """
    arm, cuts = Arm("outer", "outer", LEARNED, stages=1), Cuts(rows=[2.0])
    found = 0
    for width in range(budget.head, WIDEST + 1, budget.head):
        config = _config(arm, cuts, Shape(width, 1, ROUNDING, width, budget.outer_layers, budget.head))
        parts = model_cost(config, tokens_of(budget.window, 1.0), [2.0]).parts
        outer = sum(part.flops.total for part in parts if part.name.startswith("stage 0"))
        if 3 * outer / budget.window > budget.outer_share * budget.flops:
            break
        found = width
    if not found:
        raise InputError(
            f"outer_share: {budget.outer_share:g} of {budget.flops:.3g} operations a base are too few for an encoder "
            f"and a decoder of {budget.outer_layers} layers"
        )
    return found


def entropy_model(budget: Budget) -> dict[str, Any]:
    """The configuration of an entropy model whose training and use cost at most their share of the budget.

    Raises:
        InputError: even the narrowest costs more.
    """
    arm, found = Arm("entropy model", "entropy model", ENTROPY, mixer="m"), None
    for width in range(budget.head, WIDEST + 1, budget.head):
        config = _config(arm, Cuts(), Shape(width, 2, 0, head=budget.head))
        training = flops_per_base(config, budget.window, 1.0, [])
        if training * 4 / 3 > budget.entropy_share * budget.flops:
            break
        found = config.to_dict()
    if found is None:
        raise InputError(
            f"entropy_share: {budget.entropy_share:g} of {budget.flops:.3g} operations a base are too few for an "
            "entropy model"
        )
    return found


def _shapes(
    arm: Arm, budget: Budget, shape: Shape, cost: Callable[[Shape], float]
) -> list[tuple[float, Shape]]:
    """Shapes of one width that cost the budget, each with how far it is from what is wanted of it.

    The cost is a straight line in the layers, and each layer's in the width of its MLP.
    """
    usual = MLP[arm.mixer] * shape.width
    bare = cost(replace(shape, inner=0))
    layer = cost(replace(shape, layers=2, inner=0)) - bare
    outside, of_inner = bare - layer, (cost(replace(shape, inner=ROUNDING)) - bare) / ROUNDING
    found = []
    for layers in range(1, MOST_LAYERS + 1):
        inner = ((budget.flops - outside) / layers - layer) / of_inner
        inner = ROUNDING * round(inner / ROUNDING)
        if inner < usual / MLP_RANGE:
            break
        if inner <= usual * MLP_RANGE:
            off = abs(math.log(shape.width / layers / budget.aspect)) + abs(math.log(inner / usual))
            found.append((off, replace(shape, layers=layers, inner=inner)))
    return found


def _cost(
    arm: Arm, cuts: Cuts, window: int, entropy: dict[str, Any] | None, rows: Sequence[float]
) -> Callable[[Shape], float]:
    """What a shape costs a base, all training included."""
    entropies = 0.0
    if entropy is not None:  # trained, and then run forward alone
        entropies = 4 / 3 * flops_per_base(ModelConfig.from_dict(entropy), window, 1.0, [])

    def cost(shape: Shape) -> float:
        return flops_per_base(_counted(arm, cuts, shape), window, cuts.letters, rows) + entropies

    return cost


def _config(arm: Arm, cuts: Cuts, shape: Shape, entropy: dict[str, Any] | None = None) -> ModelConfig:
    values = model_values(arm, cuts, shape)
    if entropy is not None:
        values["chunkers"][0]["model"] = entropy
    return ModelConfig.from_dict(values)


def _counted(arm: Arm, cuts: Cuts, shape: Shape) -> ModelConfig:
    """A configuration whose cost alone counts: its MLPs may have no width."""
    config = _config(arm, cuts, replace(shape, inner=ROUNDING))
    config.d_intermediate[-1] = shape.inner
    return config
