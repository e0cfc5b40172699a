"""The table of samplers: how each is created, and what a study needs to know of it.

Study validation reads this table, so nothing heavy is imported until a sampler is created.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

from partialnas.runs.config.quantities import Direction
from partialnas.search.samplers.base import ProposalSource
from partialnas.space.search_space.space import Space

SamplerFactory = Callable[[Space, Any, Mapping[str, Direction]], ProposalSource]
"""Creates a sampler from the space, the study's `search` section and its objectives."""


@dataclass(frozen=True)
class SamplerEntry:
    """A registered sampler.

    Attributes:
        factory: creates the sampler; or `module:name` of a factory to import when it is needed.
        uses_results: whether proposals depend on the results of earlier trials.
        options: settings of `search` that the sampler uses in addition to `seed`.
        initial: number of networks whose results it awaits before it uses any; at most the
            population, if it has one, and None for just that.
    """

    factory: SamplerFactory | str
    uses_results: bool = True
    options: tuple[str, ...] = ()
    initial: int | None = None

    def initial_networks(self, population: int) -> int:
        """Return how many networks are proposed without regard to results, in a search in turn."""
        if not self.uses_results:
            return 0
        bounds = [] if self.initial is None else [self.initial]
        return min([*bounds, *([population] if "population" in self.options else [])], default=0)

    def create(
        self, space: Space, settings: Any, objectives: Mapping[str, Direction]
    ) -> ProposalSource:
        """Create the sampler of a study."""
        factory = resolve_name(self.factory) if isinstance(self.factory, str) else self.factory
        source: ProposalSource = factory(space, settings, objectives)
        return source


SAMPLERS: dict[str, SamplerEntry] = {}
"""Samplers by the name that studies use; see `register_sampler`."""


def register_sampler(
    name: str,
    factory: SamplerFactory | str,
    *,
    uses_results: bool = True,
    options: tuple[str, ...] = (),
    initial: int | None = None,
) -> None:
    """Add a sampler that studies can name as `search.sampler`.

    Args:
        name: name of the sampler in studies.
        factory: see `SamplerEntry`.
        uses_results: see `SamplerEntry`.
        options: see `SamplerEntry`.
        initial: see `SamplerEntry`.

    Raises:
        ValueError: a sampler of this name is registered already.
    """
    if name in SAMPLERS:
        raise ValueError(f"a sampler named {name!r} is registered already; choose another name")
    SAMPLERS[name] = SamplerEntry(factory, uses_results, options, initial)


_HERE = "partialnas.search.samplers"
_EVOLUTION = f"{_HERE}.evolution"
_OPTUNA = f"{_HERE}.optuna_sampler:OptunaSource"

register_sampler(
    "hybrid", f"{_HERE}.surrogate_search:SurrogateSearch", options=("population",), initial=10
)
register_sampler("random", _OPTUNA, uses_results=False)
register_sampler("quasi-random", _OPTUNA, uses_results=False)
register_sampler("tpe", _OPTUNA, initial=10)
register_sampler("nsga2", _OPTUNA, options=("population",))
register_sampler("gp", _OPTUNA, initial=10)
register_sampler("evolution", f"{_EVOLUTION}:AgingEvolution", options=("population", "tournament"))
register_sampler("front-evolution", f"{_EVOLUTION}:FrontEvolution", options=("population",))
