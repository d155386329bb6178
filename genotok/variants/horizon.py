"""What a horizon costs: scores of some variants under it, beside those of the whole window."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np

from genotok.genomes.fasta import Reference
from genotok.variants.blocks import Task
from genotok.variants.plans import Plan, PlanTask
from genotok.variants.vcf_input import Block

COMPARED_RECORDS = 64


def remembering(blocks: Iterable[Block], kept: list[Block]) -> Iterator[Block]:
    """Pass blocks on and keep the first."""
    for block in blocks:
        if not kept:
            kept.append(block)
        yield block


def horizon_report(
    block: Block, task: Task, reference: Reference, plans: PlanTask, scores: Callable[[Plan], np.ndarray]
) -> str | None:
    """Say how far the scores of the first records of a block are from those without a horizon.

    Args:
        block: records.
        task: with a horizon.
        reference: the FASTA.
        plans: what the model wants.
        scores: gives the values (pairs x values,) of a plan, the ratio first.

    Returns:
        One sentence; None where no record has a score.
    """
    near, far = (
        found.reshape(-1, task.values)[:, 0]
        for found in (
            scores(_plan(block, one, reference, plans)) for one in (task, task._replace(horizon=None))
        )
    )
    if not len(near):
        return None
    error = np.abs(near - far)
    return (
        f"horizon {task.horizon}: {len(error)} of the scores by strand differ from those of the whole window by "
        f"{np.median(error):.2g} nats in the median and {error.max():.2g} at most; "
        f"the scores themselves are {np.median(np.abs(far)):.2g} in the median"
    )


def _plan(block: Block, task: Task, reference: Reference, plans: PlanTask) -> Plan:
    judge, planner = task.judge(reference), plans.planner()
    # Records whose REF is not the FASTA's have no windows, or have ended the run.
    for record in islice(block.records(task.columns, task.label), COMPARED_RECORDS):
        for verdict in judge.judge(record):
            for pair in verdict.pairs:
                planner.add(pair)
    return planner.plan()
