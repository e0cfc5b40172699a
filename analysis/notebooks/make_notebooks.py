"""Make the notebooks: run each script as a notebook, and write it with its outputs as .ipynb.

Run it from the root of the repository, or with `make notebooks`; names of scripts select some.
Tests run the scripts in the same way and compare the text of the outputs with the files.
"""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).parent
_MAKERS = ("make_ledgers", "make_notebooks")
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in _MAKERS)
TRAINING = ("first_study",)
"""Notebooks that train networks: the numbers in their outputs differ between machines."""

_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
_TIMING = re.compile(r"\b\d[\d.,]*(?= (?:s|ms|min|h|device-hours|img/s|images/s)\b)")
_NUMBER = re.compile(r"[+-]?\d[\d.,]*")
_ESTIMATE = re.compile(r"^(?:time|compute): .*$", re.MULTILINE)
_CELL_TIMEOUT_S = 600


def read_script(name: str) -> NotebookNode:
    """Return the notebook of a script, without outputs and with reproducible cell ids."""
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    notebook: NotebookNode = jupytext.reads(text, fmt="py:percent")
    notebook.metadata = nbformat.from_dict(_METADATA)
    for number, cell in enumerate(notebook.cells, start=1):
        cell.id, cell.metadata = f"cell-{number:02}", nbformat.from_dict({})
    return notebook


def execute(name: str, folder: Path) -> NotebookNode:
    """Run the notebook of a script in a folder, and return it with its outputs.

    Args:
        name: name of the script.
        folder: current folder of the notebook, which gets a link to the ledgers.

    Raises:
        CellExecutionError: a cell raised an exception.
    """
    notebook = read_script(name)
    (folder / "ledgers").symlink_to(FOLDER / "ledgers")
    client = NotebookClient(
        notebook,
        timeout=_CELL_TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,
        startup_timeout=_CELL_TIMEOUT_S,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # it listens on the loopback interface
    )
    client.execute(env=os.environ | {"OMP_NUM_THREADS": "1"})
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def text_outputs(notebook: NotebookNode, *, training: bool) -> list[str]:
    """Return the text of each output, with timings masked; images have no text.

    Args:
        notebook: a notebook that ran.
        training: whether to mask all numbers, the width of columns and estimates of time, too.
    """
    texts = [
        output["text"] if output.output_type == "stream" else output.data.get("text/plain", "")
        for cell in notebook.cells
        for output in cell.get("outputs", ())
    ]
    if training:
        return [" ".join(_NUMBER.sub("#", _ESTIMATE.sub("", t)).split()) for t in texts]
    return [_TIMING.sub("#", text) for text in texts]


def make(names: list[str]) -> Iterator[str]:
    """Write the notebooks of scripts; yield a line for each."""
    for name in names:
        path = FOLDER / f"{name}.ipynb"
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(name, Path(folder))
        nbformat.validate(notebook)
        nbformat.write(notebook, path)
        yield f"{path.name}: {path.stat().st_size / 1000:.0f} kB"


if __name__ == "__main__":
    for line in make(sys.argv[1:] or NAMES):
        print(line)
