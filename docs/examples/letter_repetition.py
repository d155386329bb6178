"""Learn letter repetition in a minute on a CPU, and look at the chunks that come out of it.

The text is the alphabet with each letter written up to ten times: `aaabbbbbccd...`. Within a run there is little to
say, and what comes next is known as soon as the run ends; a model that learns its own tokens should spend its chunks
there. A run's length is one of ten, so that no model can do better than ln 10 / 5.5 = 0.419 nats a letter.

Run alone, or on several processes that share the work:

    python docs/examples/letter_repetition.py
    torchrun --standalone --nproc-per-node 2 docs/examples/letter_repetition.py
"""

import argparse
import os
import string
from pathlib import Path

import numpy as np
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from genotok import GenomicLM, ModelConfig
from genotok.atomic import atomic_path
from genotok.interpret.coloured_text import chunks_of, coloured_html, print_coloured
from genotok.training.objective import ratio_loss

LETTERS = string.ascii_lowercase
TARGET = 4.0  # letters a chunk that the ratio loss steers to
RATIO_WEIGHT = 0.03


def repeated_letters(random: np.random.Generator, length: int) -> str:
    """Runs of 1 to 10 of each letter, the alphabet over and over, `length` letters of it from a random place."""
    runs = "".join(letter * random.integers(1, 11) for letter in LETTERS * (length // len(LETTERS) + 2))
    first = random.integers(0, len(LETTERS) * 5)
    return runs[first : first + length]


def batch_of(model: GenomicLM, random: np.random.Generator, size: int, length: int) -> torch.Tensor:
    """(size, length) ids."""
    return torch.tensor([model.tokenizer.encode(repeated_letters(random, length)) for _ in range(size)])


def train(model: GenomicLM, steps: int, batch: int, length: int, rank: int, processes: int) -> float:
    """Train a model and return its last loss, in nats a letter, as the mean over the processes."""
    parallel = DistributedDataParallel(model) if processes > 1 else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    random = np.random.default_rng([1, rank])
    for step in range(steps):
        ids = batch_of(model, random, batch // processes, length)
        output = parallel(ids, labels=ids)
        boundaries = output.packed_boundaries[0]
        ratio = ratio_loss(boundaries.mask.float().mean(), boundaries.prob.mean(), TARGET)
        optimizer.zero_grad()
        (output.loss + RATIO_WEIGHT * ratio).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if rank == 0 and (step % 50 == 0 or step == steps - 1):
            length_now = 1 / output.packed_boundaries[0].mask.float().mean()
            print(
                f"step {step}: {output.loss:.3f} nats a letter, {length_now:.2f} letters a chunk", flush=True
            )
    loss = output.loss.detach()
    if processes > 1:
        distributed.all_reduce(loss)
    return float(loss) / processes


def main() -> None:
    """Train, then show the chunks of new text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--html", type=Path, default=Path("letter_repetition.html"))
    options = parser.parse_args()
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1:
        distributed.init_process_group("gloo")
    rank = distributed.get_rank() if processes > 1 else 0
    torch.manual_seed(1)
    config = ModelConfig.reasonable(d_model=[64, 96], layout=["m2", "T2"], tokenizer="byte")
    model = GenomicLM(config)
    train(model, options.steps, batch=16, length=128, rank=rank, processes=processes)
    if rank == 0:
        show(model.eval(), options.html)
    if processes > 1:
        distributed.destroy_process_group()


@torch.no_grad()
def show(model: GenomicLM, page: Path) -> None:
    """Print new text, and text of the model's own, with its chunks in colour; write the same as HTML."""
    new = torch.tensor(model.tokenizer.encode(repeated_letters(np.random.default_rng(99), 100)))
    prompt = torch.tensor(model.tokenizer.encode("aaab"))
    own = torch.cat([prompt, model.generate([prompt], 96, seed=3, nucleotides_only=False)[0]])
    lines = []
    for ids in (new, own):
        mask = model(ids[None]).boundaries[0].mask[0]
        lines.append(chunks_of("".join(map(chr, ids)), mask.tolist()))
        print_coloured(lines[-1])
    with atomic_path(page) as path:
        path.write_text(coloured_html("Letter repetition: new text, and text of the model's own", lines))


if __name__ == "__main__":
    main()
