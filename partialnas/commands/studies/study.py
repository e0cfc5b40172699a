"""The verbs `run`, `check` and `merge`; `partialnas.run` and `partialnas.check`."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from partialnas.search.check.study_check import StudyCheck
    from partialnas.search.study.study import Study
    from partialnas.search.study.study_data import Overrides

    StudySource = str | Path | Mapping[str, Any] | Study


def run(
    study: "StudySource",
    out: str | Path | None = None,
    *,
    quick: bool = False,
    overrides: "Overrides" = (),
    plugins: Sequence[str] = (),
    address: str | None = None,
    rehearse: bool = False,
    accept_source: bool = False,
    retry_failed: bool = False,
) -> Path:
    """Run a study, or resume it, and return the folder of its results.

    Calling it again with the same arguments resumes an interrupted study: no trial runs twice.

    Args:
        study: path of a YAML file, name of a study that partialnas contains (`quickstart`),
            content of a file as plain data, or a `Study`. Relative paths in a study start from the
            folder of its file, otherwise from the current folder.
        out: folder of the results; by default `results/STUDY`, with `-quick` or `-rehearsal`
            appended where they apply.
        quick: whether to apply the settings under `quick:`.
        overrides: settings that replace those of the study, by dotted key
            (`{"budget.trials": 40}`) or as `KEY=VALUE`.
        plugins: modules to import in addition to those that the study names.
        address: address of a Ray cluster to join.
        rehearse: whether to do a dry run with simulated results, which trains nothing.
        accept_source: whether to continue although the source of the study's function has changed.
        retry_failed: whether to run failed trials again.

    Raises:
        UserError: the study is invalid, the folder holds another study, or the source of the
            study's function has changed.
        MachineError: the disk or the device fails.
    """
    from partialnas.commands.terminal import make_console, print_lines
    from partialnas.search.session.run_study import rehearse_study, run_study
    from partialnas.search.study.study_fields import QUICK_NOTE
    from partialnas.search.study.study_file import load_source

    loaded = load_source(study, quick=quick, overrides=overrides, plugins=plugins)
    if quick and not loaded.quick:
        print_lines(make_console(stderr=True), f"note: {QUICK_NOTE}")
    folder = Path(out or default_folder(loaded.study, quick=quick, rehearsal=rehearse))
    if rehearse:
        rehearse_study(loaded, folder, base_dir=loaded.base_dir)
    else:
        run_study(
            loaded, folder, base_dir=loaded.base_dir, address=address,
            accept_source=accept_source, retry_failed=retry_failed,
        )  # fmt: skip
    return folder


def print_next_steps(folder: Path) -> None:
    """Print the commands that show the results of a study."""
    from partialnas.commands.terminal import make_console, print_lines
    from partialnas.runs.ledger.ledger import Ledger

    with Ledger.open(folder) as ledger:
        verbs = ("pareto", "report") if ledger.study.is_search else ("table", "effects", "report")
        if ledger.study.frozen.get("trial"):
            verbs = (*verbs, "figure curves")
    commands = (f"partialnas {verb} {shlex.quote(str(folder))}" for verb in verbs)
    print_lines(make_console(), f"next: {' · '.join(commands)}")


def default_folder(name: str, *, quick: bool, rehearsal: bool = False) -> Path:
    """Return the folder of a study's results if none is given."""
    return Path("results") / (name + "-quick" * quick + "-rehearsal" * rehearsal)


def check(
    study: "StudySource",
    *,
    quick: bool = False,
    overrides: "Overrides" = (),
    plugins: Sequence[str] = (),
    pilot: int = 0,
    show: Callable[[str], None] = print,
) -> "StudyCheck":
    """Validate a study, count its trials and estimate its time; run nothing.

    Returns the numbers that it prints.

    Args:
        study: path of a YAML file, name of a study that partialnas contains, content of a file as
            plain data, or a `Study`.
        quick: whether to apply the settings under `quick:`.
        overrides: settings that replace those of the study, by dotted key or as `KEY=VALUE`.
        plugins: modules to import in addition to those that the study names.
        pilot: number of seeds with which to train the first arm, to estimate the deviation
            between seeds; 0 for none.
        show: function that receives each line of the report.

    Raises:
        UserError: the study is invalid; the message lists every mistake.
        MachineError: the study's device is not available.
    """
    from partialnas.search.check.check_study import check_study
    from partialnas.search.study.study_file import load_source

    loaded = load_source(study, quick=quick, overrides=overrides, plugins=plugins)
    return check_study(loaded, base_dir=loaded.base_dir, show=show, pilot=pilot, quick=quick)


def merge(folders: Sequence[Path], out: Path) -> None:
    """Merge the ledgers of one study into a new folder, and print a summary."""
    from partialnas.commands.terminal import make_console, print_lines
    from partialnas.search.followup.merge_studies import merge_studies

    merged = merge_studies(folders, out)
    finished = sum(row.is_final for row in merged.trials.values())
    print_lines(
        make_console(),
        *(f"note: {remark}" for remark in merged.remarks),
        f"{out}: {len(merged.trials)} trials ({finished} finished), {len(merged.proposals)} "
        f"proposals and {len(merged.measurements)} measurements from {len(folders)} folders",
    )
