"""The arithmetic of benchmarks that train, on numbers that are known; the runs themselves are the training loop's."""

import json
import math
import signal
import subprocess
import sys
import time

import pytest
import torch

from benchmarks import (
    counters,
    ema_drift,
    gpu,
    graph_step,
    long_context,
    loss_curves,
    precision,
    ratio_weight,
    step_trace,
    tokenizers,
)
from benchmarks.machine import write_result


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


def test_memory_that_grows_in_line_with_length():
    lengths = [1 << exponent for exponent in range(10, 21)]
    straight = long_context.memory_growth(lengths, [0.25 + length * 2.0**-16 for length in lengths], 0.25)
    assert straight["linear"]
    assert straight["bytes_a_base"] == pytest.approx(2**14)
    assert straight["base_gib"] == pytest.approx(0.25)
    assert straight["exponent"] == pytest.approx(1.0)
    assert straight["worst_relative_error"] < 1e-9
    bent = long_context.memory_growth(
        lengths, [0.25 + (length * 2.0**-16) ** 1.2 for length in lengths], 0.25
    )
    assert not bent["linear"]
    assert bent["exponent"] == pytest.approx(1.2)
    assert long_context.memory_growth([1024], [1.0], 0.5) is None


def test_a_sweep_of_lengths_and_its_lines(monkeypatch):
    monkeypatch.setattr(long_context, "SECONDS", 0.0)
    model = long_context.make_model("hnet_1stage_dna", 256, 4, quick=True)
    rows = long_context.sweep(model.eval(), "tiny", "forward", [64, 256], "fp32")
    assert [row["length"] for row in rows] == [64, 256]
    assert rows[0]["chunk_fraction"] == [0.25]
    assert model.embedding.weight.grad is None
    (trained,) = long_context.sweep(model.train(), "tiny", "train", [64], "fp32")
    assert trained["bases_per_second"] == pytest.approx(64e3 / trained["ms"])
    cells = long_context.as_line({**rows[1], "peak_gib": 0.5}).split("\t")
    assert len(cells) == len(long_context.COLUMNS)
    assert cells[:3] + cells[5:] == ["tiny", "forward", "256", "0.5", "[0.25]", ""]


def test_differences_of_loss_curves():
    curves = {"fast": [1.4, 1.3, 1.2], "reference": [1.4, 1.31, 1.22], "reference_rounded": [1.4, 1.31, 1.21]}
    found = loss_curves.compared(curves, "fp32")
    assert found["fast_and_reference"]["largest"] == pytest.approx(0.02)
    assert found["fast_and_reference"]["mean"] == pytest.approx(0.01)
    assert found["reference_and_rounded_reference"]["largest"] == pytest.approx(0.01)
    assert not found["agrees"]
    assert loss_curves.compared(curves | {"fast": [1.4, 1.31, 1.221]}, "fp32")["agrees"]


@pytest.mark.parametrize("kind", ema_drift.KINDS)
def test_the_moving_average_does_not_drift(kind):
    assert not ema_drift.measure(kind, 1 << 13, 2, torch.device("cpu"))["drifts"]


def test_a_drift_is_seen():
    """A state that is rounded to bfloat16 at every step stays behind where it remembers much."""
    chunks, probability, gradient = ema_drift.inputs("slow", 1 << 13, 2)
    wanted, state, rounded = ema_drift.exact(chunks, probability, gradient)["average"], torch.zeros(2), []
    for x, p in zip(chunks, probability, strict=True):
        state = (state + p * (x - state)).bfloat16().float()
        rounded.append(state)
    found = ema_drift.errors(torch.stack(rounded).double().numpy(), wanted, 1 << 10)
    assert found["last"] > 100 * ema_drift.TOLERANCE


def test_what_a_trace_of_two_steps_says():
    def event(cat, name, begin, took):
        return {"ph": "X", "cat": cat, "name": name, "ts": begin, "dur": took}

    kernels = [("a", 0, 300), ("b", 100, 100), ("b", 500, 500), ("a", 1500, 500)]
    events = [
        *(event("kernel", *kernel) for kernel in kernels),
        event("gpu_memcpy", "Memcpy DtoH (Device -> Pinned)", 1000, 100),
        *(event("cuda_runtime", "cudaLaunchKernel", place, 5) for place in range(3)),
        event("cuda_driver", "cuLaunchKernelEx", 9, 5),
        event("cuda_runtime", "cudaEventSynchronize", 10, 40),
        event("cpu_op", "aten::_local_scalar_dense", 10, 40),
        {"ph": "M", "name": "process_name"},
    ]
    found = step_trace.summary(events, 2)
    assert found["launches"] == 2
    assert found["cudaEventSynchronize"] == found["aten::_local_scalar_dense"] == 0.5
    assert found["copies_to_host"] == 0.5
    assert found["device_busy"] == pytest.approx(1400 / 2000)
    assert found["device_milliseconds"] == pytest.approx(0.7)
    names = [(line["name"], line["milliseconds"], line["calls"]) for line in found["longest"]]
    assert names == [("a", 0.4, 1.0), ("b", 0.3, 1.0)]


def test_a_traced_training(tmp_path, capsys):
    options = step_trace.parse(["--tiny", "--steps", "1", "--warmup", "1"])
    found = step_trace.measure(options, tmp_path)
    assert found["milliseconds_a_step"] >= found["host_works_milliseconds"] > 0
    assert 0 < found["chunk_fraction"][0] <= 1
    assert found["profile"]["aten::_local_scalar_dense"] > 0
    step_trace.print_table(found)
    assert "bases_per_second: " in capsys.readouterr().out


def test_replayed_steps_beside_launched_ones(tmp_path, capsys):
    options = graph_step.parse(["--tiny", "--steps", "2", "--warmup", "2", "--models", "hnet M15"])
    (line,) = graph_step.measure(options, tmp_path)
    assert line["graph"]["replays"] == 3  # all steps but the first
    assert line["launched"]["replays"] == 0
    assert line["graph_and_launched"] == line["launched_twice"] == dict.fromkeys(line["launched_twice"], 0)
    assert line["agrees"]
    assert "hnet M15: " in capsys.readouterr().out


def test_replayed_steps_that_are_others_do_not_agree():
    def curve(losses, replays):
        found = {"mbases_s": 1.0, "replays": replays}
        return graph_step.Curve(losses, [1.0] * len(losses), [0.4] * len(losses), found)

    def agrees(losses, replays):
        launched = curve([2.0] * 8, 0)
        curves = {"launched": launched, "launched_again": launched, "graph": curve(losses, replays)}
        return graph_step.compared("x", curves, 8, 1)["agrees"]

    assert agrees([2.0] * 7 + [2.009], 7)
    assert not agrees([2.0] * 7 + [2.011], 7)
    assert not agrees([2.0] * 4 + [2.002] * 4, 7)
    assert not agrees([2.0] * 8, 6)


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


def test_an_arm_that_fails_does_not_take_the_others_with_it(tmp_path, monkeypatch):
    def run(plan, name, seed, folder):
        if name == "transformer":
            raise RuntimeError("out of memory")
        folder.mkdir()
        (folder / "measures.json").write_text(json.dumps({"arm": name, "seed": seed}))

    monkeypatch.setattr(tokenizers, "run_arm", run)
    (tmp_path / "plan.json").write_text(json.dumps(PLAN))
    (tmp_path / "claims").mkdir()
    assert not tokenizers.work(tmp_path, time.time() + 60)
    assert [file.parent.name for file in tokenizers.measured(tmp_path)] == ["kmer_6-1", "kmer_6-2"]
    assert "out of memory" in (tmp_path / "transformer-2" / "failure.txt").read_text()


def test_workers_stop_at_the_end_of_the_time(tmp_path):
    """One ends when it is asked to, the other does not listen."""
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    workers = [subprocess.Popen(["sleep", "60"])]
    workers.append(subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE))
    workers[1].stdout.readline()
    seen = []
    before = signal.getsignal(signal.SIGTERM)
    try:
        ended = tokenizers.wait(workers, time.time() + 0.2, lambda: seen.append(1), seconds_to_stop=0.5)
    finally:
        signal.signal(signal.SIGTERM, before)
        workers[1].stdout.close()
    assert ended == [-signal.SIGTERM, -signal.SIGKILL]
    assert len(seen) >= 2


def test_what_is_done_is_written_whenever_it_is_more(tmp_path):
    words = [
        "--runs",
        str(tmp_path),
        "-o",
        str(tmp_path / "out" / "x.json"),
        "--commit",
        "c",
        "--device",
        "cpu",
    ]
    options = tokenizers.parse(words)
    plan = PLAN | {"settings": {"seeds": [1, 2], **FILES}}
    save = tokenizers.saver(options, plan)
    for count, (name, seed) in enumerate([("kmer_6", 2), ("transformer", 1)], 1):
        run = {"arm": name, "seed": seed, "seconds": 5.0}
        tokenizers.write_result(tmp_path / f"{name}-{seed}" / "measures.json", run)
        save()
        found = json.loads(options.output.read_text())
        assert len(found["runs"]) == count
    assert [run["arm"] for run in found["runs"]] == ["transformer", "kmer_6"]  # the order of the plan
    assert found["machine"]["seconds_of_training"] == 10.0
    assert str(tmp_path) not in json.dumps(found["plan"])
    written = options.output.stat().st_mtime_ns
    save()
    assert options.output.stat().st_mtime_ns == written


FILES = {
    "shards": "/one/shards",
    "tokenizers": "/one",
    "variants": {"vcf": "/here/v.vcf", "reference": "/here/r.fa", "truth": "T", "window": 504},
    "probe": None,
}


def test_a_plan_is_the_same_on_another_machine(tmp_path):
    plan = {"settings": {"seeds": [1], "draws": 5, **FILES}, "arms": {}}
    there = json.loads(json.dumps(plan).replace("/one", "/two").replace("/here", "/there"))
    tokenizers.check_plan(there, tmp_path, tokenizers.without_folders(plan))
    there["settings"]["draws"] = 6
    with pytest.raises(SystemExit, match="another plan"):
        tokenizers.check_plan(there, tmp_path, plan)


def test_runs_of_an_earlier_comparison_are_kept(tmp_path):
    pilots = [{"arm": "merge", "seed": 1000, "chunk_fraction": [0.2]}]
    runs = [{"arm": "kmer_6", "seed": 2, "bits": 1.9}]
    earlier = {"baselines": {"probe": None}, "runs": runs, "pilots": pilots, "plan": None}
    (tmp_path / "earlier.json").write_text(json.dumps(earlier))
    words = ["--runs", str(tmp_path / "runs"), "-o", "x.json", "--go-on", str(tmp_path / "earlier.json")]
    options = tokenizers.parse([*words, "--expect", "hnet_2stage=3.5,1.9"])
    assert options.expect == [("hnet_2stage", [3.5, 1.9])]
    tokenizers.restore(options)
    kept = json.loads((tmp_path / "runs" / "kmer_6-2" / "measures.json").read_text())
    assert kept == earlier["runs"][0]
    assert json.loads((tmp_path / "runs" / "baselines.json").read_text()) == earlier["baselines"]
    assert [file.parent.name for file in tokenizers.measured(tmp_path / "runs" / "pilot")] == ["merge-1000"]


def test_genomes_of_a_comparison(tmp_path):
    found = tokenizers.find_genomes(None)
    assert [path.is_file() for path in found] == [True] * 4
    for name in ("b.fna.gz", "a.fa", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in tokenizers.find_genomes(tmp_path)] == ["a.fa", "b.fna.gz"]


def test_counters_of_a_launch():
    metrics = [name for name, _ in counters.VALUES.values()]
    waits = [
        f"{counters.WAITS[0]}{name}{counters.WAITS[1]}" for name in ("barrier", "not_issued_wait", "wait")
    ]
    names, units = ["Kernel Name", *metrics, *waits], ["", "us", "Mbyte", "%", "%", "%", "", *["inst"] * 3]
    values = ["_conv_kernel", "1,250.5", "3.5", "60.0", "25.0", "50.0", "64", "0.5", "9.0", "2.5"]
    lines = [
        "==PROF== Connected",
        *(",".join(f'"{cell}"' for cell in line) for line in (names, units, values)),
    ]
    (launch,) = counters.read_counters(lines)
    assert launch["kernel"] == "conv"
    assert launch["milliseconds"] == pytest.approx(1.2505)
    assert launch["bytes"] == pytest.approx(3.5e6)
    assert launch["of_memory_bandwidth"] == pytest.approx(0.6)
    assert launch["cycles_waited"] == {"wait": 2.5, "barrier": 0.5}


def test_waits_between_kernels():
    """Some run side by side, and one within another."""
    spans = [
        (0.0, 4.0, "a"),
        (1.0, 6.0, "b"),
        (2.0, 3.0, "c"),
        (7.0, 8.0, "d"),
        (8.0, 9.0, "e"),
        (12.0, 13.0, "f"),
    ]
    assert gpu.waits(spans) == [(1.0, "b", "d"), (3.0, "e", "f")]


def test_lists_of_numbers_on_one_line(tmp_path):
    """And the same values, also where a string looks like one of them."""
    values = {
        "a": [1, -2.5e-7, 3],
        "b": [],
        "c": "[\n1,\n2]",
        "d": [[1, 2], ["x", "[ 1 ]"]],
        "e": [math.nan, None],
    }
    write_result(tmp_path / "found.json", values)
    text = (tmp_path / "found.json").read_text()
    assert '"a": [1, -2.5e-07, 3]' in text
    assert str(json.loads(text)) == str(values)
