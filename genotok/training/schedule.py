"""The learning rate over the steps."""

import math


def warmup_stable_decay(step: int, steps: int, warmup: float, decay: float) -> float:
    """Factor on the learning rate: a linear rise, a plateau, and a fall as 1 - sqrt (arXiv 2405.18392).

    Args:
        step: 0-based step.
        steps: of the whole run.
        warmup, decay: fractions of the steps.

    Returns:
        More than 0 and at most 1.
    """
    rising, falling = round(warmup * steps), round(decay * steps)
    if step < rising:
        return (step + 1) / rising
    if step >= steps - falling:
        done = (step - (steps - falling)) / falling
        return 1 - math.sqrt(done)
    return 1.0
