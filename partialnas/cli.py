"""The command line: the verbs, and how errors are told."""

import os
import sys
import traceback
from typing import Annotated, Any

import typer

from partialnas.search.session.signals import Terminated
from partialnas.space.errors import MachineError, UserError
from partialnas.verbs import analysis, network, study

app = typer.Typer(
    name="partialnas",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Neural architecture search and ablations for partial-channel networks (PartialNet).",
    epilog="Exit codes: 0 done, 1 a failure of the machine, 2 a mistake in what was asked, "
    "130 interrupted (Ctrl-C), 143 ended by SIGTERM, 75 by SIGUSR1. Every finished trial is kept, "
    "whatever happens, and the same command carries on.",
)

_INTERRUPTED = 130


@app.callback()
def _common(
    _debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    """Options before the verb."""


for verb in (
    study.run,
    study.check,
    study.confirm,
    study.audit,
    study.merge,
    study.status,
    study.dashboard,
    network.describe,
    network.measure,
    network.remeasure,
    network.flops,
    analysis.pareto,
    analysis.figure,
    analysis.table,
    analysis.effects,
    analysis.verify,
    analysis.ratios,
    analysis.export,
    analysis.report,
    network.export_model,
):
    app.command()(verb)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; turns errors into one message and an exit code."""
    sys.exit(_exit_code(sys.argv[1:] if arguments is None else arguments))


def _exit_code(arguments: list[str]) -> int:
    try:
        code = int(app(arguments, prog_name="partialnas", standalone_mode=False) or 0)
        if code == _INTERRUPTED:  # Ctrl-C, as typer tells it
            raise KeyboardInterrupt
        return code
    except typer.TyperException as error:  # a word of the command line that does not fit
        return _shown(error)
    except UserError as error:
        return _told(f"error: {error}", arguments, 2)
    except MachineError as error:
        return _told(f"error: {error}", arguments, 1)
    except (KeyboardInterrupt, typer.Abort) as error:
        if isinstance(error.__cause__, EOFError):  # typer takes a file's sudden end for Ctrl-D
            return _defect(error.__cause__, arguments)
        return _told("interrupted; all that was finished is kept", arguments, _INTERRUPTED)
    except Terminated as end:
        told = f"ended by {end}; all that was finished is kept, and the same command carries on"
        return _told(told, arguments, end.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return _defect(error, arguments)


def _defect(error: BaseException, arguments: list[str]) -> int:
    text = f"error: {type(error).__name__}: {error}\n"
    hint = "This is a defect of partialnas; --debug before the verb shows where it happened."
    return _told(text + hint, arguments, 1)


def _shown(error: Any) -> int:
    error.show()
    return int(error.exit_code)


def _told(text: str, arguments: list[str], code: int) -> int:
    if "--debug" in arguments:
        traceback.print_exc()
    print(text, file=sys.stderr)
    return code
