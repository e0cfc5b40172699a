"""Run the command line in processes forked from one that has imported the libraries already.

Torch and timm take four seconds of CPU time to import, which a test of ten commands would spend
ten times. Each command still has a process of its own: its current folder, variables, signal
handlers and random states are not those of another. Tests of how a process starts, or of what
happens to one from outside, start real processes instead.
"""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

_LIBRARIES = [
    "torch",
    "timm",
    "pandas",
    "matplotlib.pyplot",
    "partialnas.analysis.report.report",
    "partialnas.runs.measure.measure",
    "partialnas.runs.trials.trial",
    "partialnas.search.check.check_study",
    "partialnas.search.session.run_study",
]
BRIEF = (
    *("--quick", "--out", "results/quickstart", "--set", "executor.kind=in-process"),
    *("--set", "recipe.data_share=1/10", "--set", "measure.max_seconds=0.2"),
)
"""Options that make `run quickstart` end in seconds."""

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(_LIBRARIES)
_TIMEOUT_S = 240.0


def run_verb(
    arguments: Sequence[str], cwd: Path, environment: Mapping[str, str] | None = None
) -> "CompletedProcess[str]":
    """Run `python -m partialnas` with these arguments in a folder.

    Args:
        arguments: verb and its arguments.
        cwd: current folder of the process.
        environment: its environment variables; those of this process by default.
    """
    return _run(_run_command_line, arguments, cwd, environment)


def run_code(code: str, cwd: Path) -> "CompletedProcess[str]":
    """Run `python -c` with this code in a folder."""
    return _run(_run_program, [code], cwd, None)


def _run(
    target: Callable[[Sequence[str]], None],
    arguments: Sequence[str],
    cwd: Path,
    environment: Mapping[str, str] | None,
) -> "CompletedProcess[str]":
    variables = dict(os.environ if environment is None else environment)
    with tempfile.TemporaryDirectory(prefix="forked-") as name:
        streams = Path(name, "output"), Path(name, "errors")
        process = _CONTEXT.Process(
            target=_child, args=(target, [*arguments], cwd, variables, streams)
        )
        process.start()
        process.join(_TIMEOUT_S)
        if process.exitcode is None:
            process.kill()
            raise TimeoutExpired([*arguments], _TIMEOUT_S, *(s.read_bytes() for s in streams))
        output, errors = (path.read_text(encoding="utf-8") for path in streams)
    return CompletedProcess([*arguments], process.exitcode, output, errors)


def _child(
    target: Callable[[Sequence[str]], None],
    arguments: Sequence[str],
    cwd: Path,
    environment: dict[str, str],
    streams: tuple[Path, Path],
) -> None:
    """Make this process look as if it had been started anew, and run the target."""
    for number, path in enumerate((os.devnull, *streams)):
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(file, number)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = ["", *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    target(arguments)


def _run_command_line(arguments: Sequence[str]) -> None:
    from partialnas.__main__ import main

    sys.argv = ["partialnas", *arguments]
    main()


def _run_program(arguments: Sequence[str]) -> None:
    exec(arguments[0], {"__name__": "__main__"})
