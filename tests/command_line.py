"""Run the command line in the process of a test."""

import pytest

from partialnas.cli import main


def run_cli(*arguments: object) -> int:
    """Run a verb with these arguments, and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    code = ended.value.code
    assert isinstance(code, int)
    return code
