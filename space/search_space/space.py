"""Spaces: sets of architectures, given by a base, axes, conditions and constraints."""

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
from partialnas.space.values import Value, validate_as

if TYPE_CHECKING:
    from partialnas.space.search_space.sampling import Rng

INACTIVE = -1.0
"""What an encoding has in the place of a choice that is not active."""

_WAYS = 32


class OptunaTrial(Protocol):
    """What `suggest` needs of an Optuna trial."""

    def suggest_categorical(self, name: str, choices: Sequence[Any], /) -> Any:
        """One of the choices."""


class Space(FeasibleSet):
    """A set of architectures: those that the choices on its axes build, within its constraints.

    A *choice* is one dimension (an axis at one scope, such as `ratio@stage2`); a *point* names
    what is chosen, for the active choices only. Every point builds one network; several points
    may build the same one.

    Args:
        base: the plan whose settings hold where no axis says otherwise.
        spec: axes and constraints.
        input_spec: shape of the images and number of classes, on which costs depend.

    Attributes:
        constrained: whether more is asked of a network than that each of its blocks can be built.

    Raises:
        UserError: with every mistake and its path.
    """

    def __init__(self, base: Plan, spec: SpaceSpec, input_spec: InputSpec) -> None:
        if faults := space_errors(base, spec, input_spec):
            raise UserError("not a space:\n  " + "\n  ".join(faults))
        axes = [axis.to_axis(name) for name, axis in spec.axes.items()]
        self.base = base
        self.spec = spec
        super().__init__(Decoder(base, evaluation_order(axes)), spec.constraints, input_spec)

    @classmethod
    def from_data(cls, data: Mapping[str, Any], input_spec: InputSpec) -> "Space":
        """Return the space that plain data with the keys `base` and `space` describe.

        Raises:
            UserError: with every mistake and its path.
        """
        both = validate_as(_Document, data, "not a space")
        return cls(both.base, both.space, input_spec)

    def architecture(self, point: Mapping[str, Label]) -> Architecture:
        """The architecture that a point builds.

        Raises:
            UserError: not a point of this space's choices, or a block that cannot be built.
        """
        return self.decoder.architecture(self._chosen(point))

    def point(self, settings: Mapping[str, Any]) -> Point:
        """The point of these settings: by choice, or by axis for all of its choices.

        A setting is a label or a value. What is not set is the base's; what is not active is
        left out. Whether the point is in the space is for `contains` to say.

        Raises:
            UserError: an unknown choice or level, or the base's value is none of the levels.
        """
        return _point(self._chosen(settings, from_base=True))

    def _chosen(self, settings: Mapping[str, Any], *, from_base: bool = False) -> Assignment:
        known = self.decoder.axes.keys() | {choice.name for choice in self.choices}
        if unknown := [name for name in settings if name not in known]:
            raise UserError(f"the space has no choice {', '.join(unknown)}")

        def pick(choice: Choice, _: Assignment) -> Level:
            for name in (choice.name, choice.axis.name):
                if name in settings:
                    return _level(choice, settings[name])
            level = self.decoder.base_level(*choice) if from_base else None
            if level is None:
                raise UserError(f"{choice.name}: missing, expected one of {_known(choice)}")
            return level

        return self.choice_tree.walk(pick)

    def sample(self, rng: "Rng") -> Point:
        """A random point, each level of each choice equally likely as far as the space allows.

        Blocks that cannot be built are drawn again. Where the constraints admit few networks, a
        point is drawn at random and then moved towards them.

        Raises:
            UserError: nothing satisfies the constraints; tells the nearest value reached.
        """
        return _point(sample_feasible(self, rng))

    def infeasibility_reason(self, point: Mapping[str, Label]) -> str | None:
        """Why a point is not in the space; None if it is."""
        try:
            chosen = self._chosen(point)
            spent = self.cost(self.decoder.architecture(chosen))
        except UserError as error:
            return str(error)
        if extra := [name for name in point if name not in _point(chosen)]:
            return f"not active: {', '.join(extra)}"
        return "; ".join(self.constraints.violations(spent)) or None

    def contains(self, item: Architecture | Mapping[str, Label]) -> bool:
        """Whether an architecture can be built by a point of the space, or a point is in it."""
        if isinstance(item, Architecture):
            return self.locate(item) is not None
        return self.infeasibility_reason(item) is None

    def locate(self, architecture: Architecture) -> Point | None:
        """A point that builds exactly this network; None if the space does not hold it."""
        chosen = locate(self.decoder, architecture)
        if chosen is None or not self.satisfies(architecture):
            return None
        return _point(self.choice_tree.walk(lambda choice, _: chosen[choice.key]))

    def with_choice(self, point: Mapping[str, Label], choice: str, label: Label) -> Point | None:
        """The point with one choice made differently; None if that leaves the space.

        Choices that become active by it take the level of the block before, or else the base's,
        or else the first, as long as that leads to a point of the space.

        Raises:
            UserError: the choice is not active, or has no such level.
        """
        chosen = self._chosen(point)
        changed = next((c for c in self.choices if c.name == choice and c.key in chosen), None)
        if changed is None:
            raise UserError(f"the point has no choice {choice}, or it is not active")
        near = self._changed(chosen, changed, _level(changed, label))
        return None if near is None else _point(near[0])

    def _changed(
        self, chosen: Assignment, choice: Choice, level: Level
    ) -> tuple[Assignment, Architecture] | None:
        for near in islice(self.choice_tree.variations(chosen, choice, level), _WAYS):
            architecture = self.feasible_architecture(near)
            if architecture is not None:
                return near, architecture
        return None

    def neighbors(self, point: Mapping[str, Label], rng: "Rng | None" = None) -> Iterator[Point]:
        """The points of the space that are one change away, each another network, as asked for.

        In the order of the choices, or in random order where a generator is given.
        """
        chosen = self._chosen(point)
        seen = {self.decoder.architecture(chosen).digest}
        alternatives = list(self._alternatives(chosen))
        if rng is not None:
            rng.shuffle(alternatives)
        for choice, level in alternatives:
            near = self._changed(chosen, choice, level)
            if near is not None and near[1].digest not in seen:
                seen.add(near[1].digest)
                yield _point(near[0])

    def _alternatives(self, chosen: Assignment) -> Iterator[tuple[Choice, Level]]:
        for choice in self.choices:
            current = chosen.get(choice.key)
            for level in choice.axis.levels if current else ():
                if level != current:
                    yield choice, level

    def size(self) -> SpaceSize:
        """How many points the space has, and how many distinct networks where these are few."""
        return space_size(self)

    def enumerate(self, limit: int = 10_000) -> tuple[Point, ...]:
        """One point for each distinct network of the space.

        Raises:
            UserError: more than `limit` combinations would have to be tried.
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
        """Per choice the position of its level, counted from 0; -1 where it is not active."""
        chosen = self._chosen(point)
        levels = [(choice.axis.levels, chosen.get(choice.key)) for choice in self.choices]
        return tuple(INACTIVE if one is None else float(of.index(one)) for of, one in levels)

    def decode(self, code: Sequence[float]) -> Point:
        """The point whose encoding is nearest to `code`, level by level."""
        positions = dict(zip((choice.key for choice in self.choices), code, strict=True))

        def pick(choice: Choice, _: Assignment) -> Level:
            last = len(choice.axis.levels) - 1
            return choice.axis.levels[min(max(round(positions[choice.key]), 0), last)]

        return _point(self.choice_tree.walk(pick))

    def suggest(self, trial: OptunaTrial) -> Point:
        """The point that an Optuna trial suggests, asked for its active choices only.

        It may be one that cannot be built or violates the constraints: see `refusal`.
        """
        return _point(
            self.choice_tree.walk(
                lambda choice, _: _level(
                    choice, trial.suggest_categorical(choice.name, choice.labels)
                )
            )
        )

    def optuna_params(self, item: Architecture | Mapping[str, Label]) -> dict[str, Label]:
        """The parameters with which Optuna's `enqueue_trial` proposes an architecture or point.

        Raises:
            UserError: the space does not hold it.
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
        raise UserError(f"{choice.name}: expected one of {_known(choice)}, got {raw!r}")
    return level


def _known(choice: Choice) -> str:
    return ", ".join(map(str, choice.labels))
