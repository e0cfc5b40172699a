import pytest
import torch

from partialnas.runs.system.device import torch_device
from partialnas.space.errors import MachineError, UserError


def test_the_cpu_is_always_there() -> None:
    assert torch_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["", "tpu", "gpu", "meta", "cuda:x", "cuda:-1", "cpu cpu"])
def test_other_kinds_are_told(name: str) -> None:
    with pytest.raises(UserError, match="expected cpu, cuda or cuda:N"):
        torch_device(name)


def test_a_gpu_that_is_not_there_is_told() -> None:
    with pytest.raises(MachineError, match="there is no cuda:99 on this machine"):
        torch_device("cuda:99")
