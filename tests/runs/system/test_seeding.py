import contextlib
import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from partialnas.runs.system.seeding import (
    derive_seed,
    kernel_selection,
    make_generator,
    seeded,
    torch_threads,
)
from partialnas.space.errors import UserError

CPU = torch.device("cpu")
NUMBERS = st.integers(0, 2**63)


@given(NUMBERS, NUMBERS, st.text(max_size=5))
def test_seeds_suit_torch_and_numpy(seed: int, epoch: int, purpose: str) -> None:
    derived = derive_seed(seed, epoch, purpose)
    assert 0 <= derived < 2**63
    assert derived == derive_seed(seed, epoch, purpose)


def test_seeds_differ_by_seed_epoch_and_purpose() -> None:
    seeds = {derive_seed(s, e, p) for s in range(20) for e in range(20) for p in ("order", "mix")}
    assert len(seeds) == 800


def test_generators_of_the_same_purpose_agree() -> None:
    first, again = (make_generator(1, 2, "order").permutation(50) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_seeding_restores_the_callers_generators() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with seeded(5, CPU):
        first = torch.rand(3)
    with seeded(5, CPU):
        assert torch.equal(first, torch.rand(3))
    with contextlib.suppress(KeyError), seeded(6, CPU):
        torch.rand(7)
        raise KeyError
    assert torch.equal(before, torch.get_rng_state())


def test_the_number_of_threads_is_restored() -> None:
    before = torch.get_num_threads()
    with contextlib.suppress(KeyError), torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before


CUDA = torch.device("cuda", 0)


def choice() -> tuple[bool, bool, bool]:
    cudnn = torch.backends.cudnn
    return torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark


def test_the_choice_of_kernels_is_restored() -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = True
    try:
        before = choice()
        with kernel_selection(CPU, deterministic=False, cudnn_benchmark=True):
            assert choice() == (False, False, True)
        with (
            contextlib.suppress(KeyError),
            kernel_selection(CPU, deterministic=True, cudnn_benchmark=False),
        ):
            assert choice() == (True, True, False)
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
            raise KeyError
        assert choice() == before
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = False


def test_cublas_gets_its_workspace_before_cuda_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    with kernel_selection(CUDA, deterministic=False, cudnn_benchmark=False):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":0:0"
    with kernel_selection(CUDA, deterministic=True, cudnn_benchmark=False):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_after_the_start_of_cuda_deterministic_kernels_need_the_workspace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with kernel_selection(CUDA, deterministic=True, cudnn_benchmark=False):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    with (
        pytest.raises(UserError, match="set CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment"),
        kernel_selection(CUDA, deterministic=True, cudnn_benchmark=False),
    ):
        pass
    assert not torch.are_deterministic_algorithms_enabled()
