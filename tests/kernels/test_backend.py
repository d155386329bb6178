"""The choice between the torch reference and Triton."""

import os
import subprocess
import sys

import torch

from genotok.kernels.backend import reference_kernels, uses_triton


class OnCuda:
    """What the choice asks of a tensor."""

    is_cuda = True

    def __init__(self, dtype=torch.float32):
        self.dtype = dtype


def test_cpu_tensors_take_the_reference():
    assert not uses_triton(torch.zeros(1))
    assert not uses_triton(OnCuda(), torch.zeros(1))


def test_cuda_tensors_take_triton_unless_told_otherwise():
    assert uses_triton(OnCuda(), OnCuda(torch.bfloat16))
    assert not uses_triton(OnCuda(torch.float64))
    with reference_kernels():
        assert not uses_triton(OnCuda())
    assert uses_triton(OnCuda())


def test_environment_variable():
    code = "from genotok.kernels.backend import _forced; print(_forced.get())"
    environment = {**os.environ, "GENOTOK_KERNELS": "reference"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "True\n"
