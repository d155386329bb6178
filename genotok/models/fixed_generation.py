"""Generation whose steps have fixed shapes and fixed memory, so that a CUDA graph can replay them.

A plain step asks the host at every stage in which sequences a chunk begins, and launches some hundred kernels from
Python for a few microseconds of work each. A fixed one (`GenomicLM.fixed_step`) runs the stage inside for all
sequences and asks nothing; recorded once and replayed for each token, it costs the device's time alone.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genotok.models.cache import StageCache

if TYPE_CHECKING:
    from genotok.models.language_model import GenomicLM

SEGMENT = (
    256  # the fewest steps for which memory is reserved at once; keys of all of it are read in each step
)
WARM_UP = 2  # steps before a graph is recorded, which compile kernels and make handles

Chooser = Callable[[Tensor, Tensor, Tensor], Tensor]


class FixedContinuation:
    """Continues a batch by steps that read and write the same memory every time.

    Args:
        model: a causal model.
        cache: behind the prompts; brought up to date in place.
        first: (B,) int64, the tokens that come behind the prompts.
        uniform: (B, L) float64 random numbers in [0, 1), those of `first` in column 0.
        choose: gives the next tokens (B,) from logits (B, V), the tokens in front (B,) and random numbers (B,).

    Attributes:
        chosen: (B, L) int64, the tokens so far.
    """

    def __init__(
        self, model: "GenomicLM", cache: StageCache, first: Tensor, uniform: Tensor, choose: Chooser
    ):
        self.model, self.cache, self.uniform, self.choose = model, cache, uniform, choose
        self.chosen = torch.zeros(uniform.shape, dtype=torch.long, device=first.device)
        self.chosen[:, 0] = first
        self._last, self._place = first.clone(), torch.ones(1, dtype=torch.long, device=first.device)

    def run(self, graphed: bool, on_step: Callable[[], None]) -> Tensor:
        """Go on to the end of the random numbers.

        Memory that grows with the sequence is reserved for as many steps as there were already, and then a graph is
        recorded anew.

        Args:
            graphed: whether to replay a CUDA graph.
            on_step: called after each step, which with a graph may not have run yet.

        Returns:
            `chosen`.
        """
        done, steps, graph = 0, self.uniform.shape[1] - 1, None
        while done < steps:
            segment = min(steps - done, max(SEGMENT, done))
            if self.cache.reserve(segment):
                graph = None
            end = done + segment
            if graphed and graph is None and segment > WARM_UP:
                done += self._warm_up(on_step)
                graph = self._recorded()
            for _ in range(done, end):
                self.advance() if graph is None else graph.replay()
                on_step()
            done = end
        return self.chosen

    def advance(self) -> None:
        """Add a token to each sequence; no tensor that lasts changes its place in memory."""
        lasting = [(holder, name, getattr(holder, name)) for holder, name in self.cache.tensors()]
        logits = self.model.fixed_step(self._last, self.cache)
        following = self.choose(logits, self._last, self.uniform.index_select(1, self._place)[:, 0])
        _write_back(lasting)
        self.chosen.index_copy_(1, self._place, following[:, None])
        self._last.copy_(following)
        self._place.add_(1)

    def _warm_up(self, on_step: Callable[[], None]) -> int:
        """Some steps on a stream aside, as recording demands; how many they were."""
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                self.advance()
                on_step()
        torch.cuda.current_stream().wait_stream(aside)
        return WARM_UP

    def _recorded(self) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.advance()
        return graph


def _write_back(lasting: list[tuple[object, str, Tensor]]) -> None:
    """Bring what a step left in new tensors to the places that last."""
    places = {tensor.untyped_storage().data_ptr() for _, _, tensor in lasting}
    changed = []
    for holder, name, tensor in lasting:
        new = getattr(holder, name)
        if new is not tensor:
            # What now lies at another lasting place is overwritten before its turn may come.
            lies_there = new.untyped_storage().data_ptr() in places
            changed.append((holder, name, tensor, new.clone() if lies_there else new))
    for holder, name, tensor, new in changed:
        tensor.copy_(new)
        setattr(holder, name, tensor)
