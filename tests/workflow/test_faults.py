"""Faults of the machine under a workflow: what is said, and that the next run mends it."""

import os
import shutil
import subprocess
import sys

import pytest
from small_workflow import Workflow

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(600)]
METRICS = "results/evaluation/metrics.json"


def test_a_damaged_shard_is_named_and_made_again(finished, tmp_path):
    """The model is not trained anew: its checkpoint is of the same data."""
    workflow = Workflow(tmp_path / "work")
    shutil.copytree(finished.folder, workflow.folder, dirs_exist_ok=True)
    shard = workflow.folder / "results" / "shards" / "lambda" / "train-00000.arrow"
    os.truncate(shard, shard.stat().st_size - 200)
    failed = workflow.run("--forcerun", "evaluate", "--", METRICS, check=False)
    assert failed.returncode
    assert "results/shards/lambda/train-00000.arrow: not a readable shard" in failed.stdout + failed.stderr
    shutil.rmtree(shard.parent)
    workflow.run(METRICS)
    assert workflow.results() == finished.results()


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root mounts file systems")
def test_results_that_cannot_be_written(tmp_path):
    """On a file system that is read-only, nothing is made and the reason is said."""
    workflow = Workflow(tmp_path / "work")
    place = workflow.folder / "full"
    place.mkdir()
    workflow.config["results"] = "full/results"
    workflow.write_config()
    mount = f"mount -t tmpfs -o ro none {place} && exec " + '"$@"'
    probe = subprocess.run(["unshare", "--mount", "sh", "-c", mount, "sh", "true"], capture_output=True)
    if probe.returncode:
        pytest.skip("this container may not mount file systems")
    command = workflow.command("full/results/genomes/lambda.fa.gz")
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, "sh", *command],
        cwd=workflow.folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode
    assert "Read-only file system" in done.stdout + done.stderr
    assert not list(place.iterdir())
