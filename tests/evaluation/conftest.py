"""One thread in this folder, and torch's settings put back that a run changes."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _settings_put_back():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
