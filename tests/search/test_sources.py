"""Samplers as sources: what they propose when they are taken up anew, and how they scale."""

from collections import Counter
from typing import Any, Literal

import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial

from partialnas.search.sources import OptunaSource, Proposal, Remembered
from partialnas.search.study import SearchSpec
from partialnas.space.architecture import Architecture
from partialnas.space.space import Space

Sampler = Literal["random", "tpe", "nsga2"]

SPACE: dict[str, Any] = {
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1]},
    "space": {
        "axes": {
            "width": list(range(8, 40, 2)),
            "parts": [2, 3, 4],
            "ratio": {"values": ["1/8", "1/4", "1/2"], "per": "stage"},
            "mlp_ratio": {"values": [1, 2, 3], "per": "stage"},
            "pat_sp": [False, True],
        }
    },
}


def source(sampler: Sampler) -> OptunaSource:
    space = Space.from_data(SPACE, resolution=8, in_chans=1, num_classes=10)
    return OptunaSource(space, SearchSpec(sampler=sampler, population=4), {"nll": "min"})


def reached(architecture: Architecture) -> dict[str, float]:
    return {"nll": abs(architecture.widths[0] - 21) + len(architecture.realised[0][0].parts)}


def asked(of: OptunaSource, numbers: range) -> list[Proposal]:
    proposals = []
    for number in numbers:
        proposals.append(of.ask(number))
        of.tell(number, reached(proposals[-1].architecture))
    return proposals


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_a_source_taken_up_anew_proposes_what_the_first_would_have(sampler: Sampler) -> None:
    first, second = source(sampler), source(sampler)
    begun = asked(first, range(1, 31))
    second.rebuild(
        [
            Remembered(number, each.note, reached(each.architecture), open=False)
            for number, each in enumerate(begun, start=1)
        ]
    )
    digests = [
        [each.architecture.digest for each in asked(of, range(31, 46))] for of in (first, second)
    ]
    assert digests[0] == digests[1]
    assert len(set(digests[0])) > 3


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_a_late_proposal_copies_and_compares_no_more_than_an_early_one(
    sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: Counter[str] = Counter()
    equal = CategoricalDistribution.__eq__

    def copying(self: FrozenTrial, protocol: int) -> Any:
        done["copies"] += 1
        return object.__reduce_ex__(self, protocol)

    def comparing(self: CategoricalDistribution, other: Any) -> bool:
        done["comparisons"] += 1
        return equal(self, other)

    monkeypatch.setattr(FrozenTrial, "__reduce_ex__", copying)
    monkeypatch.setattr(CategoricalDistribution, "__eq__", comparing)
    of = source(sampler)
    counts = []
    for start in (21, 61):
        asked(of, range(start - 20, start))
        done.clear()
        asked(of, range(start, start + 20))
        counts.append(done.copy())
    early, late = counts
    for what in ("copies", "comparisons"):
        assert late[what] <= 1.3 * early[what]
