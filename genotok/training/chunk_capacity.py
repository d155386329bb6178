"""Which steps of a run fill their chunks up to a capacity, and which are done at their exact size."""

from typing import Any

from genotok.errors import InputError
from genotok.models import ModelConfig
from genotok.training.alarms import Alarm
from genotok.training.config import TrainConfig

EXACT_STEPS = 20  # behind one that made more chunks than there is room for


class ChunkRoom:
    """The room for chunks in the steps of a run.

    A step that makes more chunks than there is room for is done again at its exact size, and so are the next
    `EXACT_STEPS`, since these will hardly make fewer.

    Args:
        config: of the run.
        model: what is trained.

    Raises:
        InputError: the capacities do not fit the model.
    """

    def __init__(self, config: TrainConfig, model: ModelConfig):
        self.is_limited, self._exact_until, self.exceeded = bool(config.chunk_capacity), 0, 0
        if not self.is_limited:
            return
        stages = len(model.chunkers)
        if len(config.chunk_capacity) != stages:
            raise InputError(
                f"chunk_capacity: {len(config.chunk_capacity)} values for the {stages} chunking stages of the "
                "model"
            )
        if has_hyena_inside(model):
            raise InputError(
                "chunk_capacity: Hyena in a stage of chunks needs to know how long its sequences are; leave it out"
            )

    def is_exact(self, step: int) -> bool:
        """Whether a step (1-based) is done at its exact size."""
        return step <= self._exact_until

    def exceed(self, step: int) -> Alarm:
        """Note that a step has made more chunks than there is room for; what to say about it, once a run."""
        self._exact_until = step + EXACT_STEPS
        self.exceeded += 1
        return Alarm(
            "chunk_capacity",
            "there is no room for the chunks of this step, which is done again at its exact size, and so are the "
            f"next {EXACT_STEPS}; where this goes on behind the first steps, set a higher chunk_capacity",
        )

    def state(self) -> dict[str, Any]:
        """JSON values from which the same steps follow; none where nothing is limited."""
        return {"exact_until": self._exact_until} if self.is_limited else {}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self._exact_until = state.get("exact_until", 0)


def has_hyena_inside(model: ModelConfig) -> bool:
    """Whether some stage that reads chunks has a Hyena block."""
    stage = model.stage_layout.inner
    while stage is not None:
        if any(block.mixer == "hyena" for block in stage.encoder + stage.decoder):
            return True
        stage = stage.inner
    return False
