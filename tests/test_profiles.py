"""The profiles name the rules that there are."""

import re
from pathlib import Path

import pytest
from yte import process_yaml

REPOSITORY = Path(__file__).parents[1]
TEXTS = [path.read_text() for path in sorted((REPOSITORY / "workflow" / "rules").glob("*.smk"))]
PARTS = re.split(r"^ *(?:rule|use rule \w+ as) (\w+)(?: with)?:$", "\n".join(TEXTS), flags=re.MULTILINE)
RULES = dict(zip(PARTS[1::2], PARTS[2::2], strict=True))
LOCAL = set(re.findall(r"\w+", " ".join(re.findall(r"localrules:\n((?:    \w+,\n)+)", "\n".join(TEXTS)))))
# Drawing these takes longer than a figure does, or one more beside the others would ask too much of a small node.
LONG_REPORTS = {"report_tokens", "report_saturation"}


def profile(name, monkeypatch, **variables):
    for key in ("ACCOUNT", "PARTITION", "GPU_PARTITION", "GPU_MODEL", "TRAIN_GPUS", "TRAIN_NODES"):
        monkeypatch.delenv(f"GENOTOK_{key}", raising=False)
    for key, value in variables.items():
        monkeypatch.setenv(f"GENOTOK_{key}", value)
    with open(REPOSITORY / "profiles" / name / "profile.yaml") as file:
        return process_yaml(file, require_use_yte=True)


@pytest.mark.parametrize("name", ["slurm", "generic"])
def test_short_jobs_are_grouped(name, monkeypatch):
    groups = profile(name, monkeypatch)["groups"]
    assert groups.keys() <= RULES.keys()
    figures = {rule for rule in RULES if rule.startswith("report_")} - LONG_REPORTS
    assert {rule for rule, group in groups.items() if group == "figures"} == figures | {"results_page"}


def test_every_rule_that_can_use_a_gpu_is_sent_to_one(monkeypatch):
    wanted = {rule for rule, body in RULES.items() if re.search(r"^ +gpu=", body, re.MULTILINE)}
    sent = profile("slurm", monkeypatch, GPU_PARTITION="fast", GPU_MODEL="h200")["set-resources"]
    assert sent.keys() == wanted
    for resources in sent.values():
        assert (resources["slurm_partition"], resources["gpu"], resources["gpu_model"]) == ("fast", 1, "h200")


def test_what_trains_is_told_to_write_a_checkpoint_and_waited_for(monkeypatch):
    wanted = {rule for rule, body in RULES.items() if "trap : TERM" in body}
    resources = profile("slurm", monkeypatch)["set-resources"]
    assert {
        rule for rule, values in resources.items() if "--signal" in values.get("slurm_extra", "")
    } == wanted


def test_training_gets_the_gpus_and_nodes_that_were_asked_for(monkeypatch):
    variables = {"GPU_PARTITION": "gpu", "TRAIN_GPUS": "8", "TRAIN_NODES": "2"}
    resources = profile("slurm", monkeypatch, **variables)["set-resources"]
    wanted = {"gpu": 8, "nodes": 2, "tasks": 2, "mpi": "srun"}
    assert wanted.items() <= resources["train"].items()
    assert resources["evaluate"]["gpu"] == 1
    assert "nodes" not in resources["evaluate"]


def test_nothing_that_was_not_asked_for_is_asked_of_slurm(monkeypatch):
    plain = profile("slurm", monkeypatch)
    assert plain["default-resources"].keys() == {"runtime", "mem_mb"}
    assert not any(
        "gpu" in values or "slurm_partition" in values for values in plain["set-resources"].values()
    )
    chosen = profile("slurm", monkeypatch, ACCOUNT="a", PARTITION="b")["default-resources"]
    assert (chosen["slurm_account"], chosen["slurm_partition"]) == ("a", "b")


def test_jobs_ask_for_more_after_a_failed_attempt():
    """All but those that stay on the login node."""
    amounts = {
        rule: re.findall(r"^ +(?:mem_mb|runtime)=(\w+)", body, re.MULTILINE) for rule, body in RULES.items()
    }
    assert {rule for rule, found in amounts.items() if found and set(found) != {"scaled"}} <= LOCAL


def test_retries_are_those_of_the_profiles(monkeypatch):
    """A rule's own would try again inside an allocation that was too small."""
    assert {rule for rule, body in RULES.items() if re.search(r"^    retries:", body, re.MULTILINE)} <= LOCAL
    assert all(profile(name, monkeypatch)["retries"] >= 2 for name in ("slurm", "generic"))
