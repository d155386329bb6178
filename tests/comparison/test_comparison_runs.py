"""Runs for real: every kind of arm trains, and is measured per nucleotide."""

import json

import numpy as np
import pytest
import torch
from small_comparison import settings_of, write_genome

from genotok.comparison import runs
from genotok.comparison.baselines import measure_baselines
from genotok.comparison.measures import bits_per_base, boundary_stability, stability_windows
from genotok.comparison.plan import make_plan, realised_flops
from genotok.comparison.settings import ProbeTable, VariantSettings
from genotok.errors import InputError
from genotok.evaluation.bits_per_base import evaluate
from genotok.models import GenomicLM, ModelConfig
from genotok.training.interruption import Terminated


@pytest.fixture(scope="module")
def measured_plan(folder, tmp_path_factory):
    """Of the arms with most to go wrong, with variants and labelled sequences."""
    made = tmp_path_factory.mktemp("measured")
    fasta = write_genome(made / "virus.fa", 300, 7, "v")
    letters = fasta.read_text().split("\n")[1]
    lines = ["##fileformat=VCFv4.2", "##contig=<ID=v,length=300>"]
    lines += [
        '##INFO=<ID=EFFECT,Number=A,Type=Float,Description="effect">',
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO",
    ]
    for place in range(100, 120):
        alt = "ACGT"["ACGT".index(letters[place]) - 1]
        lines.append(f"v\t{place + 1}\t.\t{letters[place]}\t{alt}\t.\t.\tEFFECT={place % 7}")
    (made / "v.vcf").write_text("\n".join(lines) + "\n")
    random = np.random.default_rng(2)
    rows = ["".join(random.choice(list("ACGT"), 24)) + ("TATAATTATAAT" if k % 2 else "") for k in range(40)]
    (made / "t.csv").write_text(
        "sequence,label\n" + "".join(f"{row},{k % 2}\n" for k, row in enumerate(rows))
    )
    changes = {
        "arms": ["entropy", "kmer_6", "hnet_2stage"],
        "variants": VariantSettings(str(made / "v.vcf"), str(fasta), "EFFECT", 48),
        "probe": ProbeTable(str(made / "t.csv"), "label"),
    }
    return make_plan(settings_of(folder, **changes))


@pytest.mark.parametrize("name", ["entropy", "kmer_6", "hnet_2stage"])
def test_an_arm_is_trained_and_measured(measured_plan, name, tmp_path):
    found = runs.run_arm(measured_plan, name, 1, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "measures.json").read_text()) == found
    assert found["bits_per_base"].keys() == {"two", "three"}
    assert all(1 < one["value"] < 4 and len(one["drawn"]) == 40 for one in found["bits_per_base"].values())
    assert -1 <= found["variants"]["value"] <= 1
    assert 0 <= found["probe"]["value"] <= 1
    assert found["flops_per_base"] == realised_flops(measured_plan, name, found["chunk_fraction"])
    stages = {"entropy": [0], "kmer_6": [-1], "hnet_2stage": [0, 1]}[name]
    assert [stage["stage"] for stage in found["stability"]] == stages
    assert (tmp_path / "run" / "entropy_model").is_dir() == (name == "entropy")


def test_bits_are_those_of_evaluate(folder, plan, tmp_path):
    """The sum over blocks of each genome, for tokens of a letter and of several."""
    for name in ("bpe_32", "hnet_1stage"):
        torch.manual_seed(1)
        model = GenomicLM(ModelConfig.from_dict(plan["arms"][name]["model"])).eval()
        model.save_pretrained(tmp_path / name)
        found, chunks = bits_per_base(model, folder / "shards", 1000, 10, 3)
        wanted = evaluate(tmp_path / name, folder / "shards", device="cpu", threads=1, orders=(2,))
        for contig in wanted["contigs"]:
            assert found[contig["genome"]].value == pytest.approx(contig["bits_per_base"], rel=1e-5)
        assert chunks["stages"] == wanted["stages"]


def test_tokens_of_a_tokenizer_have_boundaries(folder, plan):
    """6-mers never fall into step again; byte pairs do; every third base moves with the reading."""

    def of(name):
        torch.manual_seed(1)
        model = GenomicLM(ModelConfig.from_dict(plan["arms"][name]["model"])).eval()
        return boundary_stability(model, folder / "shards", 6, 4)

    (kmers,), (pairs,), (static,) = of("kmer_6"), of("bpe_32"), of("static_3")
    assert (kmers["stage"], kmers["changed"], kmers["recovered"]) == (-1, 0.0, None)
    assert pairs["recovered"] is not None
    assert pairs["changed"] < 10
    assert (static["stage"], static["changed"], static["recovered"]) == (0, 0.0, None)
    assert of("transformer") == []
    windows = stability_windows(folder / "shards", 6)
    assert len(windows) == 6
    assert all(len(window) == 512 and set(window) <= set("ACGT") for window in windows)


def test_a_run_that_was_cut_short_goes_on(folder, tmp_path, monkeypatch):
    """The second call ends with the model that an uninterrupted run has."""
    train = settings_of(folder).train | {"checkpoint_every": 1}
    plan = make_plan(settings_of(folder, arms=["kmer_6", "transformer"], train=train, sites=0))
    whole = runs.run_arm(plan, "kmer_6", 2, tmp_path / "whole")
    save = runs.Trainer._validate_and_save

    def cut(trainer, monitor):
        save(trainer, monitor)
        if trainer.step == 2:
            raise Terminated("cut")

    monkeypatch.setattr(runs.Trainer, "_validate_and_save", cut)
    with pytest.raises(Terminated):
        runs.run_arm(plan, "kmer_6", 2, tmp_path / "cut")
    monkeypatch.setattr(runs.Trainer, "_validate_and_save", save)
    again = runs.run_arm(plan, "kmer_6", 2, tmp_path / "cut")
    assert again["model_sha256"] == whole["model_sha256"]
    assert again["bits_per_base"] == whole["bits_per_base"]
    assert again["stability"] == []


def test_baselines(measured_plan):
    found = measure_baselines(measured_plan)
    assert found["bits_per_base"]["two"]["uniform"] == 2.0
    assert min(found["bits_per_base"]["three"].values()) < 2.0
    assert found["probe"]["value"] > 0.9  # the word gives the class away


def test_a_wrong_truth_is_one_sentence(measured_plan, tmp_path):
    wrong = json.loads(json.dumps(measured_plan))
    wrong["settings"]["variants"]["truth"] = "OTHER"
    with pytest.raises(InputError, match="OTHER"):
        runs.run_arm(wrong, "kmer_6", 1, tmp_path / "run")
    assert not (tmp_path / "run" / "measures.json").exists()
