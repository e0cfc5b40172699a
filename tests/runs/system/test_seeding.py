import contextlib

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from partialnas.runs.system.seeding import derive_seed, make_generator, seeded, torch_threads

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
