"""Hyena by groups of channels, its memory, and what its steps keep."""

import subprocess
import sys

import pytest
import torch

from genotok.errors import InputError
from genotok.kernels.ragged import Ragged
from genotok.models.mixer_config import HyenaConfig
from genotok.models.mixers import convolution_memory
from genotok.models.mixers import hyena as module
from genotok.models.mixers.hyena import Hyena

WIDTH = 12
LENGTHS = torch.tensor([9, 1, 30, 2])


def mixer_of(order=3, **more):
    torch.manual_seed(5)
    return Hyena(WIDTH, HyenaConfig(order, **{"max_length": 40, "d_filter": 8, "frequency": 1.0, **more}))


def rows_of(lengths, seed=0):
    return torch.randn(int(lengths.sum()), WIDTH, generator=torch.Generator().manual_seed(seed))


def by_hand(mixer, x):
    """The operator's definition for one sequence (L, D), tap by tap."""
    with torch.no_grad():
        mixed, length, taps = mixer.in_proj(x), len(x), mixer.conv_weight.shape[1]
        short = mixer.conv_bias.repeat(length, 1)
        for t in range(length):
            for k in range(min(taps, t + 1)):
                short[t] += mixer.conv_weight[:, taps - 1 - k] * mixed[t - k]
        *gates, value = short.split(WIDTH, -1)
        for i, filters in enumerate(mixer.filter(length)):
            entering = value * gates[len(gates) - 1 - i]
            value = entering * mixer.skip[i]
            for t in range(length):
                for k in range(t + 1):
                    value[t] += filters[k] * entering[t - k]
        return mixer.out(value * gates[0])


@pytest.mark.parametrize("order", [2, 4])
def test_the_definition(order):
    mixer, x = mixer_of(order), rows_of(torch.tensor([13]))
    torch.testing.assert_close(mixer(x, Ragged.uniform(1, 13)), by_hand(mixer, x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("at_once", [1, 42 * 5, 42 * 7])
def test_groups_of_channels_change_nothing(at_once, monkeypatch):
    """Outputs, gradients and the cache, in groups of 1, 5 and 7 of the 12 channels and over all of them."""
    mixer, ragged, x = mixer_of(), Ragged.from_lengths(LENGTHS), rows_of(LENGTHS).requires_grad_()
    leaves = [x, *mixer.parameters()]

    def everything():
        y = mixer(x, ragged)
        gradients = torch.autograd.grad((y * torch.sin(y.detach())).sum(), leaves)
        with torch.no_grad():
            prefilled, cache = mixer.prefill(x, ragged)
        return y, gradients, prefilled, cache.conv, cache.store.inputs, cache.store.taps

    wanted = everything()
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    monkeypatch.setattr(module, "KEPT", 0)
    assert len(mixer._groups(ragged.total)) > 1
    torch.testing.assert_close(everything(), wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("at_once", [1, 4 * WIDTH * 7])
def test_steps_in_blocks_of_the_history(at_once, monkeypatch):
    monkeypatch.setattr(convolution_memory, "STEP_AT_ONCE", at_once)
    mixer, ragged = mixer_of(), Ragged.from_lengths(LENGTHS)
    with torch.no_grad():
        _, cache = mixer.prefill(rows_of(LENGTHS), ragged)
        more = [rows_of(torch.ones(4), seed=step + 1) for step in range(10)]
        found = [mixer.step(x, cache) for x in more]
        for b, part in enumerate(rows_of(LENGTHS).split(LENGTHS.tolist())):
            wanted = by_hand(mixer, torch.stack([*part, *(x[b] for x in more)]))[-10:]
            torch.testing.assert_close(torch.stack([y[b] for y in found]), wanted, atol=1e-5, rtol=1e-5)


def test_steps_of_some_sequences_write_into_one_store():
    """A selection is a view: no history is copied, neither by taking it nor by putting it back."""
    mixer = mixer_of()
    with torch.no_grad():
        _, cache = mixer.prefill(rows_of(LENGTHS), Ragged.from_lengths(LENGTHS))
        mixer.step(rows_of(torch.ones(4)), cache)  # grows
        before, place = cache.store.inputs.clone(), cache.store.inputs.data_ptr()
        chosen = torch.tensor([3, 0])
        part = cache.select(chosen)
        assert part.store is cache.store
        mixer.step(rows_of(torch.ones(2)), part)
        cache.put(chosen, part)
    assert cache.store.inputs.data_ptr() == place
    changed = (cache.store.inputs != before).any(-1).any(0).nonzero().tolist()
    assert changed == [[0, 10], [3, 3]]  # one slot each, behind what had been read
    assert cache.store.lengths.tolist() == [11, 2, 31, 4]


def test_the_store_grows_by_doubling_up_to_the_filters():
    mixer, capacities = mixer_of(max_length=70), []
    with torch.no_grad():
        _, cache = mixer.prefill(rows_of(torch.tensor([9])), Ragged.uniform(1, 9))
        for _ in range(61):
            mixer.step(rows_of(torch.ones(1)), cache)
            capacities.append(cache.store.capacity)
            assert cache.store.taps.shape[1] == cache.store.capacity
        torch.testing.assert_close(cache.store.taps, mixer.filter(70))
    assert sorted(set(capacities)) == [18, 36, 70]
    assert cache.bytes == 4 * (2 * 2 * 70 * WIDTH + 2 * 4 * WIDTH)


def test_no_step_beyond_the_filters():
    """One full sequence does not keep the others from going on."""
    mixer, lengths = mixer_of(), torch.tensor([39, 3, 4])
    with torch.no_grad():
        _, cache = mixer.prefill(rows_of(lengths), Ragged.from_lengths(lengths))
        mixer.step(rows_of(torch.ones(3)), cache)
        with pytest.raises(InputError, match="a sequence of 41 tokens is longer than the 40"):
            mixer.step(rows_of(torch.ones(3)), cache)
        others = torch.tensor([1, 2])
        part = cache.select(others)
        for _ in range(36 - 1):
            mixer.step(rows_of(torch.ones(2)), part)
        with pytest.raises(InputError, match="a sequence of 41 tokens"):
            mixer.step(rows_of(torch.ones(2)), part)
        cache.put(others, part)
    assert cache.store.lengths.tolist() == [40, 39, 40]


MEASURED = """
import resource, torch
from genotok.kernels.ragged import Ragged
from genotok.models.mixer_config import HyenaConfig
from genotok.models.mixers.hyena import Hyena

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # MiB

length = 1 << 17
mixer, x = Hyena(256, HyenaConfig(max_length=length)), torch.randn(length, 256)
with torch.no_grad():
    mixer(x[:64], Ragged.uniform(1, 64))
    before = peak()
    mixer(x, Ragged.uniform(1, length))
print(peak() - before)
"""


def test_memory_of_a_long_sequence():
    """A layer of width 256 over 2^17 rows, whose result is 128 MiB; all channels at once take 1570 MiB."""
    done = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1100
