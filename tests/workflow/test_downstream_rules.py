"""The rules for labelled sequences, run by Snakemake on a model that nobody trained."""

import json
import random
from pathlib import Path

import pytest
import torch
from small_workflow import MODEL, Workflow

from genotok.models import GenomicLM, ModelConfig

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(300)]


def write_table(path: Path, rows: int, seed: int) -> None:
    draw = random.Random(seed)
    lines = ["letters,what"]
    for k in range(rows):
        letters = "".join(draw.choice("ACGT") for _ in range(20))
        lines.append(f"{'TATAAT' * (k % 2)}{letters},{'with' if k % 2 else 'without'}")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def workflow(tmp_path_factory) -> Workflow:
    """Two sets: one with a test table of its own and both methods, one that is split, with a probe alone."""
    made = Workflow(tmp_path_factory.mktemp("downstream") / "work")
    torch.manual_seed(0)
    GenomicLM(ModelConfig.from_dict(MODEL)).save_pretrained(made.folder / "untrained")
    write_table(made.folder / "train.csv", 60, 1)
    write_table(made.folder / "test.csv", 20, 2)
    about = {"label": "what", "sequence": "letters", "model": "untrained", "kmers": "2", "draws": 20}
    made.config["downstream"] = [
        {
            "name": "both",
            "train": "train.csv",
            "test": "test.csv",
            "epochs": 1,
            "settings": {"steps": 2},
            **about,
        },
        {"name": "split", "train": "train.csv", "methods": ["probe"], "test_fraction": 0.25, **about},
    ]
    made.write_config()
    return made


def test_all_methods_stand_beside_each_other(workflow):
    workflow.run("downstream")
    figures = workflow.folder / "results" / "figures" / "downstream"
    summary = json.loads((figures / "downstream.json").read_text())
    methods = {(row["set"], row["method"]): row["rows"] for row in summary["rows"]}
    controls = ("probe", "random_weights", "kmers", "majority")
    assert methods == {("both", name): 20 for name in ("finetune", *controls)} | {
        ("split", name): 15 for name in controls
    }
    assert not (workflow.folder / "results" / "model").exists()
    config = json.loads((workflow.folder / "results/downstream/both/finetune/config.json").read_text())
    assert config["heads"]["label"]["classes"] == ["with", "without"]
    assert "Nothing to be done" in workflow.run("downstream").stderr


def test_the_page_has_them(workflow):
    plan = workflow.run("--dry-run", "results/index.html").stdout
    assert "figures/downstream/downstream.json" in plan


def test_two_sets_of_one_name_are_refused(workflow):
    twice = [workflow.config["downstream"][0] | {"name": "split"}, workflow.config["downstream"][1]]
    (workflow.folder / "twice.yaml").write_text(json.dumps(workflow.config | {"downstream": twice}))
    done = workflow.run("--dry-run", "--configfile", "twice.yaml", check=False)
    assert "downstream: the name 'split' stands there twice" in done.stdout + done.stderr
    assert done.returncode
