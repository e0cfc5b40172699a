"""Rungs: asynchronous successive halving, where every rung is a complete training of its own."""

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass

from partialnas.search.driver.candidate import Candidate
from partialnas.search.resolve.resolved_study import ResolvedStudy
from partialnas.search.samplers.base import ObjectiveValues
from partialnas.search.samplers.evolution import rank_and_crowding, to_losses
from partialnas.search.study.fidelity import Condition


@dataclass(frozen=True)
class Promotion:
    """A network that is to be trained at the next fidelity.

    Attributes:
        candidate: the network, as it was on the rung that it leaves.
        rung: number of the rung that it goes to, from 1 for the lowest.
        condition: how it is trained there.
    """

    candidate: Candidate
    rung: int
    condition: Condition


@dataclass(frozen=True)
class _Standing:
    number: int
    losses: tuple[float, ...]
    violation: float


class _Rung:
    """The networks that have ended on one rung below the last.

    Args:
        prepared: the study, which searches.
        above: the rungs above: an arm may be on the last one already.
        known: every network of the study, on every rung.
    """

    def __init__(
        self,
        prepared: ResolvedStudy,
        above: Sequence[Condition],
        known: Container[tuple[Condition, str]],
    ) -> None:
        assert prepared.study.search is not None, "rungs are those of a search"
        self._study = prepared.study
        self._share = prepared.study.search.promote
        self._above, self._known = above, known
        self._ended: dict[str, Candidate] = {}
        self._ranked: list[str] | None = None
        self._gone: set[str] = set()

    def conclude(self, candidate: Candidate) -> None:
        """One more has ended."""
        self._ended[candidate.digest] = candidate
        self._ranked = None

    def promotable(self, least: int) -> Candidate | None:
        """The best network among the share that goes on, `least` at least, that has not yet."""
        quota = max(math.floor(self._share * len(self._ended)), least)
        if self._ranked is None:
            self._ranked = self._best_first()
        staying = (digest for digest in self._ranked[:quota] if not self._has_gone_on(digest))
        return self._ended.get(next(staying, ""))

    def _has_gone_on(self, digest: str) -> bool:
        if digest not in self._gone and any((how, digest) in self._known for how in self._above):
            self._gone.add(digest)
        return digest in self._gone

    def _best_first(self) -> list[str]:
        """The digests of all that have not failed.

        By domination, then by how alone they stand on their front, then the first proposed; those
        that violate a limit come last, by how much they do.
        """
        standings = {
            digest: self._standing(candidate, reached)
            for digest, candidate in self._ended.items()
            if (reached := candidate.objective_values(self._study.objectives, self._study.limits))
        }
        place = rank_and_crowding(sorted(standings.values(), key=lambda each: each.number))
        order = {digest: (place[each.number], each.number) for digest, each in standings.items()}
        return sorted(order, key=order.__getitem__)

    def _standing(self, candidate: Candidate, reached: ObjectiveValues) -> _Standing:
        losses = to_losses(reached, self._study.objectives)
        return _Standing(min(candidate.requested.values()), losses, reached.violation)


class SuccessiveHalving:
    """Knows which networks have ended on which rung, and which of them goes on next.

    From the highest rung down, the best network that is among the stated share of those that have
    ended there, and that has not gone on yet (asynchronous successive halving, Li et al. 2020).
    Nothing waits for a rung to be complete. A network that failed counts among those that have
    ended, and never goes on.

    Args:
        prepared: the study.
        known: every network of the study, on every rung, as they come.
    """

    def __init__(self, prepared: ResolvedStudy, known: Container[tuple[Condition, str]]) -> None:
        self._ladder = prepared.all_rungs
        self._rungs = {
            how: _Rung(prepared, self._ladder[number:], known)
            for number, how in enumerate(prepared.rungs, start=1)
        }

    def report(self, candidate: Candidate) -> None:
        """A network has ended on a rung."""
        if (rung := self._rungs.get(candidate.condition)) is not None:
            rung.conclude(candidate)

    def next_promotion(self, *, no_more_candidates: bool = False) -> Promotion | None:
        """Who goes on now; None where nobody deserves it yet.

        Args:
            no_more_candidates: whether no more networks will come: of every rung at least the best goes on.
        """
        for number in range(len(self._rungs), 0, -1):
            candidate = self._rungs[self._ladder[number - 1]].promotable(int(no_more_candidates))
            if candidate is not None:
                return Promotion(candidate, number + 1, self._ladder[number])
        return None
