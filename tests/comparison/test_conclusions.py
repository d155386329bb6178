"""Conclusions follow from the numbers: other numbers, other sentences."""

import json

import numpy as np
import pytest

from genotok.cli.comparison import report_comparison_of_arms
from genotok.comparison.conclusions import conclude
from genotok.comparison.report import comparison_table, page, report_comparison
from genotok.comparison.summary import put_together, with_whole_seeds
from genotok.errors import InputError
from genotok.report.json_files import read_json

DRAWS = 400
FAMILIES = {
    "transformer": ("single bases, transformer", "single"),
    "kmer_6": ("6-mers", "fixed"),
    "bpe_512": ("BPE, 512 tokens", "vocabulary"),
    "hnet_1stage": ("H-Net, one stage", "learned"),
}
NOISE = np.random.default_rng(5).normal(0, 0.01, (4, DRAWS))


def measure(value, noise=None):
    drawn = np.full(DRAWS, value) if noise is None else value + noise
    return {"value": value, "drawn": drawn.tolist()}


def run_of(name, seed, bits, **changes):
    """The blocks are hard or easy for all arms alike."""
    cutting = name not in ("transformer",)
    never = name == "kmer_6"
    stability = [{"stage": 0, "sites": 9, "changed": 1.5, "recovered": None if never else 12.0}]
    return {
        "arm": name,
        "seed": seed,
        "bits_per_base": {"yeast": measure(bits, NOISE[0])},
        "variants": measure(0.0, NOISE[1]),
        "probe": measure(0.8, NOISE[seed % 4]),
        "stability": stability if cutting else [],
        "stages": [{"mean_length": 3.5}] if name == "hnet_1stage" else [],
        "flops_per_base": 3e7,
        "deviation": 0.001,
        "bases_per_second": 1e6 if name == "transformer" else 2e6,
        "memory_bytes": 3_000_000_000,
    } | changes


def plan_of(seeds=(1, 2, 3)):
    arms = {
        name: {"title": title, "family": family, "letters": 6.0 if name == "kmer_6" else 1.0, "parameters": 5}
        for name, (title, family) in FAMILIES.items()
    }
    settings = {"seeds": list(seeds), "flops_per_base": 3e7, "tolerance": 0.03}
    return {"settings": settings, "bases": 48_000_000, "window": 1008, "arms": arms}


def runs_of(bits, seeds=(1, 2, 3), **changes):
    return [
        run_of(name, seed, value + 0.0001 * seed, **changes) for seed in seeds for name, value in bits.items()
    ]


def said_of(bits, seeds=(1, 2, 3), baselines=None, **changes):
    comparison = put_together(plan_of(seeds), runs_of(bits, seeds, **changes), baselines)
    return {one["about"]: one for one in reversed(conclude(comparison))}


BITS = {"transformer": 1.93, "kmer_6": 1.95, "bpe_512": 1.94, "hnet_1stage": 1.91}


def test_the_best_and_the_worse():
    said = said_of(BITS)["bits_yeast"]
    assert (said["best"], said["undecided"]) == ("hnet_1stage", [])
    assert said["worse"] == ["transformer", "bpe_512", "kmer_6"]
    assert "best is H-Net, one stage, 1.9102 (95 % " in said["says"]
    assert said_of({**BITS, "kmer_6": 1.90})["bits_yeast"]["best"] == "kmer_6"


def test_what_cannot_be_told_apart_is_said():
    """The arms differ by less than one seed from the next."""
    runs = runs_of(BITS)
    for run in runs:
        if run["arm"] == "transformer":
            run["bits_per_base"] = {"yeast": measure(1.9102 + (run["seed"] - 2) * 0.01, NOISE[0])}
    said = {one["about"]: one for one in reversed(conclude(put_together(plan_of(), runs)))}
    assert said["bits_yeast"]["best"] in ("hnet_1stage", "transformer")
    assert set(said["bits_yeast"]["undecided"]) | {said["bits_yeast"]["best"]} == {
        "hnet_1stage",
        "transformer",
    }
    assert said["bits_yeast"]["worse"] == ["bpe_512", "kmer_6"]
    assert "Not to be told from it: " in said["bits_yeast"]["says"]


@pytest.mark.parametrize(("bits", "verdict"), [(1.91, "better"), (1.97, "worse"), (1.93, "undecided")])
def test_learned_boundaries_against_the_others(bits, verdict):
    said = conclude(put_together(plan_of(), runs_of({**BITS, "hnet_1stage": bits})))
    own = next(one for one in said if one["about"] == "families" and one["quality"] == "bits_yeast")
    assert own["verdicts"]["single"] == verdict
    assert own["verdicts"].keys() == {"single", "fixed", "vocabulary"}


def test_the_interval_that_is_said_is_the_one_that_decided():
    """2 % of the samples lie above 0: surely below with one comparison, undecided where three are made at once."""
    apart = np.full(DRAWS, -0.01)
    apart[: DRAWS // 50] = 0.02
    runs = runs_of(BITS)
    for run in runs:
        if run["arm"] == "hnet_1stage":
            run["bits_per_base"] = {"yeast": {"value": 1.92, "drawn": (1.93 + apart).tolist()}}
        if run["arm"] == "transformer":
            run["bits_per_base"] = {"yeast": measure(1.93)}
    said = conclude(put_together(plan_of(), runs))
    own = next(one for one in said if one["about"] == "families" and one["quality"] == "bits_yeast")
    assert own["verdicts"]["single"] == "undecided"
    wanted = (
        "not to be told from the best of single bases (single bases, transformer: -0.0100 [-0.0100, +0.0200])"
    )
    assert wanted in own["says"]


def test_scores_without_a_correlation_are_not_ranked():
    said = said_of(BITS)["variants"]
    assert said["best"] is None
    assert "nothing to rank" in said["says"]
    better = said_of(BITS, variants=measure(0.3, NOISE[1]))["variants"]
    assert better["best"] in BITS


def test_scores_against_the_effects_have_no_best():
    """That one arm is less wrong than the others is no merit."""
    runs = runs_of(BITS, variants=measure(-0.3, NOISE[1]))
    for run in runs:
        if run["arm"] == "kmer_6":
            run["variants"] = measure(0.0, NOISE[1])
    said = conclude(put_together(plan_of(), runs))
    (variants,) = (one for one in said if one["about"] == "variants")
    assert variants["best"] is None
    below = "Below 0, against the measured effects: single bases, transformer; BPE, 512 tokens; H-Net"
    assert below in variants["says"]
    assert variants["says"].endswith("Not to be told from 0: 6-mers.")
    assert variants["below_0"] == ["transformer", "bpe_512", "hnet_1stage"]
    assert "variants" not in [one["quality"] for one in said if one["about"] == "families"]


def test_work_that_was_not_equal_is_said():
    assert said_of(BITS)["work"]["off"] == {}
    runs = runs_of(BITS)
    runs[3]["deviation"] = -0.12  # of one seed of H-Net
    said = conclude(put_together(plan_of(), runs))[0]
    assert said["off"] == {"hnet_1stage": -0.12}
    assert "are no match on equal work: H-Net, one stage -12.0 %" in said["says"]


def test_few_seeds_and_missing_runs_are_said():
    assert "seeds" not in said_of(BITS)
    assert said_of(BITS, seeds=(1,))["seeds"]["says"].startswith("With 1 seed the intervals")
    runs = [run for run in runs_of(BITS) if (run["arm"], run["seed"]) != ("bpe_512", 2)]
    comparison = put_together(plan_of(), runs)
    assert [arm.name for arm in comparison.arms] == ["transformer", "kmer_6", "hnet_1stage"]
    said = {one["about"]: one for one in conclude(comparison)}
    assert said["missing"]["arms"] == ["bpe_512"]


def test_counts_of_words_are_the_line_to_pass():
    baselines = {"bits_per_base": {"yeast": {"markov_8": 1.945, "uniform": 2.0}}}
    said = said_of(BITS, baselines=baselines)["baselines"]
    assert (said["below"], said["above"]) == (["hnet_1stage"], [])
    assert set(said["undecided"]) == {"transformer", "kmer_6", "bpe_512"}
    assert "(markov_8) need 1.9450" in said["says"]
    lower = said_of(BITS, baselines={"bits_per_base": {"yeast": {"markov_8": 1.92}}})["baselines"]
    assert (lower["above"], lower["undecided"]) == (["kmer_6"], ["transformer", "bpe_512", "hnet_1stage"])
    assert "Above that: 6-mers. Not to be told from it: " in lower["says"]


def test_a_probe_of_words_is_the_line_to_pass_as_well():
    """The rows are hard or easy for words as they are for the states, so that their difference is known well."""
    runs = runs_of(BITS)
    for run in runs:
        run["probe"] = measure({"kmer_6": 0.79, "hnet_1stage": 0.815}.get(run["arm"], 0.8), NOISE[0])
    baselines = {"bits_per_base": {}, "probe": measure(0.8, NOISE[0])}
    said = {one["about"]: one for one in conclude(put_together(plan_of(), runs, baselines))}["probe_baseline"]
    assert (said["above"], said["below"]) == (["hnet_1stage"], ["kmer_6"])
    assert said["undecided"] == ["transformer", "bpe_512"]
    assert "has an accuracy of 0.800 (95 % 0.7" in said["says"]


def test_cost_and_stability():
    said = said_of(BITS)
    assert said["cost"]["fastest"] != "transformer"
    assert "2.0 times as fast as with single bases, transformer" in said["cost"]["says"]
    assert said["stability"]["never"] == ["kmer_6"]
    assert "H-Net, one stage after 12 bases" in said["stability"]["says"]


def test_the_table_and_the_files(tmp_path):
    comparison = put_together(plan_of(), runs_of(BITS))
    data = comparison_table(comparison).set_index("arm")
    assert data.loc["hnet_1stage", "bits_yeast"] == pytest.approx(1.9102)
    assert data.loc["hnet_1stage", "bits_yeast_low"] < 1.9102 < data.loc["hnet_1stage", "bits_yeast_high"]
    assert data["letters_a_row"].to_dict() == {
        "transformer": 1.0, "kmer_6": 6.0, "bpe_512": 1.0, "hnet_1stage": 3.5,
    }  # fmt: skip
    assert np.isnan(data.loc["kmer_6", "bases_to_recover"])
    assert np.isnan(data.loc["transformer", "boundaries_changed"])
    assert data.loc["transformer", "seconds_per_megabase"] == 1.0
    text = page(comparison, comparison_table(comparison), [{"says": "So it is."}])
    assert "| 6-mers (`kmer_6`) | 0.00 M | 30.00 (+0.1 %) | 1.9502 [" in text
    assert "| never |" in text
    assert text.endswith("- So it is.\n")
    report_comparison(plan_of(), runs_of(BITS), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert before.keys() == {"comparison.svg", "comparison.tsv", "comparison.json", "comparison.md"}
    assert len(read_json(tmp_path / "comparison.json")["rows"]) == 4
    report_comparison(plan_of(), list(reversed(runs_of(BITS))), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_seeds_that_are_not_whole_are_left_out():
    runs = [run for run in runs_of(BITS) if (run["arm"], run["seed"]) != ("bpe_512", 3)]
    plan, kept = with_whole_seeds(plan_of(), runs)
    assert plan["settings"]["seeds"] == [1, 2]
    assert len(kept) == 8
    assert put_together(plan, kept).missing == []
    plan, kept = with_whole_seeds(plan_of(), [run for run in runs if run["arm"] != "bpe_512"])  # which failed
    assert plan["settings"]["seeds"] == [1, 2, 3]
    assert {name for name, _ in put_together(plan, kept).missing} == {"bpe_512"}
    with pytest.raises(InputError, match="fewer than two arms"):
        put_together(*with_whole_seeds(plan_of(), []))


def test_results_without_measures_are_one_sentence(tmp_path):
    result = {"plan": None, "runs": [], "baselines": None, "machine": {}}
    (tmp_path / "pilots.json").write_text(json.dumps(result))
    with pytest.raises(InputError, match="pilots alone"):
        report_comparison_of_arms(tmp_path / "pilots.json", tmp_path / "out")
    (tmp_path / "plan.json").write_text(json.dumps(plan_of()))
    with pytest.raises(InputError, match="holds no measures"):
        report_comparison_of_arms(tmp_path / "plan.json", tmp_path / "out", [tmp_path / "pilots.json"])
    assert not (tmp_path / "out").exists()


def test_runs_that_do_not_fit():
    with pytest.raises(InputError, match="'transformer' with seed 9 is none of the plan's"):
        put_together(plan_of(), [run_of("transformer", 9, 1.9)])
    with pytest.raises(InputError, match="stands there twice"):
        put_together(plan_of(), [run_of("transformer", 1, 1.9)] * 2)
    with pytest.raises(InputError, match="fewer than two arms have a run with every seed"):
        put_together(plan_of((1,)), [run_of("transformer", 1, 1.9)])
