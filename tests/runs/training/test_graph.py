"""Which trainings are captured as CUDA graphs, and how captures are replayed."""

from functools import partial
from typing import Any

import pytest
import timm
import torch
from support.fake_cuda import FakeCuda, FakeStream, install_fake_cuda
from support.small_trainings import CASES, make_network, make_recipe
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.training.graph import StepGraph, supports_graphs
from partialnas.runs.training.optimizer import capturable
from partialnas.space.errors import DeviceFaultError

GPU = torch.device("cuda", 0)
EAGER = ("nadamw", "lion", "learned by input")


@pytest.mark.parametrize("case", CASES)
def test_static_networks_are_captured(case: str) -> None:
    assert supports_graphs(make_network(case), make_recipe(case)) == (case not in EAGER)


@pytest.mark.parametrize(
    "settings", [{"precision": "float16"}, *({"optimizer": o} for o in ("nadamw", "lamb", "muon"))]
)
def test_recipes_that_decide_on_the_host_are_not_captured(settings: dict[str, Any]) -> None:
    assert not supports_graphs(make_network("plain"), Recipe.model_validate(settings))


def test_what_decides_on_the_host_is_not_captured() -> None:
    class Users(nn.Module):
        """A module that may do anything."""

    network, recipe = make_network("plain"), Recipe()
    assert not supports_graphs(network, recipe, micro_batches=2)
    network.set_grad_checkpointing()
    assert not supports_graphs(network, recipe)
    network = make_network("plain")
    network.head_act = Users()
    assert not supports_graphs(network, recipe)
    network = make_network("plain")
    next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d)).momentum = None
    assert not supports_graphs(network, recipe)
    assert not supports_graphs(timm.create_model("test_vit"), recipe)


class NoWaiting(TorchDispatchMode):
    """Refuse operations whose result the host needs."""

    REFUSED = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "unique", "masked_select")

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        assert func.overloadpacket.__name__.removeprefix("aten::") not in self.REFUSED
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "name",
    [
        "test_convnext",
        "test_efficientnet",
        "fasternet_t0",
        "mobilenetv3_small_050",
        "regnetx_002",
        "test_resnet",
    ],
)
def test_models_of_timm_that_are_captured_decide_nothing_on_the_host(name: str) -> None:
    network = timm.create_model(name, num_classes=10, drop_path_rate=0.1)
    assert supports_graphs(network, Recipe())
    with NoWaiting():
        loss = functional.cross_entropy(network(torch.randn(2, 3, 64, 64)), torch.arange(2))
        loss.backward()
        network.eval()(torch.randn(2, 3, 64, 64))


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return install_fake_cuda(monkeypatch)


class Counted:
    """A function that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1


def test_a_function_is_captured_once_after_its_warm_up(cuda: FakeCuda) -> None:
    function = Counted()
    graph = StepGraph(GPU)
    stream = cuda.new_stream()
    with cuda.on_stream(stream):
        for _ in range(3):
            graph(function)
        assert (function.calls, cuda.captures, cuda.replays) == (3, [], [])
        for _ in range(4):
            graph(function)
    ((captured, capture_stream),) = cuda.captures
    assert capture_stream is stream
    assert cuda.replays == [captured] * 4
    assert function.calls == 4  # the last one is the capture


TOTAL = 1 << 30


@pytest.mark.parametrize(
    ("free", "reserved", "is_captured"),
    [(260, 0, True), (240, 0, False), (TOTAL, TOTAL - 260, True), (TOTAL, TOTAL - 240, False)],
    ids=["enough", "short", "enough of the share", "the share is reserved by other graphs"],
)
def test_a_graph_needs_memory_for_itself_and_for_what_runs_beside_it(
    free: int, reserved: int, is_captured: bool, cuda: FakeCuda
) -> None:
    function, graph = Counted(), StepGraph(GPU)
    cuda.peak, cuda.free, cuda.reserved = 100, free, reserved
    for _ in range(9):
        graph(function)
    assert (function.calls, len(cuda.captures)) == ((4, 1) if is_captured else (9, 0))


def test_memory_is_counted_without_the_gradients_of_steps_before(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
    had_gradients: list[bool] = []

    def free_memory(*_: object) -> tuple[int, int]:
        had_gradients.append(layer.weight.grad is not None)
        return cuda.free, TOTAL

    monkeypatch.setattr(torch.cuda, "mem_get_info", free_memory)
    graph = StepGraph(GPU, partial(capturable, optimizer))
    for _ in range(5):
        layer.weight.grad = torch.ones_like(layer.weight)
        graph(lambda: None)
    assert had_gradients == [False]


def test_a_function_goes_on_eagerly_if_its_capture_runs_out_of_memory(cuda: FakeCuda) -> None:
    calls: list[FakeStream] = []

    def function() -> None:
        if cuda.capturing:
            raise torch.OutOfMemoryError
        calls.append(cuda.current)

    graph, stream = StepGraph(GPU), cuda.new_stream()
    with cuda.on_stream(stream):
        for _ in range(9):
            graph(function)
    assert calls == [stream] * 9
    assert cuda.captures == cuda.replays == []


def test_a_capture_that_fails_is_a_fault_of_the_device(cuda: FakeCuda) -> None:
    graph, function, error = StepGraph(GPU), Counted(), RuntimeError("cannot")
    for _ in range(3):
        graph(function)
    cuda.failure = error
    with pytest.raises(DeviceFaultError, match="a CUDA graph cannot be captured") as caught:
        graph(function)
    assert caught.value.__cause__ is error
