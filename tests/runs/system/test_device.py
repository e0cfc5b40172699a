import pytest
import torch

from partialnas.runs.system.device import torch_device
from partialnas.space.errors import MachineError, UserError


def test_the_cpu_is_always_available() -> None:
    assert torch_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["", "tpu", "gpu", "meta", "cuda:x", "cuda:-1", "cpu cpu"])
def test_unknown_devices_are_rejected(name: str) -> None:
    with pytest.raises(UserError, match="expected cpu, cuda or cuda:N"):
        torch_device(name)


def test_a_missing_gpu_is_an_error() -> None:
    with pytest.raises(MachineError, match="there is no cuda:99 on this machine"):
        torch_device("cuda:99")
