"""The entry point: prepares the process before the command line and its libraries are imported."""

import sys


def main() -> None:
    """Handle signals, let installed modules come first, and run the command line."""
    if not sys.flags.safe_path:  # Python puts the current folder, or that of the script, first
        sys.path.append(sys.path.pop(0))
    from partialnas.search.session.signals import exit_on_signals, release_signals

    exit_on_signals()
    if sys.warnoptions:  # libraries do not run where each of their warnings is an error
        import warnings

        warnings.simplefilter("default")
    from partialnas.cli import main as run_command_line

    try:
        run_command_line()
    finally:
        release_signals()


if __name__ == "__main__":
    main()
