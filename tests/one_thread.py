"""One thread, for tests whose tensors are small; a `conftest.py` that imports the fixture has it on."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    """Torch's number of threads is one within the folder, and put back behind it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def settings_put_back():
    """One thread, and torch's settings put back behind each test, which a run changes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    torch.use_deterministic_algorithms(False)
