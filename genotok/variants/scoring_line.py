"""Blocks of variants on their way from the records to the outputs, in their order."""

from collections import Counter, deque
from collections.abc import Iterable
from concurrent.futures import Future

import numpy as np

from genotok.errors import InputError
from genotok.progress import Progress
from genotok.variants.alleles import STATUSES
from genotok.variants.blocks import ScoredBlock
from genotok.variants.plans import Plan
from genotok.variants.processes import Helper
from genotok.variants.table import ScoreTable
from genotok.variants.unfinished import Journal
from genotok.variants.vcf_input import Block
from genotok.variants.vcf_output import VcfBody


class ScoringLine:
    """Blocks on their way: through a desk, a model, the same desk, and into the outputs, in their order.

    Few blocks are anywhere at a time, so that memory does not depend on how many there are.

    Attributes:
        counts: status -> how many ALT alleles have it.
        patched: how many records' REF took the place of the FASTA's letters.
        unknown_contigs: the names in records that the FASTA has not.
        on_haplotypes: status on the sample's haplotypes -> how many ALT alleles have it.
    """

    def __init__(
        self,
        desks: list[Helper],
        models: list[Helper],
        sink: VcfBody,
        table: ScoreTable | None,
        bar: Progress,
        journal: Journal | None,
        batch_size: int,
        values: int,
    ):
        self._desks, self._models, self._sink, self._table, self._bar = desks, models, sink, table, bar
        self._journal, self._batch_size, self._values = journal, batch_size, values
        self._resumed = journal.blocks if journal else 0
        self._prepared: deque[Future[Plan]] = deque()
        self._scored: deque[Future[tuple[np.ndarray, int]]] = deque()
        self._finished: deque[Future[ScoredBlock]] = deque()
        self._read = self._run = self._noted = self._written = 0  # blocks
        self.counts = Counter(dict.fromkeys(STATUSES, 0))
        self.patched, self.unknown_contigs, self.on_haplotypes = 0, [], Counter()

    def run(self, blocks: Iterable[Block]) -> None:
        """Score all blocks."""
        if self._journal and self._journal.batch_size:
            for model in self._models:
                model.submit("limit_batches", self._journal.batch_size)
        for block in blocks:
            self._prepared.append(self._desk(self._read).submit("prepare", self._read, block))
            self._read += 1
            self._move_on()
        self._move_on(ahead=False)
        if self._run < self._resumed:
            raise InputError("the unfinished run had more blocks than the VCF; run without --resume")

    def _desk(self, block: int) -> Helper:
        return self._desks[block % len(self._desks)]

    def _move_on(self, ahead: bool = True) -> None:
        """Move blocks on until no more than are wanted ahead wait at each place."""
        while len(self._prepared) > ahead * sum(desk.ahead for desk in self._desks):
            self._score(self._prepared.popleft().result())
            while len(self._scored) > ahead * sum(model.ahead for model in self._models):
                self._finish(*self._scored.popleft().result())
        while self._scored and not ahead:
            self._finish(*self._scored.popleft().result())
        while self._finished and not ahead:
            self._write(self._finished.popleft().result())

    def _score(self, plan: Plan) -> None:
        if self._run < self._resumed:
            scores = self._journal.scores()
            if len(scores) != len(plan) * self._values:
                raise InputError("the unfinished run had other windows than this one; run without --resume")
            future: Future[tuple[np.ndarray, int]] = Future()
            future.set_result((scores, self._batch_size))
        else:
            future = min(self._models, key=lambda model: model.waiting).submit("scores", plan)
        self._scored.append(future)
        self._run += 1

    def _finish(self, scores: np.ndarray, batch_size: int) -> None:
        if self._journal and self._noted >= self._resumed:
            self._journal.add(self._noted, scores, batch_size)
        self._finished.append(self._desk(self._noted).submit("finish", self._noted, scores))
        self._noted += 1
        while len(self._finished) > sum(desk.ahead for desk in self._desks) // 2:
            self._write(self._finished.popleft().result())

    def _write(self, block: ScoredBlock) -> None:
        self._sink.add(block.text, block.stretches)
        if self._table:
            self._table.write(block.rows)
        self.counts.update(block.counts)
        self.on_haplotypes.update(block.on_haplotypes)
        self.patched += block.patched
        self.unknown_contigs += [name for name in block.unknown_contigs if name not in self.unknown_contigs]
        if self._written < self._resumed:
            self._bar.resume_at(self._bar.done + block.records)
        else:
            self._bar.advance(block.records)
        self._written += 1
