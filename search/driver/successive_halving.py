"""Asynchronous successive halving (ASHA) in which every rung is a complete training."""

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass

from partialnas.search.driver.candidate import Candidate
from partialnas.search.resolve.resolved_study import ResolvedStudy
from partialnas.search.samplers.evolution import Rankable, rank_and_crowding, to_losses
from partialnas.search.study.fidelity import Condition


@dataclass(frozen=True)
class Promotion:
    """A network to train on the next rung.

    Attributes:
        candidate: the network's candidate on the lower rung.
        rung: number of the next rung, from 1 for the lowest.
        condition: how the network is trained there.
    """

    candidate: Candidate
    rung: int
    condition: Condition


class _Rung:
    """The candidates that have ended on one rung below the last.

    Args:
        resolved: a study with a search.
        above: conditions of the rungs above; an arm may be on the last one already.
        candidates: keys of the study's candidates on all rungs, read again at every call.
    """

    def __init__(
        self,
        resolved: ResolvedStudy,
        above: Sequence[Condition],
        candidates: Container[tuple[Condition, str]],
    ) -> None:
        assert resolved.study.search is not None, "only a search has rungs"
        self._study = resolved.study
        self._share = resolved.study.search.promote
        self._above, self._candidates = above, candidates
        self._ended: dict[str, Candidate] = {}
        self._ranking: list[str] | None = None
        self._promoted: set[str] = set()

    def add(self, candidate: Candidate) -> None:
        """Add a candidate that has ended, or failed."""
        self._ended[candidate.digest] = candidate
        self._ranking = None

    def rank_again(self) -> None:
        """Forget the ranking, because a measurement has changed values or limits."""
        self._ranking = None

    def promotable(self, at_least: int) -> Candidate | None:
        """Return the best candidate to promote, or None if there is none.

        Args:
            at_least: minimum number of candidates to promote from this rung.
        """
        quota = max(math.floor(self._share * len(self._ended)), at_least)
        if self._ranking is None:
            self._ranking = self._rank()
        remaining = (digest for digest in self._ranking[:quota] if not self._is_promoted(digest))
        return self._ended.get(next(remaining, ""))

    def _is_promoted(self, digest: str) -> bool:
        if digest in self._promoted:
            return True
        if any((condition, digest) in self._candidates for condition in self._above):
            self._promoted.add(digest)
        return digest in self._promoted

    def _rank(self) -> list[str]:
        """Return the digests of all candidates that have not failed, best first.

        They are ranked by non-domination, then by crowding distance, then by age. Candidates that
        violate a limit come last, by their violation.
        """
        objectives, limits = self._study.objectives, self._study.limits
        points = {}
        for digest, candidate in self._ended.items():
            if (values := candidate.objective_values(objectives, limits)) is not None:
                number, losses = min(candidate.requested.values()), to_losses(values, objectives)
                points[digest] = Rankable(number, losses, values)
        places = rank_and_crowding(sorted(points.values(), key=lambda point: point.number))
        return sorted(points, key=lambda d: (places[points[d].number], points[d].number))


class SuccessiveHalving:
    """Decide which candidate is promoted next.

    From the highest rung down, the candidate is the best one within the stated share of those that
    have ended on a rung, among those not promoted yet (asynchronous successive halving, Li et al.
    2020). No rung has to be complete. A failed candidate counts among those that have ended, and
    is never promoted.

    Args:
        resolved: the study.
        candidates: keys of the study's candidates on all rungs, read again at every call.
    """

    def __init__(
        self, resolved: ResolvedStudy, candidates: Container[tuple[Condition, str]]
    ) -> None:
        self._conditions = resolved.all_rungs
        self._rungs = {
            condition: _Rung(resolved, self._conditions[number:], candidates)
            for number, condition in enumerate(resolved.rungs, start=1)
        }

    def report(self, candidate: Candidate) -> None:
        """Note that a candidate has ended on its rung."""
        if (rung := self._rungs.get(candidate.condition)) is not None:
            rung.add(candidate)

    def rank_again(self) -> None:
        """Rank all rungs again, because a measurement has changed values or limits."""
        for rung in self._rungs.values():
            rung.rank_again()

    def next_promotion(self, *, no_more_candidates: bool = False) -> Promotion | None:
        """Return the next promotion, or None if no candidate qualifies.

        Args:
            no_more_candidates: whether no more candidates will come; then at least the best one of
                every rung is promoted.
        """
        for number in range(len(self._rungs), 0, -1):
            rung = self._rungs[self._conditions[number - 1]]
            if (candidate := rung.promotable(int(no_more_candidates))) is not None:
                return Promotion(candidate, number + 1, self._conditions[number])
        return None
