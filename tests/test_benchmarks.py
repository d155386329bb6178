"""The arithmetic of benchmarks that train, on numbers that are known; the runs themselves are the training loop's."""

import json
import time

import pytest

from benchmarks import precision, ratio_weight, tokenizers


def test_spikes_stand_out_from_what_is_around_them():
    norms = [0.3, 0.31, 0.29, 0.32] * 20
    assert ratio_weight.spikes(norms) == 0
    norms[30], norms[50], norms[51] = 1.5, 0.8, 1.2
    assert ratio_weight.spikes(norms) == 2
    assert ratio_weight.spikes([9.0, *norms]) == 2  # the first steps are always large


def records(bits, fractions):
    training = [
        {
            "split": "train",
            "step": step,
            "bits_per_base": 2.0,
            "chunk_fraction": [fraction],
            "gradient_norm": 0.3,
        }
        for step, fraction in enumerate(fractions, 1)
    ]
    return [*training, {"split": "valid", "step": len(fractions), "bits_per_base": bits}]


def test_figures_of_a_run_and_the_table_over_seeds():
    runs = [
        {"ratio_weight": 0.02, "seed": seed, **ratio_weight.figures(records(bits, [1.0, 1.0, 0.25, 0.5]), 4)}
        for seed, bits in ((1, 1.9), (2, 1.94))
    ]
    assert runs[0]["finished"]
    assert runs[0]["letters_a_chunk"] == 3.0
    assert runs[0]["spread_of_letters_a_chunk"] == 1.0
    (line,) = ratio_weight.summary(runs)
    assert line["valid_bits_per_base"] == pytest.approx(1.92)
    assert line["range_of_valid_bits_per_base"] == pytest.approx(0.04)
    assert "| 0.02 | 2 | 1.9200 ± 0.0200 | 3.00 | 1.00 | 0 |" in ratio_weight.markdown([line])


def test_a_run_that_was_lost_is_not_finished():
    lost = [*records(1.9, [0.3])[:1], {"split": "lost", "reason": "no number"}]
    found = ratio_weight.figures(lost, 4)
    assert not found["finished"]
    assert found["valid_bits_per_base"] is None


def test_precisions_beside_bf16_of_the_same_seed():
    def run(name, seed, speed, bits):
        same = {"ran_as": "bf16" if name == "fp8" else name, "train_bits_per_base": bits}
        return {
            "precision": name,
            "seed": seed,
            "bases_per_second": speed,
            "valid_bits_per_base": bits,
            **same,
        }

    runs = [
        run("fp32", 1, 50, 1.90),
        run("bf16", 1, 100, 1.91),
        run("fp32", 2, 60, 1.80),
        run("bf16", 2, 100, 1.80),
    ]
    fp32, bf16 = precision.table(runs)
    assert fp32["times_bf16"] == pytest.approx(0.55)
    assert fp32["valid_bits_per_base_less_bf16"] == pytest.approx(-0.005)
    assert (bf16["times_bf16"], bf16["valid_bits_per_base_less_bf16"]) == (1.0, 0.0)
    text = precision.markdown(precision.table([run("bf16", 1, 1000, 1.9), run("fp8", 1, 1000, 1.9)]))
    assert "| fp8 (ran as bf16) | 1,000 | 1.00 | 1.9000 | +0.0000 |" in text


def test_defaults_follow_the_device():
    options = precision.parse(["--device", "cpu"])
    assert (options.precisions, options.model, options.steps) == (["fp32", "bf16"], None, 40)


PLAN = {"settings": {"seeds": [1, 2]}, "arms": {"transformer": {}, "kmer_6": {}}}


def test_runs_of_a_comparison_are_claimed_once_and_seed_by_seed(tmp_path, monkeypatch):
    done = []

    def run(plan, name, seed, folder):
        done.append((name, seed))
        folder.mkdir()
        (folder / "measures.json").write_text(json.dumps({"arm": name, "seed": seed}))

    monkeypatch.setattr(tokenizers, "run_arm", run)
    (tmp_path / "plan.json").write_text(json.dumps(PLAN))
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "kmer_6-1").touch()  # another worker has it
    (tmp_path / "transformer-2").mkdir()
    (tmp_path / "transformer-2" / "measures.json").touch()  # an earlier call has made it
    tokenizers.work(tmp_path, time.time() - 1)
    assert done == []
    tokenizers.work(tmp_path, time.time() + 60)
    assert done == [("transformer", 1), ("kmer_6", 2)]


def test_runs_of_an_earlier_comparison_are_kept(tmp_path):
    earlier = {"baselines": {"probe": None}, "runs": [{"arm": "kmer_6", "seed": 2, "bits": 1.9}]}
    (tmp_path / "earlier.json").write_text(json.dumps(earlier))
    words = ["--runs", str(tmp_path / "runs"), "-o", "x.json", "--go-on", str(tmp_path / "earlier.json")]
    options = tokenizers.parse([*words, "--expect", "hnet_2stage=3.5,1.9"])
    assert options.expect == [("hnet_2stage", [3.5, 1.9])]
    tokenizers.restore(options)
    kept = json.loads((tmp_path / "runs" / "kmer_6-2" / "measures.json").read_text())
    assert kept == earlier["runs"][0]
    assert json.loads((tmp_path / "runs" / "baselines.json").read_text()) == earlier["baselines"]


def test_genomes_of_a_comparison(tmp_path):
    found = tokenizers.find_genomes(None)
    assert [path.is_file() for path in found] == [True] * 4
    for name in ("b.fna.gz", "a.fa", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in tokenizers.find_genomes(tmp_path)] == ["a.fa", "b.fna.gz"]
