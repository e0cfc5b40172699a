"""Which trainings are captured as CUDA graphs, and how captures are replayed."""

from collections.abc import Iterator
from typing import Any

import pytest
import timm
import torch
from support.fake_cuda import FakeCuda, install_fake_cuda
from support.small_trainings import CASES, EPOCHS, make_network, make_recipe
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.augment import DeviceSplits
from partialnas.runs.datasets.loaders import Splits
from partialnas.runs.system.seeding import kernel_selection
from partialnas.runs.training.graph import StepGraph, supports_graphs
from partialnas.runs.training.lanes import run_side_by_side
from partialnas.runs.training.loop import Training
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


def test_divided_batches_checkpointed_stages_and_modules_of_users_are_not_captured() -> None:
    class Users(nn.Module):
        """A module that may do anything."""

    network, recipe = make_network("plain"), Recipe()
    assert not supports_graphs(network, recipe, micro_batches=2)
    network.set_grad_checkpointing()
    assert not supports_graphs(network, recipe)
    network = make_network("plain")
    network.head_act = Users()
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


def test_a_function_runs_eagerly_where_memory_is_short(cuda: FakeCuda) -> None:
    function = Counted()
    graph = StepGraph(GPU)
    cuda.peak, cuda.free = 100, 120
    for _ in range(9):
        graph(function)
    assert (function.calls, cuda.captures) == (9, [])


@pytest.mark.parametrize("error", [RuntimeError("cannot"), torch.OutOfMemoryError("no memory")])
def test_a_capture_that_fails_is_a_fault_of_the_device(error: Exception, cuda: FakeCuda) -> None:
    graph, function = StepGraph(GPU), Counted()
    for _ in range(3):
        graph(function)
    cuda.failure = error
    with pytest.raises(DeviceFaultError, match="a CUDA graph cannot be captured") as caught:
        graph(function)
    assert caught.value.__cause__ is error


def gpu_training(case: str, splits: Splits, seed: int, **options: Any) -> Training:
    recipe = make_recipe(case)
    data = DeviceSplits.from_splits(splits, recipe, GPU)
    return Training(make_network(case, seed), recipe, EPOCHS, seed, data, **options)


@pytest.fixture
def _deterministic() -> Iterator[None]:
    with kernel_selection(GPU, deterministic=True, cudnn_benchmark=False):
        yield


def states(trainings: list[Training]) -> list[dict[str, Tensor]]:
    networks = [training.evaluated_network for training in trainings]
    return [{n: v.cpu() for n, v in network.state_dict().items()} for network in networks]


@pytest.mark.gpu
@pytest.mark.usefixtures("_deterministic")
@pytest.mark.parametrize("case", CASES)
def test_replays_equal_eager_steps_on_a_gpu(case: str, few_digits: Splits) -> None:
    replayed, eager = (gpu_training(case, few_digits, 0, by_counter=c) for c in (True, False))
    for training in (replayed, eager):
        assert run_side_by_side([training]) == [None]
    torch.testing.assert_close(*states([replayed, eager]), rtol=0, atol=0)
    assert replayed.metrics() == eager.metrics()


@pytest.mark.gpu
@pytest.mark.usefixtures("_deterministic")
@pytest.mark.parametrize("case", ["plain", "attention", "drop path", "average", "mixup", "learned"])
def test_lanes_on_a_gpu_have_the_results_that_they_have_alone(
    case: str, few_digits: Splits
) -> None:
    lanes = [gpu_training(case, few_digits, seed, lane=seed) for seed in range(4)]
    assert run_side_by_side(lanes) == [None] * 4
    alone = [gpu_training(case, few_digits, seed) for seed in range(4)]
    for training in alone:
        run_side_by_side([training])
    for one, other in zip(states(lanes), states(alone), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
