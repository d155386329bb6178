"""The workflow on a real SLURM, through the profiles: the same bytes as here, with and without faults."""

import json
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from slurm_cluster import GPU_NODE, NODES, SlurmCluster, slurm
from small_workflow import REPOSITORY, Workflow
from waiting import wait_for

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(900)]
# Nothing waits in a queue here: a look at the jobs may come early, yet not before most of them can have ended, since
# after each look that finds none the next one comes ten seconds later still.
SLURM = ("--workflow-profile", "slurm", "--slurm-init-seconds-before-status-checks", "8")
GPU_RULES = (
    "rule_train",
    "rule_evaluate",
    "rule_score_variants",
    "rule_score_saturation",
    "rule_report_tokens",
    "rule_trackhub",
    "rule_attribute",
)


@pytest.fixture(scope="module")
def submitted(cluster, tmp_path_factory) -> Workflow:
    """A workflow run by SLURM, with its GPU rules on the partition that has GPUs."""
    workflow = Workflow(tmp_path_factory.mktemp("submitted") / "slurm")
    workflow.run(*SLURM, variables={"GENOTOK_GPU_PARTITION": "gpu", "GENOTOK_GPU_MODEL": "h200"})
    return workflow


def test_it_gives_the_same_bytes_as_a_local_run(submitted, finished):
    assert "trackhub/hub.txt" in submitted.results()
    assert submitted.results() == finished.results()


def test_it_ran_on_both_nodes(submitted, cluster):
    assert {job["NodeList"] for job in cluster.jobs()} >= set(NODES)
    assert {job["JobState"] for job in cluster.jobs()} == {"COMPLETED"}


@pytest.mark.parametrize("rule", GPU_RULES)
def test_gpu_rules_went_to_the_node_with_gpus(submitted, cluster, rule):
    """Each asked for one GPU of the model; the others did not."""
    jobs = cluster.jobs(rule)
    assert {(job["NodeList"], job["Partition"], job.get("TresPerJob")) for job in jobs} == {
        (GPU_NODE, "gpu", "gres:gpu:h200:1")
    }
    others = [job for job in cluster.jobs() if not job["Comment"].startswith(GPU_RULES)]
    assert len(others) >= 4
    assert not any("TresPerJob" in job for job in others)


def test_short_jobs_share_an_allocation(submitted, cluster):
    """Both genomes are prepared and cut in one job, and all figures are drawn in another."""
    (genomes,) = cluster.jobs("rule_genomes")
    assert "prepare_genome" in genomes["Comment"]
    assert "tokenize_genome" in genomes["Comment"]
    assert len(cluster.jobs("results_page")) == 1


@pytest.fixture(scope="module")
def survivor(cluster, tmp_path_factory) -> Workflow:
    """A run that lost a node, one of whose workers was killed, and whose training was told to end."""
    workflow = Workflow(tmp_path_factory.mktemp("faults") / "slurm")
    workflow.config["train"] |= {"steps": 150, "checkpoint_every": 10}
    workflow.write_config()
    log, results = workflow.folder / "snakemake.log", workflow.folder / "results"
    process = workflow.start(*SLURM, *TARGETS)
    try:
        with ThreadPoolExecutor(1) as pool:
            killing = pool.submit(kill_worker, cluster, b"split")
            node = cluster.wait_for_job("rule_genomes")["NodeList"]
            wait_for(results / "logs" / "prepare_genome" / "lambda.log", process, log)
            cluster.lose_node(node)
            killing.result()
        train = cluster.wait_for_job("rule_train")
        wait_for(results / "model" / "checkpoints" / "step-00000010", process, log)
        slurm("scancel", "--signal=TERM", train["JobId"])
        cluster.bring_back(node)
        assert process.wait(timeout=400) == 0, log.read_text()[-4000:]
    finally:
        process.kill()
    return workflow


TARGETS = ("results/model/config.json", "results/scores/pieces/fitness/1-of-2.vcf.gz")


def kill_worker(cluster: SlurmCluster, verb: bytes, seconds: float = 120) -> None:
    """SIGKILL to the process that does the work of a verb, as the kernel sends it where memory runs out."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for pid in (pid for node in NODES for pid in cluster.processes_on(node)):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if verb in words and any(word.endswith(b"/genotok") for word in words[:2]):
                os.kill(pid, signal.SIGKILL)
                return
    raise TimeoutError(f"no process of {verb}")


def test_a_job_of_a_lost_node_runs_on_another(survivor, cluster):
    """SLURM starts it again, under the same number."""
    job = cluster.jobs("rule_genomes")[-1]
    assert (job["Restarts"], job["JobState"]) == ("1", "COMPLETED")


def test_training_goes_on_from_the_checkpoint_of_its_end(survivor, cluster):
    """The first attempt ended by itself with exit code 143, not by a kill."""
    first, second = cluster.jobs("rule_train")[-2:]
    assert (first["JobState"], second["JobState"]) == ("FAILED", "COMPLETED")
    said = (survivor.folder / "snakemake.log").read_text()
    assert "go on with --resume" in said


@pytest.mark.parametrize(("rule", "asked"), [("rule_train", 4000), ("rule_split_variants", 1000)])
def test_another_attempt_asks_for_more(survivor, cluster, rule, asked):
    first, second = cluster.jobs(rule)[-2:]
    assert (first["MinMemoryNode"], second["MinMemoryNode"]) == (f"{asked}M", f"{2 * asked}M")
    assert (first["JobState"], second["JobState"]) == ("FAILED", "COMPLETED")


def test_faults_do_not_change_the_results(survivor, tmp_path):
    local = Workflow(tmp_path / "local")
    local.config = survivor.config
    local.write_config()
    local.run(*TARGETS)
    assert {"model/model.safetensors", "scores/pieces/fitness/1-of-2.vcf.gz"} <= local.results().keys()
    assert survivor.results() == local.results()


def test_the_generic_profile_submits_again_what_was_cancelled(cluster, tmp_path):
    """Through `sbatch`, `status.sh` and `scancel`, which another scheduler's commands can replace."""
    workflow = Workflow(tmp_path / "work")
    process = workflow.start("--workflow-profile", "generic", "results/genomes/lambda.fa.gz")
    try:
        known = {job["JobId"] for job in cluster.jobs()}
        while not (new := [job for job in cluster.jobs() if job["JobId"] not in known]):
            assert process.poll() is None, (workflow.folder / "snakemake.log").read_text()
        slurm("scancel", new[0]["JobId"])
        assert process.wait(timeout=120) == 0, (workflow.folder / "snakemake.log").read_text()[-4000:]
    finally:
        process.kill()
    first, second = [job for job in cluster.jobs() if job["JobId"] not in known]
    assert (first["JobState"], second["JobState"]) == ("CANCELLED", "COMPLETED")
    assert (first["MinMemoryNode"], second["MinMemoryNode"]) == ("1000M", "2000M")


@pytest.mark.parametrize(("variables", "says"), [({}, "failed"), ({"SLURM_CONF": "/nowhere"}, "running")])
def test_a_job_is_not_lost_because_nobody_answers(cluster, variables, says):
    """A job that SLURM has forgotten has failed; where SLURM is away, nothing is known."""
    script = [REPOSITORY / "profiles" / "generic" / "status.sh", "99999999"]
    done = subprocess.run(script, capture_output=True, text=True, env=os.environ | variables)
    assert done.stdout.strip() == says


def test_training_takes_all_nodes_of_its_job(cluster, finished, tmp_path):
    """torchrun with a process on each node: the losses are those of one process."""
    workflow = Workflow(tmp_path / "work")
    workflow.run("results/shards/manifest.json")
    workflow.run(*SLURM, "results/model/config.json", variables={"GENOTOK_TRAIN_NODES": "2"})
    job = cluster.jobs("rule_train")[-1]
    assert (job["NodeList"], job["JobState"]) == ("node[1-2]", "COMPLETED")
    assert losses(workflow) == pytest.approx(losses(finished), rel=1e-3)
    assert (workflow.folder / "results" / "model" / "settings.json").exists()


def losses(workflow: Workflow) -> list[float]:
    lines = (workflow.folder / "results" / "model" / "metrics.jsonl").read_text().splitlines()
    return [record["bits_per_base"] for record in map(json.loads, lines) if record["split"] == "train"]
