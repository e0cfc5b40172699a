"""Search spaces: sets of architectures given by a base, axes, conditions and constraints."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.plan import Plan
from partialnas.space.axes.axis import Level, evaluation_order
from partialnas.space.axes.choices import Choice, Point, choice_name
from partialnas.space.axes.decoder import Assignment, Decoder
from partialnas.space.axes.levels import Label
from partialnas.space.axes.spec import Base, SpaceSpec
from partialnas.space.errors import UserError
from partialnas.space.search_space.dynamic_programming import count_points
from partialnas.space.search_space.feasible import FeasibleSet
from partialnas.space.search_space.locate import locate
from partialnas.space.search_space.sampling import sample_feasible
from partialnas.space.search_space.size import SpaceSize, space_size
from partialnas.space.search_space.validate import space_errors
from partialnas.space.validation import first_messages, quote
from partialnas.space.values import Value, validate_as

if TYPE_CHECKING:
    from partialnas.space.search_space.sampling import Rng

INACTIVE = -1.0
"""Code of an inactive choice."""

_MAX_VARIATIONS = 32


class OptunaTrial(Protocol):
    """The part of an Optuna trial that `Space.suggest` uses."""

    def suggest_categorical(self, name: str, choices: Sequence[Any], /) -> Any:
        """Return one of the choices."""


class Space(FeasibleSet):
    """A set of architectures, given by a base plan, choices and constraints.

    A *choice* is one dimension: an axis at one scope, such as `ratio@stage2`. A *point* gives the
    label of each active choice. Every point builds one network; several points may build the same
    network.

    Args:
        base: plan with the settings that no axis varies.
        spec: axes and constraints.
        input_spec: shape of the images and number of classes, on which costs depend.

    Raises:
        UserError: The space is invalid; lists every error with its path.
    """

    def __init__(self, base: Plan, spec: SpaceSpec, input_spec: InputSpec) -> None:
        if errors := space_errors(base, spec, input_spec):
            raise UserError("not a valid space:\n  " + "\n  ".join(first_messages(errors)))
        axes = [axis.to_axis(name) for name, axis in spec.axes.items()]
        self.base = base
        self.spec = spec
        super().__init__(Decoder(base, evaluation_order(axes)), spec.constraints, input_spec)

    @classmethod
    def from_data(cls, data: Mapping[str, Any], input_spec: InputSpec) -> "Space":
        """Read a space from plain data with the keys `base` and `space`.

        Raises:
            UserError: The space is invalid; lists every error with its path.
        """
        document = validate_as(_Document, data, "not a valid space")
        return cls(document.base, document.space, input_spec)

    def architecture(self, point: Mapping[str, Label]) -> Architecture:
        """Return the architecture of a point.

        Raises:
            UserError: Not a point of this space, or a block cannot be built.
        """
        return self.decoder.architecture(self._chosen(point))

    def point(self, settings: Mapping[str, Any]) -> Point:
        """Return the point with these settings, given by choice, or by axis for all its choices.

        A setting is a label or a value. Other choices have the base's value; inactive choices are
        left out. The point may violate the constraints; see `contains`.

        Raises:
            UserError: Unknown choice or level, or the base's value is not among the levels.
        """
        return _point(self._chosen(settings, from_base=True))

    def _chosen(self, settings: Mapping[str, Any], *, from_base: bool = False) -> Assignment:
        names = self.decoder.axes.keys() | {choice.name for choice in self.choices}
        if unknown := [name for name in settings if name not in names]:
            raise UserError(f"the space has no choice named {', '.join(unknown)}")

        def pick(choice: Choice, _: Assignment) -> Level:
            for name in (choice.name, choice.axis.name):
                if name in settings:
                    return _level(choice, settings[name])
            level = self.decoder.base_level(*choice) if from_base else None
            if level is None:
                raise UserError(f"{choice.name}: missing, expected one of {_labels(choice)}")
            return level

        return self.choice_tree.walk(pick)

    def sample(self, rng: "Rng") -> Point:
        """Return a random point, with uniformly drawn levels as far as the space allows.

        Blocks that cannot be built are drawn again. If the constraints allow few networks, a random
        point is moved towards them.

        Raises:
            UserError: No point satisfies the constraints; the message gives the nearest cost.
        """
        return _point(sample_feasible(self, rng))

    def infeasibility_reason(self, point: Mapping[str, Label]) -> str | None:
        """Return why a point is not in the space, or None if it is."""
        try:
            chosen = self._chosen(point)
            total = self.cost(self.decoder.architecture(chosen))
        except UserError as error:
            return str(error)
        if extra := [name for name in point if name not in _point(chosen)]:
            return f"inactive choices: {', '.join(extra)}"
        return "; ".join(self.constraints.violations(total)) or None

    def contains(self, item: Architecture | Mapping[str, Label]) -> bool:
        """Return whether an architecture or a point is in the space."""
        if isinstance(item, Architecture):
            return self.locate(item) is not None
        return self.infeasibility_reason(item) is None

    def locate(self, architecture: Architecture) -> Point | None:
        """Return a point that builds exactly this network, or None if there is none."""
        chosen = locate(self.decoder, architecture)
        if chosen is None or not self.satisfies(architecture):
            return None
        return _point(self.choice_tree.walk(lambda choice, _: chosen[choice.key]))

    def _vary(
        self, chosen: Assignment, choice: Choice, level: Level
    ) -> tuple[Assignment, Architecture] | None:
        variations = self.choice_tree.variations(chosen, choice, level)
        for variation in islice(variations, _MAX_VARIATIONS):
            architecture = self.feasible_architecture(variation)
            if architecture is not None:
                return variation, architecture
        return None

    def neighbors(self, point: Mapping[str, Label], rng: "Rng | None" = None) -> Iterator[Point]:
        """Yield the points one change away that build different networks.

        In the order of the choices, or in random order if a generator is given.
        """
        chosen = self._chosen(point)
        seen = {self.decoder.architecture(chosen).digest}
        alternatives = list(self._alternatives(chosen))
        if rng is not None:
            rng.shuffle(alternatives)
        for choice, level in alternatives:
            variation = self._vary(chosen, choice, level)
            if variation is not None and variation[1].digest not in seen:
                seen.add(variation[1].digest)
                yield _point(variation[0])

    def _alternatives(self, chosen: Assignment) -> Iterator[tuple[Choice, Level]]:
        for choice in self.choices:
            current = chosen.get(choice.key)
            for level in choice.axis.levels if current else ():
                if level != current:
                    yield choice, level

    def size(self) -> SpaceSize:
        """Return the number of points, and of distinct networks if these are few."""
        return space_size(self)

    def enumerate(self, limit: int = 10_000) -> tuple[Point, ...]:
        """Return one point for each distinct network of the space.

        Raises:
            UserError: The space has more than `limit` combinations.
        """
        counted = count_points(self.decoder, 10 * limit)
        if counted is None or counted[1] > limit:
            raise UserError(f"too large to enumerate (limit {limit:,}): {self.size()}")
        points: dict[str, Point] = {}
        for chosen in self.choice_tree.enumerate_assignments(lambda choice, _: choice.axis.levels):
            architecture = self.feasible_architecture(chosen)
            if architecture is not None:
                points.setdefault(architecture.digest, _point(chosen))
        return tuple(points.values())

    def encode(self, point: Mapping[str, Label]) -> tuple[float, ...]:
        """Return the index of each choice's level, counted from 0; -1 for inactive choices."""
        chosen = self._chosen(point)
        levels = [(choice.axis.levels, chosen.get(choice.key)) for choice in self.choices]
        return tuple(
            INACTIVE if level is None else float(options.index(level)) for options, level in levels
        )

    def decode(self, code: Sequence[float]) -> Point:
        """Return the point with the encoding nearest to `code`, level by level."""
        positions = dict(zip((choice.key for choice in self.choices), code, strict=True))

        def pick(choice: Choice, _: Assignment) -> Level:
            last = len(choice.axis.levels) - 1
            return choice.axis.levels[min(max(round(positions[choice.key]), 0), last)]

        return _point(self.choice_tree.walk(pick))

    def suggest(self, trial: OptunaTrial) -> Point:
        """Return the point that an Optuna trial suggests; only active choices are suggested.

        The point may be infeasible; see `infeasibility_reason`.
        """

        def pick(choice: Choice, _: Assignment) -> Level:
            return _level(choice, trial.suggest_categorical(choice.name, choice.labels))

        return _point(self.choice_tree.walk(pick))

    def optuna_params(self, item: Architecture | Mapping[str, Label]) -> dict[str, Label]:
        """Return the parameters for Optuna's `enqueue_trial` of an architecture or point.

        Raises:
            UserError: The architecture is not in the space.
        """
        point = self.locate(item) if isinstance(item, Architecture) else item
        if point is None:
            raise UserError("the architecture is not in the space")
        return dict(point)


class _Document(Value):
    base: Base = Plan()
    space: SpaceSpec = SpaceSpec()


def _point(chosen: Assignment) -> Point:
    return Point({choice_name(*key): level.label for key, level in chosen.items()})


def _level(choice: Choice, raw: object) -> Level:
    level = choice.axis.find_level(raw)
    if level is None:
        raise UserError(f"{choice.name}: expected one of {_labels(choice)}, got {quote(raw)}")
    return level


def _labels(choice: Choice) -> str:
    return ", ".join(map(str, choice.labels))
