from typing import NamedTuple

import pytest
import torch

from partialnas.runs.devices.device import limit_memory, torch_device
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


GIB = 2**30


class Gpu(NamedTuple):
    total_memory: int


@pytest.mark.parametrize(
    ("total", "share", "bytes_limit"),
    [
        (80 * GIB, 0.25, 19.5 * GIB),
        (8 * GIB, 0.5, 3.5 * GIB),
        (2 * GIB, 0.25, 0.25 * GIB),
    ],
)
def test_a_share_of_memory_leaves_room_for_the_contexts_of_all_sharers(
    monkeypatch: pytest.MonkeyPatch, total: int, share: float, bytes_limit: float
) -> None:
    fractions: list[tuple[float, str]] = []
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Gpu(total))
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda *args: fractions.append(args)
    )
    limit_memory("cuda", share)
    limit_memory("cpu", share)
    ((fraction, device),) = fractions
    assert device == "cuda"
    assert fraction * total == pytest.approx(bytes_limit)
