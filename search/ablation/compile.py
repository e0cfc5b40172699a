"""Compile the ablation of a study into the arms of a design and their networks."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from partialnas.runs.config.design import (
    MAX_ARMS,
    CostMatch,
    Design,
    DesignArm,
    ExcludedCombination,
    Factor,
)
from partialnas.runs.config.recipe import Recipe
from partialnas.search.ablation.designs import DESIGNS, DesignRow, design_matrix
from partialnas.search.study.ablation_spec import WITH, WITHOUT, AblationSpec
from partialnas.search.study.variant import Variant, level_label, override_plan
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan
from partialnas.space.arch.presets import preset_plan
from partialnas.space.errors import UserError
from partialnas.space.validation import first_messages, quote, suggest
from partialnas.space.values import digest, validate_as

Matcher = Callable[[Variant, Variant], tuple[Variant, CostMatch]]
"""Function that returns the twin of a variant with the cost of a second one, its baseline."""


_SEPARATOR = "\n  ablation: "
"""Separator of errors; the caller puts the path `ablation` before the first one."""


@dataclass(frozen=True)
class _Candidate:
    """A combination of levels with the variant that it makes."""

    row: DesignRow
    variant: Variant
    identity: str


def compile_ablation(
    spec: AblationSpec,
    base: Plan,
    recipe: Recipe,
    match: Matcher | None,
    recorded: Design | None = None,
) -> tuple[Design, dict[str, Architecture]]:
    """Return the design of an ablation and the networks of its arms by name.

    Args:
        spec: the study's ablation.
        base: the study's base.
        recipe: the study's recipe, which levels may change.
        match: finds cost-matched twins, or None to keep the arms as they are.
        recorded: the design in the ledger, if any; its twins are kept.

    Raises:
        UserError: the baseline, levels or design are invalid; the message lists every mistake.
    """
    baseline = _baseline(spec, base)
    factors = _factors(spec, baseline, recipe)
    by_name = {factor.name: factor for factor in factors}
    compiler = _Compiler(spec, baseline, by_name, recipe, match, recorded)
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
        return Variant(preset_plan(spec.baseline))
    except UserError as error:
        raise UserError(f"baseline: {error}") from None


def _factors(spec: AblationSpec, baseline: Variant, recipe: Recipe) -> tuple[Factor, ...]:
    problems: list[str] = []
    factors = []
    identity = _identity(baseline, recipe, "baseline")
    for name in spec.factors:
        try:
            factors.append(_factor(name, spec, baseline, identity, recipe))
        except UserError as error:
            problems.append(f"factors.{name}: {error}")
    levels = {factor.name: factor.levels for factor in factors}
    problems += [
        f"factors.{name}.when: unknown level {quote(label)} of {other}; "
        f"{suggest(label, levels[other])}"
        for name, factor in spec.factors.items()
        for other, labels in factor.when.items()
        for label in labels
        if other in levels and label not in levels[other]
    ]
    if problems:
        raise UserError(_SEPARATOR.join(first_messages(problems)))
    return tuple(factors)


def _factor(
    name: str, spec: AblationSpec, baseline: Variant, identity: str, recipe: Recipe
) -> Factor:
    """Return a factor with the baseline's level, which is added if it is not among the levels."""
    levels = spec.factors[name].values
    labels, same = tuple(levels), []
    for label, settings in levels.items():
        try:
            variant = baseline.with_settings(settings)
            if _identity(variant, recipe, label) == identity:
                same.append(label)
        except UserError as error:  # this level may be valid together with other factors' levels
            if len(levels) == 1:
                raise UserError(f"{label}: {error}") from None
    if DESIGNS[spec.design].has_ingredients and name not in spec.within and len(labels) == 2:
        return Factor(name=name, levels=labels, baseline=labels[0])
    if same or name in spec.within:
        return Factor(name=name, levels=labels, baseline=(same or labels)[0])
    label = WITHOUT if labels == (WITH,) else _baseline_label(name, baseline)
    if label in labels:
        label = "baseline"
    return Factor(name=name, levels=(label, *labels), baseline=label)


def _baseline_label(name: str, baseline: Variant) -> str:
    """Return the label of the baseline's level of a factor."""
    if name in Plan.model_fields:
        return level_label(name, getattr(baseline.plan, name))
    return "baseline"


def _identity(variant: Variant, recipe: Recipe, path: str) -> str:
    """Return a digest that is equal for variants that are trained alike."""
    try:
        network = variant.architecture()
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    changed = override_recipe(recipe, variant.recipe)
    training = changed.identity(has_learned_ratios=network.learned is not None)
    return digest([network.digest, training | {"epochs": changed.epochs}])


def override_recipe(recipe: Recipe, settings: Mapping[str, object]) -> Recipe:
    """Return a recipe with settings of an arm replaced.

    Raises:
        UserError: the settings are invalid.
    """
    if not settings:
        return recipe
    return validate_as(Recipe, {**recipe.model_dump(), **settings}, "invalid recipe")


@dataclass
class _Compiler:
    """Builds the arms of a design, stratum by stratum; see `compile_ablation`.

    Attributes:
        left_out: combinations without an arm, with reasons.
        aliases: alias structure of a fractional design.
    """

    spec: AblationSpec
    baseline: Variant
    factors: Mapping[str, Factor]
    recipe: Recipe
    match: Matcher | None
    recorded: Design | None
    left_out: list[ExcludedCombination] = field(default_factory=list)
    aliases: tuple[str, ...] = ()

    def arms(self) -> tuple[tuple[DesignArm, ...], dict[str, Architecture]]:
        """Return the arms in order, and their networks by name."""
        arms: list[DesignArm] = []
        networks: dict[str, Architecture] = {}
        within = self.spec.within
        free = [factor for name, factor in self.factors.items() if name not in within]
        matrix = design_matrix(self.spec.design, free, self.spec.resolution)
        self.aliases = matrix.aliases
        strata = math.prod(len(self.factors[name].levels) for name in within)
        if (count := strata * len(matrix.rows)) > MAX_ARMS:
            raise UserError(
                f"within: {strata:,} strata of {len(matrix.rows):,} arms are {count:,}, more than "
                f"{MAX_ARMS:,}: remove factors or levels"
            )
        for levels in itertools.product(*(self.factors[name].levels for name in within)):
            stratum = dict(zip(within, levels, strict=True))
            for arm, network in self._stratum(stratum, matrix.rows):
                arms.append(arm)
                networks[arm.name] = network.model_copy(update={"name": arm.name})
        return tuple(arms), networks

    def _stratum(
        self, stratum: dict[str, str], rows: Iterable[DesignRow]
    ) -> Iterator[tuple[DesignArm, Architecture]]:
        """Yield the arms of one stratum, its baseline first."""
        first, *rest = (self._in_stratum(stratum, row) for row in rows)
        reference = self._build(first)  # an invalid baseline is an error
        seen = {reference.identity: first.name}
        trained = dict(seen)
        levels, variant = first.levels, reference.variant
        arm = DesignArm(name=first.name, levels=levels, recipe=variant.recipe)
        yield arm, variant.architecture()
        for row in rest:
            candidate = self._new_candidate(row, seen)
            arm_and_network = self._arm(candidate, reference, trained) if candidate else None
            if arm_and_network is not None:
                yield arm_and_network

    def _in_stratum(self, stratum: Mapping[str, str], row: DesignRow) -> DesignRow:
        """Return a combination with the levels of its stratum, in the order of the factors."""
        head = "".join(f"{name}={level}, " for name, level in stratum.items())
        levels = {**stratum, **row.levels}
        return DesignRow(head + row.name, {name: levels[name] for name in self.factors})

    def _new_candidate(self, row: DesignRow, seen: dict[str, str]) -> _Candidate | None:
        """Return a combination, or None if it is invalid or repeats another one."""
        try:
            self._check_when(row)
            candidate = self._build(row)
            if (other := seen.setdefault(candidate.identity, row.name)) != row.name:
                raise UserError(f"builds and trains the same network as {other}")
        except UserError as error:
            self.left_out.append(ExcludedCombination(levels=row.levels, reason=str(error)))
            return None
        return candidate

    def _check_when(self, row: DesignRow) -> None:
        for name, level in row.levels.items():
            if level == self.factors[name].baseline:
                continue
            for other, labels in self.spec.factors[name].when.items():
                if row.levels[other] not in labels:
                    raise UserError(f"{name} varies only if {other} is {' or '.join(labels)}")

    def _build(self, row: DesignRow) -> _Candidate:
        variant = self.baseline
        for name, level in row.levels.items():
            factor = self.spec.factors[name]
            if level in factor.values:  # an added baseline level has no settings
                variant = variant.with_settings(factor.values[level])
        return _Candidate(row, variant, _identity(variant, self.recipe, row.name))

    def _arm(
        self, candidate: _Candidate, reference: _Candidate, trained: dict[str, str]
    ) -> tuple[DesignArm, Architecture] | None:
        """Return an arm and its network, or None if its twin is the network of another arm."""
        name, levels = candidate.row.name, candidate.row.levels
        variant, matched = candidate.variant, None
        if self.match is not None:
            variant, matched = self._twin(candidate, reference.variant, self.match)
        other = trained.setdefault(_identity(variant, self.recipe, name), name)
        if other != name:
            reason = f"at equal {self.spec.match} it is the same network as {other}"
            self.left_out.append(ExcludedCombination(levels=levels, reason=reason))
            return None
        base, recipe = reference.row.name, variant.recipe
        arm = DesignArm(name=name, levels=levels, against=base, recipe=recipe, matched=matched)
        return arm, variant.architecture()

    def _twin(
        self, candidate: _Candidate, reference: Variant, match: Matcher
    ) -> tuple[Variant, CostMatch]:
        """Return the twin of an arm: the recorded one, or a new one."""
        arm = self.recorded.arm(candidate.row.name) if self.recorded else None
        if arm is None or arm.matched is None:
            return match(candidate.variant, reference)
        width, ratio = arm.matched.width[1], arm.matched.mlp_ratio[1]
        plan = override_plan(candidate.variant.plan, {"width": width, "mlp_ratio": ratio})
        return candidate.variant.with_plan(plan), arm.matched


def _check_names(design: Design) -> None:
    """Check that the names of factors and levels give every arm a unique name.

    Raises:
        UserError: the message lists the duplicate names.
    """
    count = Counter(arm.name for arm in design.arms)
    if duplicates := [name for name, times in count.items() if times > 1]:
        raise UserError(f"duplicate arm name {' and '.join(duplicates)}: rename a factor or level")


def _check_factors(design: Design) -> None:
    """Check that arms differ in every factor.

    Raises:
        UserError: the message lists the factors without effect.
    """
    problems = [
        f"factors.{factor.name}: has no effect: "
        + ("; ".join(dict.fromkeys(_reasons(design, factor))) or "its only level is the baseline's")
        for factor in design.factors
        if factor.name not in design.within
        and len({arm.levels[factor.name] for arm in design.arms}) < 2
    ]
    if problems:
        raise UserError(_SEPARATOR.join(first_messages(problems)))


def _reasons(design: Design, factor: Factor) -> Iterator[str]:
    for combination in design.left_out:
        if combination.levels[factor.name] != factor.baseline:
            yield f"{combination.levels[factor.name]}: {combination.reason}"
