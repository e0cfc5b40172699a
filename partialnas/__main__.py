"""The entry point: prepares the process before the command line and its libraries are imported."""

import os
import sys


def main() -> None:
    """Handle signals, let installed modules come first, and run the command line."""
    if not sys.flags.safe_path:  # Python puts the current folder, or that of the script, first
        sys.path.append(sys.path.pop(0))
    from partialnas.search.session.signals import exit_on_signals, release_signals
    from partialnas.streams import prepare_streams

    exit_on_signals()
    prepare_streams()
    os.environ.pop("MPLBACKEND", None)  # a notebook sets it; no verb opens a window
    if sys.warnoptions:  # libraries do not run where each of their warnings is an error
        import warnings

        warnings.simplefilter("default")
    try:
        from partialnas.cli import main as run_command_line

        run_command_line()
    except (ImportError, AttributeError) as error:
        sys.exit(_import_message(error))
    finally:
        release_signals()


def _import_message(error: Exception) -> str:
    """Return what is wrong with the installation if its modules cannot be imported."""
    from partialnas.space.plugins import explain_import_error

    cause = explain_import_error(error) or "repair it"
    return f"error: the installation is broken ({type(error).__name__}: {error}); {cause}"


if __name__ == "__main__":
    main()
