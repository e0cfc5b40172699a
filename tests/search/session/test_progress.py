"""Progress of a running study: front, warnings and plain lines."""

import io
import random
import sys
import types

import pytest
from rich.console import Console

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.task import Task
from partialnas.runs.ledger.rows import TrialResult
from partialnas.runs.records.subject import TimmModel, subject_digest
from partialnas.search.driver.candidate import Candidate
from partialnas.search.driver.running_front import FrontPoint, RunningFront
from partialnas.search.session.progress import Progress, Tally, render
from partialnas.search.study.fidelity import Condition
from partialnas.search.study.study import Study

TASK = Task(data="digits", resolution=8, channels=1, classes=10)
HOW = Condition("", TASK, Recipe(), Protocol())


def study(**changes: object) -> Study:
    plain = {"study": "plain", "arms": {"a": {"width": 8}}, "trial": "module:function"}
    return Study.model_validate(plain | {"objectives": {"loss": "min", "speed": "max"}} | changes)


def candidate(number: int, *results: dict[str, float]) -> Candidate:
    subject = TimmModel(timm=f"m{number}")
    new = Candidate(subject, HOW, subject_digest(subject))
    for seed, metrics in enumerate(results):
        new.plan(seed)
        new.add_result(TrialResult(f"key{seed}", 1, seed, "done", metrics), None)
    return new


def test_the_running_front_is_non_dominated() -> None:
    rng, front = random.Random(0), RunningFront(study())
    points = {f"timm:m{n}": (rng.random(), rng.random()) for n in range(200)}
    for number, (loss, speed) in enumerate(points.values()):
        front.add(candidate(number, {"loss": loss, "speed": speed}))
    best = {
        name
        for name, (loss, speed) in points.items()
        if not any(o <= loss and s >= speed for n, (o, s) in points.items() if n != name)
    }
    shown = front.leading_points()
    assert {point.name for point in shown} <= best
    losses = [point.values["loss"] for point in shown]
    assert losses == sorted(losses)
    assert losses[0] == min(points[name][0] for name in best)


def test_the_running_front_uses_seed_means_and_limits() -> None:
    front = RunningFront(study(limits={"speed": {"max": 10}}))
    front.add(candidate(0, {"loss": 1.0, "speed": 4.0}, {"loss": 3.0, "speed": 6.0}))
    front.add(candidate(1, {"loss": 0.1, "speed": 11.0}))
    assert front.leading_points() == (FrontPoint("timm:m0", {"loss": 2.0, "speed": 5.0}),)


def test_the_live_view_shows_front_warnings_and_counts() -> None:
    tally = Tally(total=9, done=3, failed=1, front=[FrontPoint("net-7", {"loss": 0.25})])
    tally.warnings += [f"warning {n}" for n in range(5)]
    console = Console(file=io.StringIO(), width=80)
    console.print(render(tally))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "net-7" in text
    assert "0.25" in text
    assert "4/9" in text
    assert "1 failed" in text
    assert [n for n in range(5) if f"warning {n}" in text] == [2, 3, 4]


@pytest.mark.parametrize("terminal", [True, False])
def test_events_are_permanent_and_the_live_view_requires_a_terminal(terminal: bool) -> None:
    out = io.StringIO()
    progress = Progress(Console(file=out, force_terminal=terminal, width=80))
    with progress.live_display():
        assert progress.is_live == terminal
        progress.event("something happened")
        progress.update(Tally(total=9, done=3))
    assert "something happened" in out.getvalue()
    assert ("3/9" in out.getvalue()) == terminal


def test_the_live_view_has_a_bar_of_ended_trials() -> None:
    def bar(tally: Tally) -> str:
        console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
        console.print(render(tally))
        return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]

    half, whole = bar(Tally(total=10, done=4, failed=1)), bar(Tally(total=10, done=10))
    assert half.count("━") == 30
    assert whole.count("━") == 60
    assert "━" not in bar(Tally(done=3))


@pytest.mark.parametrize("has_widgets", [True, False])
def test_a_notebook_shows_the_live_view_if_it_can_update_it(
    monkeypatch: pytest.MonkeyPatch, has_widgets: bool
) -> None:
    shown: list[object] = []

    class Output:
        """Stand-in for the widget of ipywidgets."""

        def clear_output(self, *, wait: bool) -> None:
            assert wait

        def __enter__(self) -> None:
            return None

        def __exit__(self, *error: object) -> None:
            return None

    display = types.SimpleNamespace(display=shown.append)
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    widgets = types.SimpleNamespace(Output=Output, __spec__=object()) if has_widgets else None
    monkeypatch.setitem(sys.modules, "ipywidgets", widgets)
    console = Console(force_jupyter=True, file=io.StringIO())
    monkeypatch.setattr(console, "_check_buffer", lambda: console._buffer.clear())
    progress = Progress(console)
    with progress.live_display():
        assert progress.is_live == has_widgets
        progress.update(Tally(total=2, done=1))
    assert any(isinstance(item, Output) for item in shown) == has_widgets
