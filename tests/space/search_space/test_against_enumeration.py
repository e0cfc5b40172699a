"""Small random spaces compared with an enumeration that shares no code with them.

The enumeration takes the plain product of all levels at all scopes, determines what is active by
separate code, and builds each network through the settings of its blocks.
"""

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from functools import cache
from itertools import islice, product
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from partialnas.space.arch.architecture import Architecture, Block, Stage
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.parts import Part
from partialnas.space.arch.plan import BlockSettings, Plan
from partialnas.space.axes.spec import SpaceSpec
from partialnas.space.errors import UserError
from partialnas.space.search_space.dynamic_programming import count_points
from partialnas.space.search_space.space import Space

CYCLE = ("conv", "attention", "pool", "identity")
RANKS = {"network": 0, "stage": 1, "block": 2}
MAX_COMBINATIONS = 100

OPTIONS: dict[str, list[tuple[str, list[Any]]]] = {
    "activation": [("network", ["gelu", "relu"])],
    "stem_stride": [("network", [1, 2])],
    "width": [("network", [4, 6]), ("stage", [5, 8])],
    "depths": [("network", [[1, 1, 1, 1], [2, 1, 1, 1]])],
    "depth": [("stage", [1, 2])],
    "parts": [("network", [1, 2, 3]), ("stage", [1, 2]), ("block", [1, 3])],
    "ratio": [("network", ["1/8", "1/4", "3/4"]), ("stage", ["1/4", "1/2"])],
    "ratio_2": [("network", ["1/4", "1/2"]), ("stage", ["1/8", "1/2"])],
    "operation_1": [("network", ["conv", "self"])],
    "operation_2": [("network", ["pool", "identity", "attention"]), ("stage", ["pool", "self"])],
    "operation_3": [("network", ["pool", "conv"])],
    "operations": [("network", [["conv", "attention"], ["identity", "pool", "conv"]])],
    "attention": [
        ("network", ["none", {"self": "stage 4"}, {"channel": "stages 1-3"}]),
        ("stage", ["none", "self"]),
    ],
    "heads": [("network", [1, 3]), ("stage", [1, 2]), ("block", [1, 5])],
    "mlp_ratio": [("network", ["1/8", 1]), ("block", [1, 2])],
    "pat_sp": [("network", [False, True, "stages 1-2"]), ("block", [False, True])],
}
BASES = [
    Plan(width=4, depths=(1, 1, 1, 1)),
    Plan(width=6, depths=(2, 1, 1, 1), parts=3, ratio=("1/4", "1/4"), heads=2),
    Plan(width=8, depths=(1, 1, 1, 1), parts=1, attention="self", stem_stride=2),
    Plan(width=4, depths=(1, 2, 1, 1), operations=("conv", "identity"), attention="channel"),
]


class Enumeration:
    """All combinations of the levels of `axes` around `base`, with their networks."""

    def __init__(self, base: Plan, axes: dict[str, Any]) -> None:
        self.base, self.axes = base, axes
        self.keys = [
            (name, scope) for name, axis in axes.items() for scope in self.scopes(axis["per"])
        ]

    def __repr__(self) -> str:
        return f"{self.base!r} {self.axes!r}"

    def scopes(self, per: str) -> list[tuple[int, ...]]:
        deepest = [2 if self.axes.keys() & {"depth", "depths"} else d for d in self.base.depths]
        if per == "block":
            return [(stage, block) for stage in range(4) for block in range(deepest[stage])]
        return [()] if per == "network" else [(stage,) for stage in range(4)]

    def combinations(self) -> Iterator[dict[Any, int]]:
        levels = (range(len(self.axes[name]["values"])) for name, _ in self.keys)
        for combination in product(*levels):
            yield dict(zip(self.keys, combination, strict=True))

    def canonical(self) -> dict[frozenset[Any], Architecture | None]:
        """Return the network, or None if it cannot be built, by the active levels."""
        enumerated: dict[frozenset[Any], Architecture | None] = {}
        for combination in self.combinations():
            combined = Combination(self, combination)
            active = frozenset(
                (key, combination[key]) for key in self.keys if combined.active(*key)
            )
            if active not in enumerated:
                enumerated[active] = combined.architecture()
        return enumerated


class Combination:
    """One combination of levels: which are active, and the network that it builds."""

    def __init__(self, enumeration: Enumeration, combination: dict[Any, int]) -> None:
        self.axes, self.base, self.combination = enumeration.axes, enumeration.base, combination
        self.active = cache(self.active)  # type: ignore[method-assign]

    def chosen(self, name: str, scope: tuple[int, ...]) -> Any:
        """Return the value chosen for an axis at a scope as a list of one, empty if inactive."""
        if name not in self.axes:
            return []
        scope = scope[: RANKS[self.axes[name]["per"]]]
        return (
            [self.axes[name]["values"][self.combination[name, scope]]]
            if self.active(name, scope)
            else []
        )

    def active(self, name: str, scope: tuple[int, ...]) -> bool:
        for other, listed in self.axes[name].get("when", {}).items():
            if not any(value in listed for value in self.chosen(other, scope)):
                return False
        if len(scope) == 2 and scope[1] >= self.depth(scope[0]):
            return False
        if name in ("attention", "heads") or name.startswith(("ratio", "operation_")):
            positions = [(s, b) for s in range(4) for b in range(self.depth(s))]
            return any(self.used(name, p) for p in positions if p[: len(scope)] == scope)
        return True

    def used(self, name: str, position: tuple[int, int]) -> bool:
        parts = self.setting("parts", position)
        if name.startswith("ratio"):
            return bool(parts > int(name[6:] or 1))
        if name.startswith("operation_"):
            return bool(parts >= int(name[10:]))
        operations = self.operations(position)[:parts]
        if name == "attention":
            return "attention" in operations
        mixed = self.setting("attention", position) if "attention" in operations else ""
        return "self" in (*operations, mixed)

    def depth(self, stage: int) -> int:
        for value in self.chosen("depths", (stage,)):
            return int(value[stage])
        return next(iter(self.chosen("depth", (stage,))), self.base.depths[stage])

    def setting(self, name: str, position: tuple[int, int]) -> Any:
        stage = position[0]
        per_network = name in self.axes and self.axes[name]["per"] == "network"
        for value in self.chosen(name, position):
            if name == "width" and per_network:
                return value * 2**stage
            if name in ("attention", "pat_sp") and per_network:
                return getattr(Plan(**{name: value}), name)[stage]
            return value
        if name == "width":
            return self.base.widths[stage]
        value = getattr(self.base, name)
        return value[stage] if name in ("attention", "pat_sp") else value

    def operations(self, position: tuple[int, int]) -> tuple[str, ...]:
        stated = list(self.setting("operations", position) or CYCLE * 2)
        for number in range(1, 4):
            for value in self.chosen(f"operation_{number}", position):
                stated = [*stated[: number - 1], value, *stated[number:]]
        return tuple(stated)

    def shares(self, position: tuple[int, int]) -> tuple[Fraction, ...]:
        first = [Fraction(value) for value in self.chosen("ratio", position)] or self.base.ratio[:1]
        second = [Fraction(value) for value in self.chosen("ratio_2", position)] or self.base.ratio[
            1:
        ]
        return (*first, *second)

    def architecture(self) -> Architecture | None:
        network = {n: self.setting(n, (0, 0)) for n in ("stem_stride", "activation")}
        try:
            return Architecture(stages=tuple(self.stage(s) for s in range(4)), **network)
        except ValueError:
            return None

    def stage(self, stage: int) -> Stage:
        blocks = []
        for position in [(stage, block) for block in range(self.depth(stage))]:
            plain = {n: self.setting(n, position) for n in ("parts", "attention", "heads")}
            plain |= {n: self.setting(n, position) for n in ("mlp_ratio", "pat_sp")}
            shares, operations = self.shares(position), self.operations(position)
            blocks.append(BlockSettings(**plain, ratio=shares, operations=operations).block())
        return Stage(width=self.setting("width", (stage, 0)), blocks=tuple(blocks))


@st.composite
def small_spaces(draw: st.DrawFn) -> tuple[Space, Enumeration]:
    base, axes = draw(st.sampled_from(BASES)), dict[str, Any]()
    for name in draw(st.lists(st.sampled_from(sorted(OPTIONS)), max_size=6, unique=True)):
        per, values = draw(st.sampled_from(OPTIONS[name]))
        axes[name] = {"values": values, "per": per}
        if (
            len(list(islice(Enumeration(base, axes).combinations(), MAX_COMBINATIONS + 1)))
            > MAX_COMBINATIONS
        ):
            del axes[name]
    if len(axes) > 1 and draw(st.booleans()):
        name, other = draw(st.permutations(sorted(axes)))[:2]
        listed = draw(st.lists(st.sampled_from(axes[other]["values"]), min_size=1, max_size=2))
        axes[name]["when"] = {other: listed}
    try:
        return Space(base, SpaceSpec(axes=axes), InputSpec.square(32)), Enumeration(base, axes)
    except (UserError, ValueError):  # circular conditions, two axes for one setting
        assume(False)
        raise


def point_of(space: Space, active: frozenset[Any]) -> dict[str, Any]:
    """Return active levels of the enumeration as plain data of a point."""
    point = {}
    for (name, scope), index in active:
        position = ".".join(f"{k}{n + 1}" for k, n in zip(("stage", "block"), scope, strict=False))
        point[f"{name}@{position}" if position else name] = space.decoder.axes[name].labels[index]
    return point


def check_sets(space: Space, enumerated: dict[frozenset[Any], Architecture | None]) -> None:
    built = {active: one for active, one in enumerated.items() if one is not None}
    digests = {one.digest for one in built.values()}
    assert count_points(space.decoder, 10**6) == (len(built), len(enumerated))
    size = space.size()
    assert (size.points, size.combinations, size.networks) == (
        len(built),
        len(enumerated),
        len(digests),
    )
    listed = [space.architecture(point).digest for point in space.enumerate()]
    assert len(listed) == len(set(listed))
    assert set(listed) == digests


def check_points(space: Space, enumerated: dict[frozenset[Any], Architecture | None]) -> None:
    for active, architecture in islice(enumerated.items(), 40):
        point = point_of(space, active)
        assert space.contains(point) == (architecture is not None)
        assert dict(space.decode(space.encode(point))) == point
        if architecture is not None:
            assert space.architecture(point).digest == architecture.digest
            located = space.locate(architecture)
            assert located is not None
            assert space.architecture(located).digest == architecture.digest


def check_variations(space: Space, enumerated: dict[frozenset[Any], Architecture | None]) -> None:
    """Check that networks that differ in one setting are in the space if they are enumerated."""
    built = [one for one in enumerated.values() if one is not None]
    digests = {one.digest for one in built}
    for architecture in built[:3]:
        for changed in variations(architecture):
            assert space.contains(changed) == (changed.digest in digests)


def variations(architecture: Architecture) -> Iterator[Architecture]:
    network = {"stem_stride": architecture.stem_stride}
    yield Architecture(**network, activation="silu", stages=architecture.stages)
    for index, stage in enumerate(architecture.stages):
        last = stage.blocks[-1]
        pooled = tuple(Part(op="pool", ratio=part.ratio) for part in last.parts)
        for changed in (
            Block(parts=last.parts, mlp_ratio=last.mlp_ratio, pat_sp=not last.pat_sp),
            Block(parts=last.parts, mlp_ratio=last.mlp_ratio * 2, pat_sp=last.pat_sp),
            Block(parts=last.parts[-1:], mlp_ratio=last.mlp_ratio, pat_sp=last.pat_sp),
            Block(parts=pooled, mlp_ratio=last.mlp_ratio, pat_sp=last.pat_sp),
        ):
            with suppress(ValueError):
                other = Stage(width=stage.width, blocks=(*stage.blocks[:-1], changed))
                stages = (*architecture.stages[:index], other, *architecture.stages[index + 1 :])
                yield Architecture(**network, activation=architecture.activation, stages=stages)


def check_neighbors(space: Space, enumerated: dict[frozenset[Any], Architecture | None]) -> None:
    built = {active: one for active, one in enumerated.items() if one is not None}
    by_name = {frozenset(point_of(space, active).items()): one for active, one in built.items()}
    for active, architecture in islice(built.items(), 3):
        origin = dict(active)
        expected = []
        for key, index in active:
            for other in range(len(space.decoder.axes[key[0]].levels)):
                neighbors = (
                    {o.digest for o in networks_one_change_away(built, origin, key, other)}
                    if other != index
                    else set()
                )
                expected += [neighbors] if neighbors and neighbors != {architecture.digest} else []
        digests = set()
        for point in space.neighbors(point_of(space, active)):
            digests.add(by_name[frozenset(point.items())].digest)
        assert architecture.digest not in digests
        assert all(
            digests & neighbors or architecture.digest in neighbors for neighbors in expected
        )
        assert digests <= set().union(*expected)


def networks_one_change_away(
    built: dict[Any, Any], origin: dict[Any, int], key: Any, level: int
) -> list[Any]:
    """Return the networks with this level at one key and equal levels where both are active."""
    return [
        one
        for active, one in built.items()
        if (key, level) in active and all(origin.get(k, v) == v or k == key for k, v in active)
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(small_spaces())
def test_spaces_match_their_enumeration(case: tuple[Space, Enumeration]) -> None:
    space, enumeration = case
    enumerated = enumeration.canonical()
    check_sets(space, enumerated)
    check_points(space, enumerated)
    check_variations(space, enumerated)
    check_neighbors(space, enumerated)
