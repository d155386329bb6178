"""Letters a second in generation, by how steps are run: `python -m benchmarks.generation [-o FILE.json]`.

Plain steps, steps of fixed shapes, and these replayed as a CUDA graph, for some batch sizes. All generate from the
same random numbers: how many sequences came out equal to those of plain steps is counted first. Then each way is
timed at two lengths. The figures of the whole hold reading the prompts and, for graphs, recording; the
milliseconds a step are those of the further steps of the longer run. `--quick` is a tiny model, for the CPU, where
there are no graphs.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import describe_run, write_result
from benchmarks.ratio_weight import small_model
from genotok.models import GenomicLM, ModelConfig
from genotok.models.generation import generate
from genotok.training.precision import choose_device

PROMPT_LETTERS = 512


def prompts_of(batch: int, letters: int) -> list[str]:
    """Letters drawn by chance, other ones for every prompt."""
    random = torch.Generator().manual_seed(2)
    drawn = torch.randint(4, (batch, letters), generator=random).tolist()
    return ["".join("ACGT"[i] for i in row) for row in drawn]


def run(model: GenomicLM, batch: int, length: int, way: str) -> tuple[torch.Tensor, float]:
    """The tokens, and the seconds that they took."""
    began = time.perf_counter()
    found = generate(model, prompts_of(batch, PROMPT_LETTERS), length, seed=3, batch_size=batch, way=way)
    return found, time.perf_counter() - began


def measure(model: GenomicLM, batch: int, length: int, way: str, repeats: int) -> dict[str, Any]:
    """The figures of one way at one batch size."""
    short = length // 4
    of_short, of_long = (
        statistics.median(run(model, batch, letters, way)[1] for _ in range(repeats))
        for letters in (short, length)
    )
    return {
        "batch": batch,
        "way": way,
        "letters": length,
        "seconds": of_long,
        "letters_a_second": batch * length / of_long,
        "ms_a_step": 1e3 * (of_long - of_short) / (length - short),
    }


def sweep(model: GenomicLM, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row a batch size and way, printed as it is found."""
    rows = []
    for batch in options.batches:
        wanted, _ = run(model, batch, options.plain_length, "plain")
        for way in ("plain", "fixed", "graph") if model.device.type == "cuda" else ("plain", "fixed"):
            found = wanted if way == "plain" else run(model, batch, options.plain_length, way)[0]
            length = options.length if way == "graph" else options.plain_length
            row = measure(model, batch, length, way, options.repeats)
            row["equal_sequences"] = int((found == wanted).all(1).sum())
            row["equal_letters"] = float((found == wanted).float().mean())
            rows.append(row)
            shown = (f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values())
            print("  ".join(" ".join(pair) for pair in zip(row, shown, strict=True)), flush=True)
    return rows


def main() -> None:
    """Print one line a setting, and with -o write all of them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="hnet_1stage_dna", help="preset")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 128])
    parser.add_argument("--length", type=int, default=1024, help="letters to add with graphs")
    parser.add_argument("--plain-length", type=int, default=128, help="letters to add without")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="a tiny model and few letters")
    parser.add_argument("--commit", help="of the code, where it is no git checkout")
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    if options.quick:
        options.batches, options.plain_length, options.repeats = [1, 4], 16, 1
    device = choose_device(options.device)
    torch.manual_seed(1)
    config = ModelConfig.from_dict(small_model(32)) if options.quick else ModelConfig.preset(options.model)
    model = GenomicLM(config).to(device).eval()
    rows = sweep(model, options)
    if options.output:
        about = describe_run(device.type, options.commit) | {"model": options.model}
        write_result(options.output, about | {"prompt_letters": PROMPT_LETTERS, "rows": rows})


if __name__ == "__main__":
    main()
