"""Plans say which ids a model is to run for which pair, whatever way the pairs were added."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from variant_files import write_fasta

from genotok.genomes.fasta import Reference
from genotok.tokenizers import load_tokenizer
from genotok.variants.judge import Judge
from genotok.variants.plans import FieldPlan, MaskedPlan, PairPlan, PlanTask, PrefixPlan
from genotok.variants.snv_windows import snv_windows
from genotok.variants.vcf_input import Record

TASKS = [
    PlanTask("nucleotide", "whole"),
    PlanTask("byte", "whole"),
    PlanTask({"type": "kmer", "k": 3, "stride": 2, "alphabet": "dna"}, "whole"),
    PlanTask("nucleotide", "prefixes"),
    PlanTask("byte", "prefixes"),
    PlanTask("nucleotide", "marginal"),
    PlanTask("nucleotide", "pseudo"),
    PlanTask("ntv2", "marginal"),
    PlanTask("bpe", "pseudo", fields=True),
    PlanTask("nucleotide", "marginal", fields=True),
]


def row(rows, i, start):
    """One sequence of ids, without the start token."""
    ids = rows.ids[i, : rows.lengths[i]].tolist()
    assert ids[: len(start)] == start
    return ids[len(start) :]


def described(plan, tokenizer):
    """What is run for each pair."""
    start = [] if tokenizer.start_id is None else [tokenizer.start_id]
    if isinstance(plan, PairPlan):
        return [tuple(row(plan.windows, i, start) for i in pair) for pair in plan.pairs]
    if isinstance(plan, FieldPlan):
        beside = [None] * len(plan) if plan.likelihood is None else described(plan.likelihood, tokenizer)
        return list(zip(described(plan.windows, tokenizer), plan.letters.tolist(), beside, strict=True))
    if isinstance(plan, PrefixPlan):
        prefix = np.repeat(np.arange(len(plan.first) - 1), np.diff(plan.first))
        whole = described(plan.whole, tokenizer)
        return [
            tuple((row(plan.prefixes, prefix[i], start), row(plan.endings, i, [])) for i in (ref, alt))
            if ref >= 0 else whole[alt]
            for ref, alt in plan.pairs
        ]  # fmt: skip
    assert isinstance(plan, MaskedPlan)
    found = [[] for _ in range(plan.pairs)]
    assert (np.diff(plan.changes[:, 0]) >= 0).all()
    for site, pair, place, ref, alt in plan.changes.tolist():
        found[pair].append((row(plan.sites, site, start), place, ref, alt))
    for pair, ref, alt in plan.windows.tolist():
        found[pair] += [row(plan.whole, i, start) for i in (ref, alt)]
    return found


def distinct(plan):
    """How many rows there are, and that the longest come first."""
    parts = {
        PairPlan: lambda: [plan.windows],
        PrefixPlan: lambda: [plan.prefixes],
        MaskedPlan: lambda: [plan.sites, plan.whole],
        FieldPlan: lambda: [plan.windows.windows],
    }[type(plan)]()
    for rows in parts:
        assert (np.diff(rows.lengths) <= 0).all()
        assert rows.ids.dtype.kind == "u"
    return sum(len(rows.lengths) for rows in parts)


@pytest.mark.parametrize("task", TASKS, ids=str)
@given(
    st.text("ACGTN", min_size=20, max_size=60),
    st.lists(st.tuples(st.integers(0, 59), st.sampled_from(["A", "C,G", "TA", "g", "C"])), max_size=12),
    st.booleans(),
)
@settings(max_examples=15, derandomize=True, deadline=None)
def test_many_variants_at_once_are_planned_as_one_by_one(tmp_path_factory, task, letters, changes, both):
    reference = Reference(write_fasta(tmp_path_factory.mktemp("g") / "g.fa", {"c": letters}))
    judge = Judge(reference, 12, both, "skip", {})
    records = [
        Record(f"c\t{place + 1}\t.\t{letters[place]}\t{alt}\t.\t.\t.".encode())
        for place, alt in changes
        if place < len(letters)
    ]
    snvs = snv_windows(records, judge)
    chosen = set(snvs.chosen.tolist())
    order = [*sorted(chosen), *(i for i in range(len(records)) if i not in chosen)]
    pairs = {i: [pair for verdict in judge.judge(records[i]) for pair in verdict.pairs] for i in order}
    at_once, one_by_one = task.planner(), task.planner()
    at_once.add_snvs(snvs)
    for i in order:
        for pair in pairs[i]:
            one_by_one.add(pair)
            if i not in chosen:
                at_once.add(pair)
    plans, tokenizer = (at_once.plan(), one_by_one.plan()), load_tokenizer(task.tokenizer)
    assert described(plans[0], tokenizer) == described(plans[1], tokenizer)
    assert len(plans[0]) == len(plans[1]) == sum(map(len, pairs.values()))
    assert distinct(plans[0]) >= distinct(plans[1])


@pytest.mark.parametrize("task", [TASKS[0], TASKS[3], TASKS[5]], ids=str)
def test_a_site_is_there_once(tmp_path, task):
    """Whatever the number of its alleles and records."""
    reference = Reference(write_fasta(tmp_path / "g.fa", {"c": "GATTACAGATTACCAGT"}))
    lines = ["c\t8\t.\tG\tA,C\t.\t.\t.", "c\t8\t.\tG\tT\t.\t.\t.", "c\t8\t.\tG\tC\t.\t.\t."]
    planner = task.planner()
    planner.add_snvs(
        snv_windows([Record(line.encode()) for line in lines], Judge(reference, 8, True, "skip", {}))
    )
    plan = planner.plan()
    assert len(plan) == 8
    assert distinct(plan) == {"whole": 8, "prefixes": 2, "marginal": 2}[task.kind]
