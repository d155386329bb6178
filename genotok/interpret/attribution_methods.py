"""Integrated gradients, input times gradient, and mutagenesis of a function of letters.

Each gives hypothetical contributions (L, 4): what A, C, G and T would contribute at each place. That of the letter
which stands there is its contribution. All three agree on a function that is linear in the letters.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from captum.attr import IntegratedGradients, Saliency
from torch import Tensor

from genotok.interpret.differentiable_letters import COLUMNS, LetterFunction, one_hot
from genotok.interpret.dinucleotide_shuffle import dinucleotide_shuffle

BASELINES = ("uniform", "n", "shuffled")


@dataclass(frozen=True)
class Completeness:
    """How well contributions sum to what they should.

    Attributes:
        value: f of the sequence.
        baseline: f of the baseline, the mean over several.
        total: the sum of the contributions.
    """

    value: float
    baseline: float
    total: float

    @classmethod
    def mean(cls, parts: "Sequence[Completeness]") -> "Completeness | None":
        """The mean over strands; None of none."""
        if not parts:
            return None
        columns = zip(*((part.value, part.baseline, part.total) for part in parts), strict=True)
        return cls(*(float(np.mean(column)) for column in columns))

    @property
    def gap(self) -> float:
        """What the sum lacks of f(sequence) - f(baseline), in the unit of f; of either sign."""
        return self.total - (self.value - self.baseline)

    @property
    def relative_gap(self) -> float:
        """The gap's size in shares of |f(sequence) - f(baseline)|."""
        return abs(self.gap) / max(abs(self.value - self.baseline), 1e-12)


def integrated_gradients(
    function: LetterFunction, baselines: Tensor, steps: int, batch_size: int
) -> tuple[Tensor, Completeness]:
    """Gradients summed along the straight line from a baseline to the sequence (arXiv 1703.01365), by Captum.

    The gradient is integrated by Gauss-Legendre quadrature. A letter's hypothetical contribution is its mean gradient
    less that of the baseline at this place; several baselines are averaged.

    Args:
        function: of L letters.
        baselines: (N, L, 5).
        steps: points on each line.
        batch_size: points at once; the result depends on it by rounding alone.

    Returns:
        (L, 4) float32 hypothetical contributions, and their completeness.
    """
    method = IntegratedGradients(function, multiply_by_inputs=False)
    truth = function.one_hot[None]
    found = torch.zeros(len(function.one_hot), 4, device=truth.device)
    for baseline in baselines[:, None]:
        mean = method.attribute(
            truth, baselines=baseline, n_steps=steps, internal_batch_size=batch_size
        ).detach()[0]
        found += mean[:, :4] - (mean * baseline[0]).sum(1, keepdim=True)
    found = (found / len(baselines)).float() * function.varies[:, None]
    total = (found * function.one_hot[:, :4]).sum()
    with torch.no_grad():
        values = torch.cat([function(part) for part in torch.cat([truth, baselines]).split(batch_size)])
    value, at_baseline = float(values[0]), float(values[1:].double().mean())
    return found, Completeness(value, at_baseline, float(total))


def input_x_gradient(function: LetterFunction) -> Tensor:
    """The gradient at the sequence, by Captum, less its mean over the four letters, (L, 4) float32.

    A gradient has a part that points off the simplex on which letters lie, and says nothing about letters; taking the
    mean off removes it (Majdandzic et al. 2023, doi:10.1186/s13059-023-02956-3).
    """
    truth = function.one_hot[None].clone().requires_grad_()
    gradient = Saliency(function).attribute(truth, abs=False).detach()[0, :, :4].float()
    return (gradient - gradient.mean(1, keepdim=True)) * function.varies[:, None]


def mutagenesis(function: LetterFunction, batch_size: int) -> Tensor:
    """What f changes by with each other letter at each place, (L, 4) float32; 0 at the letter that stands there.

    Args:
        function: of L letters.
        batch_size: sequences at once.
    """
    codes, length = function.codes, len(function.codes)
    places = function.varies.nonzero()[:, 0]
    letters = torch.arange(4, device=codes.device)
    wanted = torch.cartesian_prod(places, letters) if len(places) else codes.new_zeros(0, 2)
    wanted = wanted[wanted[:, 1] != codes[wanted[:, 0]]]
    found = torch.zeros(length, 4, device=codes.device)
    if not len(wanted):
        return found
    truth = function.of_letters(codes[None])
    for part in wanted.split(batch_size):
        mutated = codes.expand(len(part), -1).clone()
        mutated[torch.arange(len(part), device=codes.device), part[:, 0]] = part[:, 1]
        found[part[:, 0], part[:, 1]] = function.of_letters(mutated) - truth
    return found


def hypothetical_of_changes(changes: np.ndarray) -> np.ndarray:
    """Hypothetical contributions (L, 4) of the changes of a mutagenesis: those of each letter against the mean of
    the four, so that a letter counts for what it is better than an average one."""
    return (changes - changes.mean(1, keepdims=True)).astype(np.float32)


def make_baselines(function: LetterFunction, kind: str, count: int, seed: int) -> Tensor:
    """Sequences that stand for the absence of what the region holds, (N, L, 5) float32.

    Args:
        function: of L letters.
        kind: `uniform`, the four letters in equal parts; `n`, the letter N everywhere; or `shuffled`, the region's
            certain letters in orders that keep the frequency of pairs.
        count: how many shuffled ones.
        seed: of these.
    """
    varies = function.varies[:, None].float()
    if kind == "uniform":
        row = varies.new_tensor([0.25] * 4 + [0.0])
        return (varies * row)[None]
    if kind == "n":
        return (varies * torch.eye(len(COLUMNS), device=varies.device)[-1])[None]
    generator = np.random.default_rng(seed)
    codes = function.codes.cpu().numpy()
    places = np.flatnonzero(codes >= 0)
    shuffled = []
    for _ in range(count):
        other = codes.copy()
        other[places] = dinucleotide_shuffle(codes[places], generator)
        shuffled.append(one_hot(torch.from_numpy(other), len(COLUMNS)))
    return torch.stack(shuffled).to(varies.device)


def turned(contributions: Tensor) -> Tensor:
    """(L, 4) of the reverse strand as those of the forward strand: the other way round, of the complements."""
    return contributions.flip(0, 1)
