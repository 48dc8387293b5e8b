import pytest
import torch


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """What is trained here is too small to share, and a process of its own sums in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
