"""Processes that make batches ahead: the order, the bytes, and how they end."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch

from genotok.errors import InputError
from genotok.shards.prefetch import Prefetcher
from genotok.shards.sampler import collate
from genotok.tokenizers import load_tokenizer


def fed(make, jobs, workers):
    """What is made of jobs, with every process busy."""
    prefetcher, waiting, found = Prefetcher(make, workers), list(jobs), []
    try:
        while len(found) < len(jobs):
            while prefetcher.has_room and waiting:
                prefetcher.ask(waiting.pop(0))
            found.append(prefetcher.next())
    finally:
        prefetcher.close()
    return found


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_come_whole_and_in_order(workers):
    tokenizer = load_tokenizer("nucleotide")

    def make(seed):
        time.sleep(0.02 * (seed % 3))  # so that later jobs are done first
        random = np.random.default_rng(seed)
        return collate([random.integers(0, 5, n).astype(np.uint8) for n in (seed * 300 + 1, 4)], tokenizer)

    for seed, batch in enumerate(fed(make, range(7), workers)):
        wanted = make(seed)
        for name in ("input_ids", "labels", "lengths", "letters"):
            assert torch.equal(getattr(batch, name), getattr(wanted, name))
        batch.input_ids += 1  # memory of one's own, that may be written to
        assert batch.weights is None


def test_what_goes_wrong_is_said():
    def refuse(job):
        raise InputError("line 7: is no sequence")

    def fail(job):
        return 1 // job

    with pytest.raises(InputError, match=r"^line 7: is no sequence$"):
        fed(refuse, [1], 1)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        fed(fail, [0], 2)


@pytest.mark.parametrize("when", ["making", "waiting"])
def test_a_killed_process_ends_in_a_sentence(when):
    prefetcher = Prefetcher(lambda job: time.sleep(job) or os.getpid(), 2)
    try:
        prefetcher.ask(0)
        process = prefetcher.next()
        prefetcher.ask(0)
        prefetcher.next()
        prefetcher.ask(30 if when == "making" else 0)
        if when == "waiting":
            prefetcher.next()
        os.kill(process, signal.SIGKILL)
        if when == "making":
            with pytest.raises(InputError) as error:
                prefetcher.next()
        else:  # as it is asked, or by the silence that follows
            with pytest.raises(InputError) as error:
                go_on(prefetcher)
        assert "process 1 of 2 that makes batches was ended by SIGKILL, as a rule because" in str(error.value)
        assert "fewer loader_workers" in str(error.value)
    finally:
        prefetcher.close()


def go_on(prefetcher):
    for _ in range(3):
        prefetcher.ask(0)
        prefetcher.next()


LONELY = """
import os, sys, time
from genotok.shards.prefetch import Prefetcher
prefetcher = Prefetcher(lambda job: (time.sleep(0.01), os.getpid())[1], 2)
for _ in range(2):
    prefetcher.ask(0)
print(*[prefetcher.next() for _ in range(2)], flush=True)
prefetcher.ask(0)
if sys.argv[1] == "raise":
    raise SystemExit(3)
time.sleep(60)
"""


@pytest.mark.parametrize("how", ["raise", signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_processes_end_with_the_one_that_started_them(how):
    command = [sys.executable, "-c", textwrap.dedent(LONELY), str(how)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    children = [int(word) for word in parent.stdout.readline().split()]
    assert len(children) == 2
    for child in children:
        if how != "raise":  # a terminal and a batch system send these to all
            os.kill(child, signal.SIGINT)
            os.kill(child, signal.SIGTERM)
    if how != "raise":
        parent.send_signal(how)
    parent.wait(timeout=20)
    give_up = time.monotonic() + 10
    while any(_runs(child) for child in children):
        assert time.monotonic() < give_up
        time.sleep(0.02)


def _runs(process):
    try:
        with open(f"/proc/{process}/stat") as handle:
            return handle.read().split()[2] != "Z"
    except FileNotFoundError:
        return False
