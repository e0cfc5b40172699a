"""The simulated device counts what a GPU would be given, and refuses what a GPU refuses."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch
from support.simulated_device import count_code, simulated_process


@pytest.fixture(scope="module")
def process() -> Iterator[ProcessPoolExecutor]:
    with simulated_process() as executor:
        yield executor


@pytest.mark.parametrize(
    ("code", "launches", "copies", "waits"),
    [
        ("x.view(-1)[1:].t().unsqueeze(0).detach()", 0, 0, 0),
        ("torch.empty_like(x), x.new_empty(3)", 0, 0, 0),
        ("x + 1", 1, 0, 0),
        ("x.add_(x).mul_(2)", 2, 0, 0),
        ("x + torch.tensor(1.0)", 1, 0, 0),
        ("torch.zeros(3, device='sim')", 1, 0, 0),
        ("x.to(torch.float16)", 1, 0, 0),
        ("torch.nn.functional.linear(x, x)", 1, 0, 0),
        ("torch._foreach_mul_([x, x], 2.0)", 1, 0, 0),
        ("torch._foreach_mul_([x, x, torch.ones(1)], 2.0)", 3, 0, 0),
        ("torch.ones(3).to('sim')", 0, 1, 0),
        ("torch.tensor([1.0, 2.0], device='sim')", 0, 1, 0),
        ("x.copy_(torch.ones(2, 3))", 0, 1, 0),
        ("x[torch.tensor([0, 1])]", 1, 1, 0),
        ("x.cpu()", 0, 0, 1),
        ("torch.ones(2, 3).copy_(x)", 0, 0, 1),
        ("x[0, 0].item(), float(x[0, 0])", 0, 0, 2),
        ("bool(x.sum() > 0)", 2, 0, 1),
        ("x.tolist()", 0, 0, 1),
        ("x[x > 0]", 2, 0, 1),
        ("x.nonzero()", 1, 0, 1),
        ("x.requires_grad_().mul(2).sum().backward()", 4, 0, 0),
    ],
)
def test_launches_copies_and_waits(
    code: str, launches: int, copies: int, waits: int, process: ProcessPoolExecutor
) -> None:
    counts = process.submit(count_code, code).result()
    totals = counts.launches.total(), counts.copies.total(), counts.waits.total()
    assert totals == (launches, copies, waits), counts


@pytest.mark.parametrize(
    "code",
    [
        "x + torch.ones(2, 3)",
        "torch.nn.functional.linear(torch.ones(2, 3), x)",
        "torch.stack([x, torch.ones(2, 3)])",
        "x.index_select(0, torch.tensor([0]))",
    ],
)
def test_tensors_on_two_devices_are_refused(code: str, process: ProcessPoolExecutor) -> None:
    with pytest.raises(RuntimeError, match="tensors are on sim and on the CPU"):
        process.submit(count_code, code).result()


def test_this_process_has_no_simulated_device(process: ProcessPoolExecutor) -> None:
    process.submit(count_code, "x + 1").result()
    assert torch._C._get_privateuse1_backend_name() == "privateuseone"
    assert torch.inference_mode is not torch.no_grad
