"""The command line: its verbs, and the message and exit code of each error."""

import re
import signal
import sys
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

from partialnas.search.session.signals import EXIT_CODES, raise_on_signals, stop_message
from partialnas.space.errors import MachineError, UserError, is_too_long, printable_message
from partialnas.space.plugins import explain_import_error
from partialnas.streams import discard_output
from partialnas.verbs import analysis, network, prepare, study

app = typer.Typer(
    name="partialnas",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Neural architecture search and ablations for partial-channel networks (PartialNet).",
    epilog="Exit codes: 0 success, 1 failure of the machine, 2 user error, 130 interrupted "
    "(Ctrl-C), 143 ended by SIGTERM, 129 by SIGHUP, 75 by SIGUSR1. Finished trials are always "
    "kept; run the same command again to resume.",
)

_INTERRUPTED = 130
_NOT_A_CHOICE = re.compile(r"'([^']*)' is not one of (.*)")
"""typer's message about an option with fixed values: the value, and the values as a list."""

_PYDANTIC_PREFIX = "Value error, "
"""Words of pydantic, with which typer reads arguments."""

_QUOTED = re.compile(r"'([^']*)'")

_PANELS = {
    "First steps": (
        *(prepare.studies, prepare.new, prepare.data),
        *(study.check, study.run, study.status),
    ),
    "Tables and figures": (
        *(analysis.pareto, analysis.table, analysis.effects, analysis.figure, analysis.ratios),
        *(analysis.report, analysis.export, analysis.verify),
    ),
    "Follow-up of a study": (study.confirm, study.audit, network.remeasure, network.export_model),
    "Networks": (network.describe, network.measure, network.flops),
    "Folders of studies": (study.dashboard, study.merge, study.restore, study.clean),
}
"""The verbs by panel of `partialnas --help`; what a user needs first is on top."""


class _Verb(TyperCommand):
    """A verb that refuses options stated twice, of which only the last would count."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; see `TyperCommand`.

        Raises:
            UserError: An option that takes one value is stated several times.
        """
        if ctx.resilient_parsing:  # shell completion
            return super().parse_args(ctx, args)
        _, _, parameters = self.make_parser(ctx).parse_args([*args])
        for parameter in dict.fromkeys(parameters):
            takes_value = isinstance(parameter, TyperOption) and not parameter.is_flag
            if takes_value and not parameter.multiple and parameters.count(parameter) > 1:
                raise UserError(
                    f"{parameter.opts[-1]} is stated {parameters.count(parameter)} times, but "
                    f"`partialnas {self.name}` takes one value for it; state it once"
                )
        return super().parse_args(ctx, args)


for panel, verbs in _PANELS.items():
    for verb in verbs:
        app.command(cls=_Verb, rich_help_panel=panel)(verb)


def _show_version(wanted: bool) -> None:
    if wanted:
        from partialnas.runs.system.environment import __version__

        typer.echo(f"partialnas {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
    _debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error.")
    ] = False,
) -> None:
    """Options before the verb."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; an error or a signal becomes one message and an exit code."""
    warnings.formatwarning = _format_warning
    with raise_on_signals() as received:
        try:
            code = _exit_code(sys.argv[1:] if arguments is None else arguments, received)
        except KeyboardInterrupt:  # after the verb has ended
            code = EXIT_CODES[received[-1]]
    sys.exit(code)


def _format_warning(message: Warning | str, *_: object, **__: object) -> str:
    """Return a warning, such as that of a missing font, without the place in the code."""
    return f"warning: {message}\n"


def _exit_code(arguments: list[str], received: list[signal.Signals]) -> int:
    try:
        _check_current_folder()
        code = int(app(arguments, prog_name="partialnas", standalone_mode=False) or 0)
        swallowed = bool(received) and received[-1] != signal.SIGINT  # as Ctrl-C ends `--watch`
        if code == _INTERRUPTED or swallowed:  # typer returns this code on Ctrl-C
            raise KeyboardInterrupt
        sys.stdout.flush()
        return code
    except typer.TyperException as error:  # invalid arguments
        return _show_usage_error(error)
    except UserError as error:
        return _report(f"error: {error}", arguments, 2)
    except MachineError as error:
        return _report(f"error: {error}", arguments, 2 if is_too_long(error.__cause__) else 1)
    except (KeyboardInterrupt, typer.Abort) as error:
        if isinstance(error.__cause__, EOFError):  # typer mistakes a truncated file for Ctrl-D
            return _report_bug(error.__cause__, arguments)
        number = received[-1] if received else signal.SIGINT
        return _report(stop_message(number), arguments, EXIT_CODES[number])
    except BrokenPipeError:
        discard_output()
        return 1
    except OSError as error:  # of the disk, of a folder's rights, or of the output
        discard_output()
        path = f"{error.filename}: " if error.filename else ""
        code = 2 if is_too_long(error) else 1
        return _report(f"error: {path}{error.strerror or error}", arguments, code)
    except Exception as error:
        if received:  # a library has replaced the exception of a signal
            return _report(stop_message(received[-1]), arguments, EXIT_CODES[received[-1]])
        return _report_bug(error, arguments)


def _check_current_folder() -> None:
    """Raise an error if the current folder was removed: libraries of torch abort there."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise UserError("the current folder was removed; change to another one") from None


def _show_usage_error(error: Any) -> int:  # typer's base class does not declare `show`
    message = error.message.replace(_PYDANTIC_PREFIX, "")
    error.message = printable_message(message + _choice_hint(message))
    error.show()
    return int(error.exit_code)


def _choice_hint(message: str) -> str:
    """Return a hint at the choice that resembles an invalid one, or an empty text."""
    if match := _NOT_A_CHOICE.search(message):
        from partialnas.space.validation import suggest  # imports pydantic

        hint = suggest(match[1], _QUOTED.findall(match[2]))
        return f" {hint[0].upper()}{hint[1:]}" if hint.endswith("?") else ""
    return ""


def _report_bug(error: BaseException, arguments: list[str]) -> int:
    bug = "This may be a bug in partialnas; `partialnas --debug VERB ...` shows the traceback."
    hint = explain_import_error(error) or bug
    return _report(f"error: {type(error).__name__}: {error}\n{hint}", arguments, 1)


def _report(message: str, arguments: list[str], code: int) -> int:
    if "--debug" in arguments:
        traceback.print_exc()
    with suppress(OSError):  # the terminal may be closed
        print(printable_message(message), file=sys.stderr)
    return code
