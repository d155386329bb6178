"""The arithmetic of benchmarks that train, on numbers that are known; the runs themselves are the training loop's."""

import pytest

from benchmarks import precision, ratio_weight, step_trace


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
