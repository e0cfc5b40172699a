"""The verb `studies`: list the studies that partialnas contains, print one, or copy it."""

from collections.abc import Iterator
from pathlib import Path

from partialnas.commands.terminal import (
    add_column,
    make_console,
    plain_table,
    print_files,
    print_lines,
    print_table,
)
from partialnas.runs.system.files import write_new_files
from partialnas.search.resolve.resolve import resolve_study
from partialnas.search.resolve.resolved_study import expected_trials
from partialnas.search.study.shipped import shipped_studies, shipped_study
from partialnas.search.study.study import Study
from partialnas.search.study.study_file import load_study


def list_studies() -> None:
    """Print a table of the studies that partialnas contains."""
    table = plain_table("", "name")
    for head, is_number in (("question", False), ("trials", True), ("quick", True)):
        add_column(table, head, numeric=is_number)
    for name, file in shipped_studies().items():
        study = load_study(file)
        quick = _trials(load_study(file, quick=True), file.parent) if study.quick else ""
        table.add_row(name, study.question, _trials(study, file.parent), quick)
    console = make_console()
    print_table(console, table)
    print_lines(
        console,
        "trials, and with --quick. `partialnas run NAME` runs a study, `partialnas studies NAME` "
        "prints its file, `partialnas studies NAME -o FILE` copies it.",
    )


def _trials(study: Study, base_dir: Path) -> str:
    """Return the number of trials of a study as text."""
    trials = expected_trials(resolve_study(study, base_dir))
    return "" if trials is None else f"{trials}"


def print_study(name: str) -> None:
    """Print the file of a study that partialnas contains.

    Raises:
        UserError: There is no such study.
    """
    print(shipped_study(name).read_text(encoding="utf-8"), end="")


def copy_study(name: str, file: Path) -> None:
    """Write a study that partialnas contains to a file, and beside it the function that it calls.

    Raises:
        UserError: There is no such study, or a file exists.
    """
    source = shipped_study(name)
    texts = {file: source.read_text(encoding="utf-8")}
    texts |= {file.parent / path.name: path.read_text("utf-8") for path in _function_files(source)}
    write_new_files(texts)
    print_files(make_console(), texts)


def _function_files(file: Path) -> Iterator[Path]:
    """Yield the module with the function of a study, if it lies beside its file."""
    function = load_study(file).trial
    if function is not None:
        module = file.with_name(f"{function.partition(':')[0]}.py")
        if module.is_file():
            yield module
