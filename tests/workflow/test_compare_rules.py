"""The comparison of tokenizers, run by Snakemake from genomes to conclusions."""

import json

import pytest
from small_workflow import Workflow
from test_downstream_rules import write_table

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(300)]

ARMS = ["transformer", "static_3", "bpe_32", "hnet_1stage"]


@pytest.fixture(scope="module")
def workflow(tmp_path_factory) -> Workflow:
    """Four arms and two seeds, a few steps each, and no model of the configuration's own."""
    made = Workflow(tmp_path_factory.mktemp("compare") / "work")
    del made.config["model"]
    write_table(made.folder / "labelled.csv", 40, 3)
    made.config["tokenize"] = {"window": 516}
    made.config["train"] |= {"steps": 6, "checkpoint_every": 0}
    made.config["comparison"] = {
        "arms": ARMS,
        "seeds": [1, 2],
        "flops_per_base": 1.0e6,
        "reference_width": 32,
        "block": 1000,
        "draws": 50,
        "sites": 4,
        "variants": {"vcf": "variants.vcf", "genome": "sars_cov_2", "truth": "FITNESS", "window": 16},
        "probe": {"table": "labelled.csv", "label": "what", "sequence": "letters"},
    }
    made.write_config()
    return made


def test_from_genomes_to_conclusions(workflow):
    workflow.run("compare_tokenizers")
    figures = workflow.folder / "results" / "figures" / "comparison"
    summary = json.loads((figures / "comparison.json").read_text())
    assert [row["arm"] for row in summary["rows"]] == ARMS
    for row in summary["rows"]:
        assert row["seeds"] == 2
        assert row["bits_sars_cov_2_low"] <= row["bits_sars_cov_2_high"]
        assert row["variants"] is not None
        assert 0 <= row["probe"] <= 1
    about = [one["about"] for one in summary["conclusions"]]
    assert about[:2] == ["work", "seeds"]
    assert {"bits_sars_cov_2", "families", "baselines", "probe_baseline", "cost", "stability"} <= set(about)
    assert (figures / "comparison.svg").stat().st_size > 10_000
    assert not (workflow.folder / "results" / "model").exists()
    assert "Nothing to be done" in workflow.run("compare_tokenizers").stderr


def test_a_genome_that_is_not_there(workflow):
    wrong = workflow.config["comparison"]["variants"] | {"genome": "moon"}
    config = workflow.config | {"comparison": workflow.config["comparison"] | {"variants": wrong}}
    (workflow.folder / "wrong.yaml").write_text(json.dumps(config))
    done = workflow.run("compare_tokenizers", "--dry-run", "--configfile", "wrong.yaml", check=False)
    assert "comparison.variants.genome: 'moon' is not in genomes.tsv" in done.stdout + done.stderr


@pytest.mark.parametrize(("key", "value"), [("arms", ["transformer", "hnet_3stage"]), ("seeds", [])])
def test_keys_are_checked(workflow, key, value):
    config = workflow.config | {"comparison": workflow.config["comparison"] | {key: value}}
    (workflow.folder / "wrong.yaml").write_text(json.dumps(config))
    done = workflow.run("compare_tokenizers", "--dry-run", "--configfile", "wrong.yaml", check=False)
    assert done.returncode
    assert "comparison" in done.stdout + done.stderr


def test_other_targets_need_a_model(workflow):
    done = workflow.run("--dry-run", check=False)
    assert "model: is left out, and this target trains it" in done.stdout + done.stderr
    config = {key: value for key, value in workflow.config.items() if key != "comparison"}
    (workflow.folder / "alone.yaml").write_text(json.dumps(config))
    done = workflow.run("--dry-run", "--configfile", "alone.yaml", check=False)
    assert "'model' is a required property" in done.stdout + done.stderr
