"""What the check of a study has found out, as a value."""

from dataclasses import dataclass

from partialnas.runs.config.design import Design
from partialnas.search.check.compute_estimate import ComputeEstimate
from partialnas.search.check.time_estimate import TrialTimeEstimate
from partialnas.search.study.study import Study
from partialnas.space.search_space.size import SpaceSize


@dataclass(frozen=True, kw_only=True, repr=False)
class StudyCheck:
    """What a study will do. A study with mistakes has none: they are raised as one `UserError`.

    Attributes:
        study: the validated study.
        lines: the report, as `partialnas check` prints it.
        notes: remarks, such as settings without effect and arms that build one network.
        trials: number of trials, or None if only a budget of hours limits them.
        seeds: number of seeds of each network; with a seed rule, of the first ones.
        space_size: size of the space, or None without one.
        design: compiled ablation with its arms, their levels and twins, or None without one.
        device: device that trials run on.
        workers: number of trials in parallel.
        trial_seconds: time of a trial, or None if a user function replaces training.
        compute: hours of the study, or None if they cannot be estimated.
        deviation: standard deviation of the deciding quantity between seeds, as the study states it
            or pilots estimated it, or None.
        detectable: smallest difference that the seeds detect with 80 % probability, in standard
            deviations between seeds; None if nothing is compared.
    """

    study: Study
    lines: tuple[str, ...]
    notes: tuple[str, ...]
    trials: int | None
    seeds: int
    space_size: SpaceSize | None
    design: Design | None
    device: str
    workers: int
    trial_seconds: TrialTimeEstimate | None
    compute: ComputeEstimate | None
    deviation: float | None
    detectable: float | None

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def __repr__(self) -> str:
        trials = "trials limited by hours" if self.trials is None else f"{self.trials} trials"
        return f"<StudyCheck of {self.study.study}: {trials}, {len(self.notes)} notes>"
