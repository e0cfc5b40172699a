"""Run every verb in hostile environments: each succeeds, or says in words what is wrong.

    python benchmarks/hostile.py [--environment NAME]... [--verb NAME]...

Each verb of the command line runs in a process of its own, on a copy of a small study that was
trained once. No run may show a traceback or call the environment's fault a defect of partialnas,
and each has to end with exit code 0, or with a code that is expected in that environment. The exit
code is 1 otherwise.
"""

import argparse
import ctypes
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from partialnas.cli import app

STUDY: dict[str, Any] = {
    "study": "hostile",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "space": {"axes": {"width": [8, 12, 16], "mlp_ratio": [1, 2]}},
    "recipe": {"use": "short", "epochs": 1, "data_share": 0.3, "keep_weights": "all"},
    "search": {"sampler": "random"},
    "measure": {"batch_size": 1, "max_seconds": 0.1},
    "budget": {"trials": 3},
    "executor": {"kind": "in-process", "device": "cpu"},
}

ARMS: dict[str, Any] = STUDY | {
    "study": "arms",
    "arms": {
        "static": {"ratio": "1/4"},
        "learned \U0001f4a1 \u6f22\u5b57": {"ratio": {"learned": {"budget": "static"}}},
    },
    "objectives": {"val_nll": "min", "macs": "min"},
    "seeds": 2,
}
for key in ("space", "search", "budget"):
    del ARMS[key]


@dataclass(frozen=True)
class Files:
    """Files of one run, in a folder of its own."""

    folder: Path

    @property
    def search(self) -> Path:
        """Results of a trained search."""
        return self.folder / "search"

    @property
    def arms(self) -> Path:
        """Results of a rehearsed ablation with learned ratios."""
        return self.folder / "arms"

    @property
    def study(self) -> Path:
        """Study file of the search."""
        return self.folder / "study.yaml"

    @property
    def images(self) -> Path:
        """Image folder with two classes."""
        return self.folder / "images \u6f22\u5b57"

    @property
    def backup(self) -> Path:
        """Copy of the search's ledger."""
        return self.folder / "ledger.copy"

    def output(self, name: str) -> Path:
        """Return the path of an output."""
        return self.folder / "outputs" / name


VERBS: dict[str, Callable[[Files], tuple[object, ...]]] = {
    "studies": lambda files: ("quickstart", "-o", files.output("quickstart.yaml")),
    "new": lambda files: (f"new-{files.folder.name}", "--data", "digits", "--kind", "ablation"),
    "data": lambda files: (files.images, "-o", files.output("sheet.png")),
    "run": lambda files: (files.study, "--out", files.output("results")),
    "check": lambda files: (files.study,),
    "status": lambda files: (files.search,),
    "confirm": lambda files: (files.search, "--top", 1, "--seeds", 1),
    "audit": lambda files: (files.search, "--sample", 3, "--seeds", 1, "--longer", "2x"),
    "merge": lambda files: (files.search, files.folder / "second", "-o", files.output("merged")),
    "dashboard": lambda files: (files.search, "--export-only", files.output("journal.log")),
    "restore": lambda files: (files.search, "--from", files.backup),
    "clean": lambda files: (files.search, "--yes"),
    "describe": lambda files: (f"{files.search}:1", "--resolution", 8, "--in-chans", 1),
    "measure": lambda _: ("partialnet_t0", "--resolution", 32, "--seconds", 0.1, "--batch-size", 1),
    "remeasure": lambda files: (files.search, "--top", 1, "--batch-size", 2, "--seconds", 0.1),
    "flops": lambda files: (files.search,),
    "pareto": lambda files: (files.search, "-o", files.output("front.pdf")),
    "table": lambda files: (files.arms, "-o", files.output("arms.tex")),
    "effects": lambda files: (files.arms, "-o", files.output("effects.png")),
    "figure": lambda files: ("curves", files.search, "-o", files.output("curves.svg")),
    "ratios": lambda files: (files.arms, "-o", files.output("ratios.pdf")),
    "report": lambda files: (files.search, "-o", files.output("report.html")),
    "verify": lambda files: (files.folder / "table.csv", "--against", files.search),
    "export": lambda files: (files.search, "-o", files.output("trials.parquet")),
    "export-model": lambda files: (f"{files.search}:1", "-o", files.output("model"), "--no-onnx"),
}
"""Arguments of each verb."""


@dataclass(frozen=True)
class Environment:
    """What surrounds a process.

    Attributes:
        variables: environment variables; None removes one.
        prepare: what is done to the folder of the run beforehand.
        in_child: what the process does before Python starts; its current folder is that of the run.
        may_fail: whether exit codes 1 and 2 are right, too.
    """

    variables: dict[str, str | None]
    prepare: Callable[[Path], object] = lambda _: None
    in_child: Callable[[], object] = lambda: None
    may_fail: bool = False


def _remove_current_folder() -> None:
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    Path(folder).rmdir()


def _write_matplotlibrc(folder: Path) -> None:
    (folder / "matplotlibrc").write_bytes(b"\xff\xfe: not a setting\nfont.size: large\nbackend: no")


def _lock(folder: Path) -> None:
    for name in ("home", "config"):
        (folder / name).mkdir(mode=0o500)


ENVIRONMENTS: dict[str, Environment] = {
    "no HOME": Environment({"HOME": None, "XDG_CACHE_HOME": None, "XDG_CONFIG_HOME": None}),
    "HOME is missing": Environment({"HOME": "/nonexistent/home"}),
    "HOME is read-only": Environment({"HOME": "home"}, _lock),
    "HOME is a file": Environment({"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null/cache"}),
    "MPLCONFIGDIR is read-only": Environment({"MPLCONFIGDIR": "config"}, _lock),
    "MPLCONFIGDIR is a file": Environment({"MPLCONFIGDIR": "/dev/null"}),
    "broken matplotlibrc": Environment({}, _write_matplotlibrc, may_fail=True),
    "MATPLOTLIBRC is missing": Environment({"MATPLOTLIBRC": "/nonexistent"}),
    "MATPLOTLIBRC is broken": Environment(
        {"MATPLOTLIBRC": "matplotlibrc"}, _write_matplotlibrc, may_fail=True
    ),
    "unknown MPLBACKEND": Environment({"MPLBACKEND": "garbage"}),
    "dumb terminal": Environment({"TERM": "dumb", "COLUMNS": "1", "LINES": "1"}),
    "no terminal size": Environment({"TERM": "garbage", "COLUMNS": "garbage", "LINES": "-5"}),
    "no columns": Environment({"COLUMNS": "0", "LINES": "0", "FORCE_COLOR": "1"}),
    "huge terminal": Environment({"COLUMNS": "9" * 30, "LINES": "9" * 30}),
    "locale C": Environment(
        {"LC_ALL": "C", "LANG": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    ),
    "unknown locale": Environment({"LC_ALL": "xx_YY.garbage", "LANG": "garbage"}),
    "Latin-1 output": Environment({"PYTHONIOENCODING": "latin-1:strict", "PYTHONUTF8": "0"}),
    "hash seed": Environment({"PYTHONHASHSEED": "4294967295"}),
    "warnings are errors": Environment({"PYTHONWARNINGS": "error"}),
    "optimized": Environment({"PYTHONOPTIMIZE": "2"}),
    "development mode": Environment({"PYTHONDEVMODE": "1"}),
    "unknown time zone": Environment({"TZ": ":/../gar\u00dfage"}),
    "threads": Environment(
        {"OMP_NUM_THREADS": "garbage", "MKL_NUM_THREADS": "-1", "OPENBLAS_NUM_THREADS": "many"}
    ),
    "no TMPDIR": Environment({"TMPDIR": "/nonexistent", "TEMP": "", "TMP": "/dev/null"}),
    "removed folder": Environment({}, in_child=_remove_current_folder, may_fail=True),
    "closed stdin": Environment({}, in_child=lambda: os.close(0)),
    "umask 777": Environment({}, in_child=lambda: os.umask(0o777), may_fail=True),
    "few files": Environment(
        {}, in_child=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24)), may_fail=True
    ),
}


def verbs() -> list[str]:
    """Return the names of the verbs of the command line."""
    functions = (command.callback for command in app.registered_commands)
    return [function.__name__.replace("_", "-") for function in functions if function]


@contextmanager
def original_files() -> Iterator[Files]:
    """Train the study that all runs start from, in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        files = Files(Path(folder))
        files.study.write_text(yaml.safe_dump(STUDY), encoding="utf-8")
        arms = files.folder / "arms.yaml"
        arms.write_text(yaml.safe_dump(ARMS), encoding="utf-8")
        for arguments in (
            ("run", files.study, "--out", files.search),
            ("run", arms, "--rehearse", "--out", files.arms),
            ("table", files.search, "-o", files.folder / "table.csv"),
        ):
            _run_verb(arguments, files.folder).check_returncode()
        _write_images(files.images)
        shutil.copytree(files.search, files.folder / "second")
        shutil.copy(files.search / "ledger.sqlite", files.backup)
        yield files


def _write_images(folder: Path) -> None:
    for number in range(20):
        file = folder / f"class {number % 2} \U0001f4a1" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (10 * number, 0, 0)).save(file)


def _run_verb(
    arguments: Iterable[object], folder: Path, environments: Sequence[Environment] = ()
) -> "subprocess.CompletedProcess[str]":
    variables: dict[str, str | None] = {**os.environ, "OMP_NUM_THREADS": "1"}
    for environment in environments:
        variables |= environment.variables

    def prepare_process() -> None:
        _restrict_root()
        for environment in environments:
            environment.in_child()

    return subprocess.run(
        [sys.executable, "-m", "partialnas", *map(str, arguments)],
        cwd=folder,
        env={key: value for key, value in variables.items() if value is not None},
        preexec_fn=prepare_process,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def _restrict_root() -> None:
    """Take from root what makes it ignore permissions (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH)."""
    drop_from_bounding_set = 24
    with suppress(OSError, AttributeError):
        for capability in (1, 2):
            ctypes.CDLL(None).prctl(drop_from_bounding_set, capability, 0, 0, 0)


def defect(verb: str, environments: Sequence[str], original: Files) -> str:
    """Run a verb in environments at once, and return what is wrong, or an empty text."""
    settings = [ENVIRONMENTS[name] for name in environments]
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        files = Files(Path(name) / "run")
        shutil.copytree(original.folder, files.folder)
        files.output("").mkdir()
        for setting in settings:
            setting.prepare(files.folder)
        result = _run_verb((verb, *VERBS[verb](files)), files.folder, settings)
    text = result.stdout + result.stderr
    codes = (0, 1, 2) if any(setting.may_fail for setting in settings) else (0,)
    signs = [sign for sign in ("Traceback", "may be a bug", "FATAL", "UserWarning") if sign in text]
    if signs or result.returncode not in codes:
        return f"exit code {result.returncode}: {text[-2000:]}"
    return ""


def sampled_runs() -> list[tuple[str, tuple[str, ...]]]:
    """Return each verb with three environments that do not set the same variables."""
    names = [*ENVIRONMENTS]
    third = len(names) // 3
    return [
        (verb, tuple(names[(index + step * third) % len(names)] for step in range(3)))
        for index, verb in enumerate(VERBS)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--environment", action="append", choices=ENVIRONMENTS)
    parser.add_argument("--verb", action="append", choices=VERBS)
    options = parser.parse_args()
    defects = 0
    with original_files() as original:
        for environment in options.environment or ENVIRONMENTS:
            for verb in options.verb or VERBS:
                text = defect(verb, [environment], original)
                print(f"{environment}, {verb}: {text or 'ok'}", flush=True)
                defects += bool(text)
    return int(defects > 0)


if __name__ == "__main__":
    sys.exit(main())
