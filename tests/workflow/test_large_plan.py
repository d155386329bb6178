"""The plan of a large project."""

import os
import subprocess

import pytest
from small_workflow import Workflow

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(300)]
GENOMES, PIECES = 500, 2000
MOST_SECONDS, MOST_KILOBYTES = 60, 2_000_000


def test_hundreds_of_genomes_and_thousands_of_pieces_are_planned_quickly(tmp_path):
    """In less than a minute of computing, and less than 2 GB."""
    workflow = Workflow(tmp_path / "work")
    rows = ["genome\tsource\tsplit", "sars_cov_2\tsars_cov_2.fa\ttest"]
    rows += [f"g{number}\tlambda.fa\ttrain" for number in range(GENOMES - 1)]
    (workflow.folder / "genomes.tsv").write_text("\n".join(rows) + "\n")
    workflow.config["score"]["pieces"] = PIECES
    workflow.write_config()
    with open(tmp_path / "plan.txt", "w") as plan:
        process = subprocess.Popen(
            workflow.command("--dry-run", "--quiet", "host"), cwd=workflow.folder, stdout=plan, stderr=plan
        )
        _, status, used = os.wait4(process.pid, 0)
    text = (tmp_path / "plan.txt").read_text()
    assert os.waitstatus_to_exitcode(status) == 0, text[-2000:]
    counts = dict(line.split() for line in text.splitlines() if len(line.split()) == 2)
    assert (counts["tokenize_genome"], counts["score_variants"]) == (str(GENOMES), str(PIECES))
    assert used.ru_utime + used.ru_stime < MOST_SECONDS
    assert used.ru_maxrss < MOST_KILOBYTES
