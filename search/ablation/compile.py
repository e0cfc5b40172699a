"""The design compiler: an ablation as a study states it becomes arms that can be trained."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from partialnas.runs.config.design import CostMatch, Design, DesignArm, ExcludedCombination, Factor
from partialnas.runs.config.recipe import Recipe
from partialnas.search.ablation.designs import DesignRow, design_matrix
from partialnas.search.study.ablation_spec import (
    INGREDIENT_DESIGNS,
    WITH,
    WITHOUT,
    AblationSpec,
    FactorSpec,
)
from partialnas.search.study.variant import Variant, level_label, override_plan
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan
from partialnas.space.arch.presets import PRESETS, preset_plan
from partialnas.space.errors import UserError
from partialnas.space.values import digest, validate_as

Matcher = Callable[[Variant, Variant], tuple[Variant, CostMatch]]
"""Finds the twin of a variant that costs what another, its baseline, costs."""


_JOIN = "\n  ablation: "
"""Between two mistakes; the first is told with its path by whoever asked."""


@dataclass(frozen=True)
class _Built:
    """A combination of levels that makes a network."""

    row: DesignRow
    variant: Variant
    identity: str


def compile_ablation(
    spec: AblationSpec,
    base: Plan,
    recipe: Recipe,
    match: Matcher | None,
    known: Design | None = None,
) -> tuple[Design, dict[str, Architecture]]:
    """The design of an ablation, and the networks of its arms by their names.

    Args:
        spec: what the study says of it.
        base: the study's base.
        recipe: the study's recipe, which levels may change.
        match: finds twins; None where arms stay as the factors make them.
        known: the design as the ledger has it, whose twins stay as they were found.

    Raises:
        UserError: baseline, levels or design make no sense; names every mistake.
    """
    baseline = _baseline(spec, base)
    factors = _factors(spec, baseline, recipe)
    compiler = _Compiler(spec, baseline, factors, recipe, match, known)
    arms, networks = compiler.arms()
    design = Design(
        kind=spec.design,
        factors=factors,
        arms=arms,
        left_out=tuple(compiler.left_out),
        match=spec.match,
        tolerance=spec.effective_tolerance,
        within=spec.within,
        aliases=compiler.aliases,
        margin=spec.margin,
    )
    _check_names(design)
    _check_factors(design)
    return design, networks


def _baseline(spec: AblationSpec, base: Plan) -> Variant:
    try:
        if not isinstance(spec.baseline, str):
            return Variant(base).with_settings(spec.baseline)
        if spec.baseline not in PRESETS:
            raise UserError(f"no preset {spec.baseline!r}; there are {', '.join(PRESETS)}")
        return Variant(preset_plan(spec.baseline))
    except UserError as error:
        raise UserError(f"baseline: {error}") from None


def _factors(spec: AblationSpec, baseline: Variant, recipe: Recipe) -> tuple[Factor, ...]:
    problems: list[str] = []
    found = []
    own = _identity(baseline, recipe, "baseline")
    for name, factor in spec.factors.items():
        try:
            found.append(_factor(name, factor, baseline, own, recipe, spec))
        except UserError as error:
            problems.append(f"factors.{name}: {error}")
    levels = {factor.name: factor.levels for factor in found}
    problems += [
        f"factors.{name}.when: {other} has no level {label}; there are {', '.join(levels[other])}"
        for name, factor in spec.factors.items()
        for other, labels in factor.when.items()
        for label in labels
        if other in levels and label not in levels[other]
    ]
    if problems:
        raise UserError(_JOIN.join(problems))
    return tuple(found)


def _factor(
    name: str, factor: FactorSpec, baseline: Variant, own: str, recipe: Recipe, spec: AblationSpec
) -> Factor:
    """A factor with the level that the baseline has, found among its levels or put before them."""
    labels = tuple(factor.values)
    same = []
    for label, settings in factor.values.items():
        try:
            variant = baseline.with_settings(settings)
            if _identity(variant, recipe, label) == own:
                same.append(label)
        except UserError as error:  # a level may fit with others only
            if len(factor.values) == 1:
                raise UserError(f"{label}: {error}") from None
    if spec.design in INGREDIENT_DESIGNS and name not in spec.within and len(labels) == 2:
        return Factor(name=name, levels=labels, baseline=labels[0])
    if same or name in spec.within:
        return Factor(name=name, levels=labels, baseline=(same or labels)[0])
    label = WITHOUT if labels == (WITH,) else _label_of(name, baseline)
    if label in labels:
        label = "baseline"
    return Factor(name=name, levels=(label, *labels), baseline=label)


def _label_of(name: str, baseline: Variant) -> str:
    """What the baseline's own level of a factor is called."""
    if name in Plan.model_fields:
        return level_label(name, getattr(baseline.plan, name))
    return "baseline"


def _identity(variant: Variant, recipe: Recipe, at: str) -> str:
    """What is equal where two variants are trained alike."""
    try:
        network = variant.architecture()
    except UserError as error:
        raise UserError(f"{at}: {error}") from None
    how = override_recipe(recipe, variant.recipe)
    told = how.identity(has_learned_ratios=network.learned is not None) | {"epochs": how.epochs}
    return digest([network.digest, told])


def override_recipe(recipe: Recipe, settings: Mapping[str, object]) -> Recipe:
    """A recipe with the settings of an arm in the place of its own.

    Raises:
        UserError: no recipe has such settings.
    """
    if not settings:
        return recipe
    return validate_as(Recipe, {**recipe.model_dump(), **settings}, "no recipe")


class _Compiler:
    """Goes through the combinations of a design, each stratum from its own baseline."""

    def __init__(
        self,
        spec: AblationSpec,
        baseline: Variant,
        factors: tuple[Factor, ...],
        recipe: Recipe,
        match: Matcher | None,
        known: Design | None,
    ) -> None:
        self._spec, self._baseline, self._recipe = spec, baseline, recipe
        self._factors = {factor.name: factor for factor in factors}
        self._match, self._known = match, known
        self.left_out: list[ExcludedCombination] = []
        self.aliases: tuple[str, ...] = ()

    def arms(self) -> tuple[tuple[DesignArm, ...], dict[str, Architecture]]:
        """The arms in order, and what they train."""
        arms: list[DesignArm] = []
        networks: dict[str, Architecture] = {}
        for stratum in self._strata():
            for arm, network in self._stratum(stratum):
                arms.append(arm)
                networks[arm.name] = network.model_copy(update={"name": arm.name})
        return tuple(arms), networks

    def _strata(self) -> Iterator[dict[str, str]]:
        within = [self._factors[name] for name in self._spec.within]
        for levels in itertools.product(*(factor.levels for factor in within)):
            yield dict(zip(self._spec.within, levels, strict=True))

    def _stratum(self, stratum: dict[str, str]) -> Iterator[tuple[DesignArm, Architecture]]:
        """The arms of one level of the factors that others are compared within."""
        free = [f for name, f in self._factors.items() if name not in stratum]
        plan = design_matrix(self._spec.design, free, self._spec.resolution)
        self.aliases = plan.aliases
        head = "".join(f"{name}={level}, " for name, level in stratum.items())
        first, *rest = (
            DesignRow(f"{head}{row.name}", self._in_order(stratum | row.levels))
            for row in plan.rows
        )
        reference = self._built(first)  # without it there is nothing to compare with
        seen = {reference.identity: first.name}
        trained = dict(seen)
        levels, variant = first.levels, reference.variant
        arm = DesignArm(name=first.name, levels=levels, recipe=variant.recipe)
        yield arm, variant.architecture()
        for row in rest:
            built = self._sensible(row, seen)
            arm_and_network = self._arm(built, reference, trained) if built else None
            if arm_and_network is not None:
                yield arm_and_network

    def _in_order(self, levels: Mapping[str, str]) -> dict[str, str]:
        return {name: levels[name] for name in self._factors}

    def _sensible(self, row: DesignRow, seen: dict[str, str]) -> _Built | None:
        """A combination, unless it makes no sense or what it makes is there already."""
        try:
            self._check_when(row)
            built = self._built(row)
        except UserError as error:
            self.left_out.append(ExcludedCombination(levels=row.levels, reason=str(error)))
            return None
        other = seen.setdefault(built.identity, row.name)
        if other != row.name:
            reason = f"builds and trains the same network as {other}"
            self.left_out.append(ExcludedCombination(levels=row.levels, reason=reason))
            return None
        return built

    def _check_when(self, row: DesignRow) -> None:
        for name, level in row.levels.items():
            if level == self._factors[name].baseline:
                continue
            for other, labels in self._spec.factors[name].when.items():
                if row.levels[other] not in labels:
                    raise UserError(f"{name} varies only where {other} is {' or '.join(labels)}")

    def _built(self, row: DesignRow) -> _Built:
        variant = self._baseline
        for name, level in row.levels.items():
            factor = self._spec.factors[name]
            if level in factor.values:  # the baseline's own level changes nothing
                variant = variant.with_settings(factor.values[level])
        return _Built(row, variant, _identity(variant, self._recipe, row.name))

    def _arm(
        self, built: _Built, reference: _Built, trained: dict[str, str]
    ) -> tuple[DesignArm, Architecture] | None:
        """An arm and its network; none where its twin is another arm's network."""
        name, levels = built.row.name, built.row.levels
        variant, matched = built.variant, None
        if self._match is not None:
            variant, matched = self._twin(built, reference.variant, self._match)
        other = trained.setdefault(_identity(variant, self._recipe, name), name)
        if other != name:
            reason = f"at equal {self._spec.match} it is the same network as {other}"
            self.left_out.append(ExcludedCombination(levels=levels, reason=reason))
            return None
        against = reference.row.name
        arm = DesignArm(
            name=name, levels=levels, against=against, recipe=variant.recipe, matched=matched
        )
        return arm, variant.architecture()

    def _twin(self, built: _Built, reference: Variant, match: Matcher) -> tuple[Variant, CostMatch]:
        """The twin of an arm: as the ledger has it, or found now."""
        known = self._known.arm(built.row.name) if self._known else None
        if known is None or known.matched is None:
            return match(built.variant, reference)
        width, ratio = known.matched.width[1], known.matched.mlp_ratio[1]
        plan = override_plan(built.variant.plan, {"width": width, "mlp_ratio": ratio})
        return built.variant.with_plan(plan), known.matched


def _check_names(design: Design) -> None:
    """Refuses arms that are called alike, which names of factors and levels can bring about.

    Raises:
        UserError: names each of them.
    """
    count = Counter(arm.name for arm in design.arms)
    if twice := [name for name, times in count.items() if times > 1]:
        raise UserError(f"two arms are called {' and '.join(twice)}: rename a factor or a level")


def _check_factors(design: Design) -> None:
    """Refuses factors that no arm differs in.

    Raises:
        UserError: names each of them.
    """
    idle = [
        f"factors.{factor.name}: changes nothing: "
        + ("; ".join(dict.fromkeys(_reasons(design, factor))) or "its one level is the baseline's")
        for factor in design.factors
        if factor.name not in design.within
        and len({arm.levels[factor.name] for arm in design.arms}) < 2
    ]
    if idle:
        raise UserError(_JOIN.join(idle))


def _reasons(design: Design, factor: Factor) -> Iterator[str]:
    for each in design.left_out:
        if each.levels[factor.name] != factor.baseline:
            yield f"{each.levels[factor.name]}: {each.reason}"
