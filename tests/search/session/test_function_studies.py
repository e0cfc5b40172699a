"""Studies of a user function: its source, what reports say, retries, and results out of range."""

import contextlib
import html
import io
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from forked import run_verb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from partialnas.analysis.frames.load import load, load_trials
from partialnas.analysis.pareto.caption import pareto_caption
from partialnas.analysis.pareto.plot import ParetoPlotOptions
from partialnas.analysis.pareto.table import make_pareto_table
from partialnas.analysis.report.report import report_artefact
from partialnas.commands.studies.status import show_status
from partialnas.runs.ledger import column_store
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.subject import parse_subject
from partialnas.runs.trials import outcome
from partialnas.search.followup.confirm import confirm
from partialnas.search.followup.merge_studies import merge_studies
from partialnas.search.samplers.base import PastProposal
from partialnas.search.samplers.optuna_sampler import OptunaSource
from partialnas.search.session.run_study import run_study
from partialnas.search.study.study import Study
from partialnas.space.errors import UserError

HELPER = "SCALE = 10\n"
FUNCTION = '''
"""A function beside the study."""
from {name}_helper import SCALE


def evaluate(network, seed, epochs):
    width = network.widths[0]
    if width in BROKEN:
        raise ValueError("not today")
    return {{"val_nll": SCALE / width + 0.01 * seed, "val_accuracy": 50.0 + epochs}}


BROKEN = {{12, 20}}
'''
PLAIN: dict[str, Any] = {
    "study": "called",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "space": {"axes": {"width": [8, 12, 16, 20, 24], "mlp_ratio": [1, 2]}},
    "search": {"sampler": "random"},
    "objectives": {"val_nll": "min", "macs": "min"},
    "budget": {"trials": 6},
    "executor": {"kind": "in-process", "pilot": 0, "device": "cpu"},
    "recipe": {"epochs": 3},
}  # fmt: skip
ARMS: dict[str, Any] = {
    "search": None, "space": None, "budget": {}, "seeds": 2,
    "arms": {"a": {"width": 8}, "b": {"width": 12}},
}  # fmt: skip

Run = Callable[..., Path]


class Beside:
    """A study file with its function in a folder, and the folder of its results."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.out, self.name = folder, folder / "results", name
        self.file = folder / f"{name}.py"
        (folder / f"{name}_helper.py").write_text(HELPER)
        self.file.write_text(FUNCTION.format(name=name))

    def study(self, **changes: Any) -> Study:
        return Study.model_validate({**PLAIN, "trial": f"{self.name}:evaluate", **changes})

    def run(
        self, *, accept_source: bool = False, retry_failed: bool = False, **changes: Any
    ) -> str:
        """Run or resume; return what was shown."""
        shown = io.StringIO()
        run_study(
            self.study(**changes), self.out, base_dir=self.folder, console=Console(file=shown),
            accept_source=accept_source, retry_failed=retry_failed,
        )  # fmt: skip
        return shown.getvalue()

    def edit(self, old: str, new: str, suffix: str = "") -> None:
        path = self.folder / f"{self.name}{suffix}.py"
        path.write_text(path.read_text().replace(old, new))

    def mend(self) -> None:
        self.edit("BROKEN = {12, 20}", "BROKEN = set()")


@pytest.fixture
def beside(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Beside]:
    """Return a study beside its function; the module is forgotten afterwards."""
    name = re.sub(r"\W", "_", request.node.name)[:40]
    before = [*sys.path]
    yield Beside(tmp_path, name)
    sys.path[:] = before
    for module in (name, f"{name}_helper"):
        sys.modules.pop(module, None)


def page_text(folder: Path) -> str:
    return report_artefact(folder).content(".html").decode()


# What is said of them.


def test_captions_and_reports_name_the_function(beside: Beside) -> None:
    beside.mend()
    beside.run()
    trials = load_trials(beside.out)
    caption = pareto_caption(trials, make_pareto_table(trials), ParetoPlotOptions()).text()
    assert f"evaluated by {beside.name}:evaluate with epochs = 3." in caption
    assert "h of function calls" in caption
    page = page_text(beside.out)
    status = io.StringIO()
    with contextlib.redirect_stdout(status):
        show_status(beside.out)
    assert f"function: {beside.name}:evaluate in place of training" in status.getvalue()
    for text in (caption, page.partition("<script")[0], status.getvalue()):
        words = re.sub(r"instead of training|in place of training", "", text)
        assert not re.findall(r"[^.]*\btrain(?:ed|s|ing)\b[^.]*", words)


# Its source.


def test_another_source_is_refused_with_the_difference(beside: Beside) -> None:
    beside.run()
    beside.edit('"""A function beside the study."""', "# other words")
    beside.run(budget={"trials": 7})  # comments and docstrings do not count
    beside.edit("SCALE = 10", "SCALE = 11", "_helper")
    with pytest.raises(UserError) as error:
        beside.run(budget={"trials": 8})
    for line in ("-SCALE = 10", "+SCALE = 11", "continue with --accept-source"):
        assert line in str(error.value)
    with Ledger.open(beside.out) as ledger:
        assert ledger.state_counts()["done"] + ledger.state_counts()["failed"] == 7


def test_records_name_the_source_that_they_came_of(beside: Beside) -> None:
    beside.run()
    beside.edit("SCALE = 10", "SCALE = 11", "_helper")
    shown = beside.run(budget={"trials": 8}, accept_source=True)
    frame = load(beside.out)
    old, new = frame["function_source"].iloc[0], frame["function_source"].iloc[-1]
    assert frame["function_source"].tolist() == [old] * 6 + [new] * 2
    assert old != new
    assert f"{old} -> {new}" in shown
    widths = (8, 12, 16, 20, 24)  # the recorded source is what ran
    with Ledger.open(beside.out) as ledger:
        sources = ledger.study.trial_sources
        for trial in ledger.trials():
            scale = 10 if trial.number <= 6 else 11
            if trial.state == "done":
                nll = trial.metrics["val_nll"]
                assert any(math.isclose(nll, scale / width) for width in widths)
    assert [source["digest"] for source in sources] == [old, new]
    assert sources[0]["files"][f"{beside.name}_helper.py"] == HELPER
    assert {*sources[1]["files"]} == {f"{beside.name}.py", f"{beside.name}_helper.py"}
    page = page_text(beside.out)
    assert f"Results came of 2 sources of {beside.name}:evaluate" in page
    assert f'"{old}, {new}"' in page  # its provenance


def test_an_older_ledger_gets_the_source_when_it_is_continued(beside: Beside) -> None:
    beside.run()
    with Ledger.open(beside.out, write=True) as ledger:
        ledger.update_meta({"trial_sources": "[]"})
    beside.edit("SCALE = 10", "SCALE = 11", "_helper")
    beside.run(budget={"trials": 7})
    with Ledger.open(beside.out) as ledger:
        (source,) = ledger.study.trial_sources
    assert source["files"][f"{beside.name}_helper.py"] == "SCALE = 11\n"


def test_a_later_stage_is_refused_with_another_source(beside: Beside) -> None:
    beside.run(**ARMS)
    with Ledger.open(beside.out) as ledger:
        chosen = {"a": parse_subject(ledger.arms()[0].subject)}
    quiet = Console(file=io.StringIO())
    confirm(beside.out, chosen, seeds=1, selection="a", console=quiet)  # from the recorded folder
    assert load(beside.out, stage="confirm")["state"].tolist() == ["done"]
    beside.edit("SCALE = 10", "SCALE = 11", "_helper")
    with pytest.raises(UserError, match="has changed"):
        confirm(beside.out, chosen, seeds=2, selection="a", console=quiet)


def test_merged_ledgers_must_end_with_one_source(beside: Beside, tmp_path: Path) -> None:
    beside.run()
    first, beside.out = beside.out, tmp_path / "second"
    beside.edit("SCALE = 10", "SCALE = 11", "_helper")
    beside.run()
    with pytest.raises(UserError, match="source of"):
        merge_studies([first, beside.out], tmp_path / "both")
    beside.out = first
    beside.run(accept_source=True)
    merge_studies([first, tmp_path / "second"], tmp_path / "both")
    with Ledger.open(tmp_path / "both") as ledger:
        assert len(ledger.study.trial_sources) == 3


# Retries.


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"search": {"sampler": "nsga2", "population": 4}, "budget": {"trials": 9}},
        {"search": {"sampler": "evolution", "population": 4}, "budget": {"trials": 9}},
        {"search": {"sampler": "tpe", "rungs": [{"recipe.epochs": 1}]}, "budget": {"trials": 9}},
        ARMS,
    ],
    ids=["search", "nsga2", "evolution", "rungs", "arms"],
)
def test_failed_trials_run_again_and_their_failures_stay(
    beside: Beside, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr(column_store, "VOLUME_SIZE", 2)  # failed rows are in archived volumes
    beside.run(**changes)
    before = load(beside.out)
    failed = before["state"].eq("failed")
    assert 0 < failed.sum() < len(before)
    beside.run(**changes)  # nothing happens without the option
    assert load(beside.out)["state"].eq("failed").sum() == failed.sum()
    beside.mend()
    beside.run(**changes, accept_source=True, retry_failed=True)
    after = load(beside.out).iloc[: len(before)]
    assert not after["state"].eq("failed").any()
    assert after["key"].tolist() == before["key"].tolist()
    assert after["failures"].tolist() == failed.astype(int).tolist()
    assert set(after.loc[failed, "last_failure"]) == {"ValueError: not today"}
    assert after["attempts"].tolist() == (1 + failed).tolist()
    assert after.loc[failed, "val_nll"].notna().all()
    assert "Trials run again after failures" in page_text(beside.out)
    with Ledger.open(beside.out) as ledger:
        ledger.verify_trials()
        assert {row.kind for row in ledger.usage_rows()} >= {"failed", "done"}


def test_a_rebuilt_sampler_learns_the_new_results(
    beside: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside.run(search={"sampler": "tpe"}, budget={"trials": 6})
    histories: list[list[PastProposal]] = []
    rebuild = OptunaSource.rebuild

    def spy(self: OptunaSource, history: list[PastProposal]) -> None:
        histories.append(history)
        rebuild(self, history)

    monkeypatch.setattr(OptunaSource, "rebuild", spy)
    changes = {"search": {"sampler": "tpe"}, "budget": {"trials": 6}}
    beside.run(**changes)
    beside.mend()
    beside.run(**changes, accept_source=True, retry_failed=True)
    beside.run(**{**changes, "budget": {"trials": 8}})
    told = [{past.number for past in history if past.result is None} for history in histories]
    assert told[0] == told[1] != set()  # failed, then open
    assert [past.is_open for past in histories[1] if past.number in told[0]] == [True] * len(
        told[0]
    )
    assert told[2] == set()


@pytest.mark.slow
def test_ray_retries_failures_and_counts_processes_that_died(beside: Beside) -> None:
    beside.edit(
        "    width = network.widths[0]\n",
        "    import os\n    from pathlib import Path\n\n    width = network.widths[0]\n"
        "    mark = Path(__file__).with_name('died')\n"
        "    if width == 8 and not mark.exists():\n"
        "        mark.touch()\n        os._exit(1)\n",
    )
    ray = {**ARMS, "executor": {"kind": "ray", "workers": 1, "pilot": 0, "device": "cpu"}}
    beside.run(**ray)
    before = load(beside.out).sort_values(["arm", "seed"])
    assert before["state"].tolist() == ["done"] * 2 + ["failed"] * 2
    assert sorted(before["attempts"]) == [1, 1, 1, 2]
    beside.mend()
    beside.run(**ARMS, accept_source=True, retry_failed=True)
    after = load(beside.out).sort_values(["arm", "seed"])
    assert set(after["state"]) == {"done"}
    assert after["failures"].tolist() == [0, 0, 1, 1]
    assert after["function_source"].nunique() == 2


@pytest.mark.slow
def test_ray_retries_the_failures_of_a_search(beside: Beside) -> None:
    beside.run(budget={"trials": 8})
    before = load(beside.out)
    failed = before["state"].eq("failed")
    assert 0 < failed.sum() < len(before) == 8
    beside.mend()
    ray = {"kind": "ray", "workers": 2, "pilot": 0, "device": "cpu"}
    beside.run(executor=ray, budget={"trials": 8}, accept_source=True, retry_failed=True)
    after = load(beside.out)
    assert after["key"].tolist() == before["key"].tolist()  # no network is proposed twice
    assert set(after["state"]) == {"done"}
    assert after["failures"].tolist() == failed.astype(int).tolist()
    assert after.loc[~failed, "val_nll"].tolist() == before.loc[~failed, "val_nll"].tolist()


# Results out of range.

ANY = st.floats(allow_nan=True, allow_infinity=True, width=64)


@pytest.mark.slow
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=st.lists(ANY, min_size=2, max_size=4))
def test_any_floats_pass_through_search_status_and_report(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[float]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    module = f"any_{folder.name}"
    (folder / f"{module}.py").write_text(
        f"from math import inf, nan\nNUMBERS = {numbers!r}\n"
        "def evaluate(network, seed, epochs):\n"
        "    place = network.widths[0] // 4 + seed\n"
        "    value = NUMBERS[place % len(NUMBERS)]\n"
        "    return {'val_nll': value, 'own': -value, 'n': value}\n"
    )
    plain = {**PLAIN, "trial": f"{module}:evaluate", "objectives": {"val_nll": "min", "own": "max"}}
    quiet = Console(file=io.StringIO())
    for trials in (4, 6):
        study = Study.model_validate({**plain, "seeds": 2, "budget": {"trials": trials}})
        run_study(study, folder / "out", base_dir=folder, console=quiet)
    with contextlib.redirect_stdout(io.StringIO()):
        show_status(folder / "out")
    page_text(folder / "out")
    frame = load(folder / "out")
    recordable = [abs(value) <= 1e100 for value in numbers]
    if all(recordable):
        assert set(frame["state"]) == {"done"}
    assert frame.loc[frame["state"].eq("failed"), "reason"].str.startswith("metric ").all()
    sys.path.remove(str(folder))


def test_a_ledger_with_results_out_of_range_can_be_continued(
    beside: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside.edit("SCALE / width + 0.01 * seed", "1e308 if width < 20 else SCALE / width")
    monkeypatch.setattr(outcome, "LARGEST_METRIC", math.inf)
    beside.run(**ARMS)
    monkeypatch.undo()
    beside.run(**{**ARMS, "seeds": 4})
    with contextlib.redirect_stdout(io.StringIO()):
        show_status(beside.out)
    page_text(beside.out)
    assert load(beside.out)["val_nll"].isna().all()


# Its report's commands.


def arguments_in_shell(commands: str) -> list[list[str]]:
    """Return the arguments that a shell passes to `partialnas` in these lines."""
    shell = f"partialnas() {{ printf '%s\\0' \"$@\" end; }}\n{commands}"
    printed = subprocess.run(
        ["bash", "-e", "-c", shell], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return [line.split("\0") for line in printed.split("\0end\0")[:-1]]


@pytest.mark.slow
def test_the_commands_of_a_report_work_in_the_study_s_folder(tmp_path: Path) -> None:
    studies = tmp_path / "my studies"
    (studies / "images" / "train").mkdir(parents=True)
    for split, label, index in [
        (s, c, i) for s in ("train", "val") for c in "ab" for i in range(3)
    ]:
        place = studies / "images" / split / label
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (40 * index, 0, 0)).save(place / f"{index}.png")
    (studies / "quoted_plugin.py").write_text("LOADED = True\n")
    (studies / "quoted_helper.py").write_text(HELPER)
    (studies / "quoted.py").write_text(FUNCTION.format(name="quoted"))
    (studies / "net.json").write_text(
        Study.model_validate({**PLAIN, "trial": "a:b"}).base.architecture().model_dump_json()
    )
    plain = {
        **PLAIN, "trial": "quoted:evaluate", "task": {"data": "folder:images", "resolution": 8},
        "arms": {"net": "net.json"}, "plugins": ["quoted_plugin"], "reference": "net.json",
    }  # fmt: skip
    (studies / "s.yaml").write_text(yaml.safe_dump(plain))
    question = """question=Is it "so" or isn't it?"""
    for options in (["--set", question], ["--rehearse"]):
        out = f"results {options[0].strip('-')}"
        done = run_verb(["run", "my studies/s.yaml", "--out", out, *options], tmp_path)
        assert done.returncode == 0, done.stderr
        page = page_text(tmp_path / out)
        blocks = re.findall(r'<pre class="command"[^>]*><code>([^<]+)</code>', page)
        commands = html.unescape("".join(blocks))
        assert commands.startswith("partialnas run")
        for arguments in arguments_in_shell(commands):
            done = run_verb(arguments, tmp_path / out)
            assert done.returncode == 0, (arguments, done.stderr)
        with Ledger.open(tmp_path / out) as one, Ledger.open(tmp_path / out / "repeated") as two:
            assert one.study.identity == two.study.identity
            assert [t.metrics for t in one.trials()] == [t.metrics for t in two.trials()]
