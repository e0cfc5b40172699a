"""Prepared studies: everything that a study names, resolved (see `search.prepare`)."""

from dataclasses import dataclass, replace

from partialnas.runs.config.design import Design, StudyStage
from partialnas.runs.config.overrides import PlainData
from partialnas.runs.records.subject import Subject, subject_digest
from partialnas.search.ablation.compile import override_recipe
from partialnas.search.ablation.control_arms import ControlArm
from partialnas.search.study.condition import Condition
from partialnas.search.study.study import Study
from partialnas.space.arch.plan import Plan
from partialnas.space.search_space.space import Space


@dataclass(frozen=True)
class ResolvedStudy:
    """A study whose names have been resolved.

    Attributes:
        study: the study.
        conditions: under each of which every arm is trained and timed; at least one.
        base: the plan that arms and axes start from.
        space: what the search varies; None for a list of arms alone.
        arms: named subjects, in the study's order, those of its ablation first.
        design: the ablation that was compiled into arms, if there is one.
        rungs: how a search trains networks first, from cheap to dear, before it trains the best of
            them as the study says.
        stage: the later stage that is run, in the place of the study itself.
        controls: arms that follow from what others have learned, by name.
        reference: what throughput is relative to.
    """

    study: Study
    conditions: tuple[Condition, ...]
    base: Plan
    space: Space | None
    arms: dict[str, Subject]
    controls: dict[str, ControlArm]
    reference: Subject
    design: Design | None = None
    stage: StudyStage | None = None
    rungs: tuple[Condition, ...] = ()

    @property
    def all_rungs(self) -> tuple[Condition, ...]:
        """All rungs of a search, the last one included; one alone where it has no others."""
        return (*self.rungs, self.conditions[0])

    @property
    def contrasts(self) -> tuple[tuple[str, str], ...]:
        """What tables compare: an ablation's arms with their baselines, or all with the first."""
        if self.design is not None:
            return self.design.contrasts
        everyone = [*self.arms, *self.controls]  # none in a search alone
        return tuple((arm, everyone[0]) for arm in everyone[1:])

    def recipe_overrides(self, arm: str) -> PlainData:
        """The settings of the recipe that an arm has in the study's place.

        An arm that follows from another is trained as that one is.
        """
        origin = self.controls[arm].origin if arm in self.controls else arm
        own = self.design.arm(origin) if self.design else None
        return own.recipe if own else {}

    def arm_condition(self, arm: str, condition: Condition) -> Condition:
        """How an arm is trained and timed under a condition."""
        recipe = override_recipe(condition.recipe, self.recipe_overrides(arm))
        return replace(condition, recipe=recipe)


def expected_trials(prepared: ResolvedStudy) -> int | None:
    """How many trials a study will have; None where only hours bound it.

    A searched network is trained with all its seeds or not at all; where seeds are added by rule,
    the trials of the first of them. A training on any rung is a trial.
    """
    study = prepared.study
    arms, seeds = count_arm_trials(prepared), study.first_seeds
    if study.search is None:
        return arms
    budget = study.budget.trials
    if budget is None or prepared.rungs:
        return budget
    return arms + (budget - arms) // seeds * seeds


def count_arm_trials(prepared: ResolvedStudy) -> int:
    """Trials of arms with their first seeds; what several arms train alike is trained once."""
    trained = {
        (subject_digest(subject), prepared.arm_condition(name, condition))
        for name, subject in prepared.arms.items()
        for condition in prepared.conditions
    }
    following = len(prepared.controls) * len(prepared.conditions)
    return (len(trained) + following) * prepared.study.first_seeds


def duplicate_arm_messages(prepared: ResolvedStudy) -> list[str]:
    """Arms that build the same network as another, one line each."""
    first: dict[tuple[str, Condition], str] = {}
    lines = []
    for name, arm in prepared.arms.items():
        trained = prepared.arm_condition(name, prepared.conditions[0])
        other = first.setdefault((subject_digest(arm), trained), name)
        if other != name:
            lines.append(f"arms.{name} builds the same network as arms.{other}: trained once")
    return lines


def unmatched_arm_messages(prepared: ResolvedStudy) -> list[str]:
    """Arms for which no twin of equal cost was found, one line each."""
    arms = prepared.design.arms if prepared.design else ()
    return [
        f"{arm.name} cannot be matched: {arm.matched.problem}"
        for arm in arms
        if arm.matched and arm.matched.problem
    ]
