"""The verbs `run`, `check` and `merge`; `partialnas.run` and `partialnas.check`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from partialnas.search.study.study import Study

    StudySource = str | Path | Mapping[str, Any] | Study

STUDY_FILE = "study.yaml"
"""Name of the study file that `run` writes beside the ledger."""


def run(
    study: "StudySource",
    out: str | Path | None = None,
    *,
    quick: bool = False,
    overrides: Sequence[str] = (),
    plugins: Sequence[str] = (),
    address: str | None = None,
    rehearse: bool = False,
    accept_source: bool = False,
    retry_failed: bool = False,
) -> Path:
    """Run a study, or resume it, and return the folder of its results.

    Calling it again with the same arguments resumes an interrupted study: no trial runs twice.

    Args:
        study: path of a YAML file, its content as plain data, or a `Study`. Relative paths in a
            study start from the folder of its file, otherwise from the current folder.
        out: folder of the results; by default `results/STUDY`, with `-quick` or `-rehearsal`
            appended where they apply.
        quick: whether to apply the settings under `quick:`.
        overrides: `KEY=VALUE` settings that replace those of the study, such as `budget.trials=40`.
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
    from partialnas.search.session.run_study import rehearse_study, run_study

    loaded, base_dir = _load(study, quick, overrides, plugins)
    folder = Path(out or default_folder(loaded.study, quick=quick, rehearsal=rehearse))
    if rehearse:
        rehearse_study(loaded, folder, base_dir=base_dir)
    else:
        run_study(
            loaded, folder, base_dir=base_dir, address=address, accept_source=accept_source,
            retry_failed=retry_failed,
        )  # fmt: skip
    return folder


def default_folder(name: str, *, quick: bool, rehearsal: bool = False) -> Path:
    """Return the folder of a study's results if none is given."""
    return Path("results") / (name + "-quick" * quick + "-rehearsal" * rehearsal)


def check(
    study: "StudySource",
    *,
    quick: bool = False,
    overrides: Sequence[str] = (),
    plugins: Sequence[str] = (),
    pilot: int = 0,
    show: Callable[[str], None] = print,
) -> None:
    """Validate a study, count its trials and estimate its time; run nothing.

    Args:
        study: path of a YAML file, its content as plain data, or a `Study`.
        quick: whether to apply the settings under `quick:`.
        overrides: `KEY=VALUE` settings that replace those of the study.
        plugins: modules to import in addition to those that the study names.
        pilot: number of seeds with which to train the first arm, to estimate the deviation
            between seeds; 0 for none.
        show: function that receives each line of the report.

    Raises:
        UserError: the study is invalid; the message lists every mistake.
        MachineError: the study's device is not available.
    """
    from partialnas.search.check.check_study import check_study

    loaded, base_dir = _load(study, quick, overrides, plugins)
    check_study(loaded, base_dir=base_dir, show=show, pilot=pilot)


def _load(
    study: "StudySource", quick: bool, overrides: Sequence[str], plugins: Sequence[str]
) -> "tuple[Study, Path]":
    """Return a validated study, and the folder that its relative paths start from."""
    from partialnas.search.study.study import Study
    from partialnas.search.study.study_file import load_study

    base_dir = _base_dir(Path(study)) if isinstance(study, str | Path) else None
    if isinstance(study, Study):
        if not (quick or overrides or plugins):
            return study, Path()
        study = study.frozen()
    options: dict[str, Any] = {"quick": quick, "overrides": overrides, "plugins": plugins}
    return load_study(study, **options, base_dir=base_dir), base_dir or Path()


def _base_dir(file: Path) -> Path:
    """Return the folder that relative paths of a study file start from.

    The file that `run` wrote beside a ledger has the paths of the original study file.
    """
    from partialnas.search.session.open_ledger import recorded_base_dir

    recorded = recorded_base_dir(file.parent) if file.name == STUDY_FILE else None
    return recorded or file.parent


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
