"""Samplers by name."""

from collections.abc import Callable, Mapping

from partialnas.search.resolve.resolved_study import ResolvedStudy
from partialnas.search.samplers.base import (
    ProposalSource,
)
from partialnas.search.samplers.evolution import AgingEvolution, FrontEvolution
from partialnas.search.samplers.optuna_sampler import _SAMPLERS, OptunaSource
from partialnas.search.samplers.surrogate_search import SurrogateSearch
from partialnas.search.study.sections import SearchSpec
from partialnas.search.study.study import Direction
from partialnas.space.search_space.space import Space


def make_source(prepared: ResolvedStudy) -> ProposalSource | None:
    """The source that a study searches with; None where it does not search."""
    study = prepared.study
    if study.search is None or prepared.space is None or prepared.stage is not None:
        return None
    make = _SOURCES[study.search.sampler]
    return make(prepared.space, study.search, study.objectives)


_SOURCES: dict[str, Callable[[Space, SearchSpec, Mapping[str, Direction]], ProposalSource]] = {
    **dict.fromkeys(_SAMPLERS, OptunaSource),
    "evolution": AgingEvolution,
    "front-evolution": FrontEvolution,
    "hybrid": SurrogateSearch,
}
