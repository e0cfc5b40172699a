"""Tables, figures and `status` say when no network is better than guessing the class."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run_cli

from partialnas.analysis import effects_figure, load_trials
from partialnas.analysis.ablation.table import FORMATS, table_artefact
from partialnas.analysis.frames.chance import chance_note
from partialnas.analysis.pareto.front_table import front_table

Ledgers = Callable[..., Path]
CLASSES = 10
IMAGES = 180
"""Validation images."""


def guesses(arms: int, seeds: int, *, random: int = 0) -> list[dict[str, Any]]:
    """Return trials of networks that guess: their logits are noise that ignores the images."""
    rng = np.random.default_rng(random)
    labels = rng.integers(0, CLASSES, IMAGES)
    trials = []
    for arm in range(arms):
        for seed in range(seeds):
            logits = rng.normal(0, 0.2, (IMAGES, CLASSES))
            log_sums = np.log(np.exp(logits).sum(1))
            nll = float((log_sums - logits[np.arange(IMAGES), labels]).mean())
            accuracy = 100 * float((logits.argmax(1) == labels).mean())
            trials.append(
                {
                    "arm": f"arm{arm}", "name": f"arm{arm}", "digest": f"{arm:016x}",
                    "proposal": arm, "seed": seed, "state": "done",
                    "metrics": {"val_nll": nll, "val_accuracy": accuracy},
                }
            )  # fmt: skip
    return trials


def study(folder: Path, ledgers: Ledgers, trials: list[dict[str, Any]], **settings: Any) -> Path:
    task = {"data": "digits", "resolution": 8, "channels": 1, "classes": CLASSES}
    facts = {"search": None, "arms": {}, "seeds": 3, **settings}
    return ledgers(folder, trials, (), facts, {"task": json.dumps(task)})


def note_of(folder: Path) -> str:
    return chance_note(load_trials(folder))


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("random", range(5))
def test_networks_that_guess_are_at_chance_level(
    tmp_path: Path, ledgers: Ledgers, seeds: int, random: int
) -> None:
    folder = study(tmp_path, ledgers, guesses(8, seeds, random=random))
    note = note_of(folder)
    assert note.startswith("Chance level: no network is better than guessing")
    assert f"ln(10) = {math.log(10):.3f}" in note


@pytest.mark.parametrize(
    "learned",
    [
        {"val_nll": 2.0, "val_accuracy": 30.0},
        {"val_nll": 2.25, "val_accuracy": 30.0},  # hardly a better loss, but the right classes
        {"val_nll": 2.0, "val_accuracy": 10.0},  # the frequencies of the classes
    ],
)
@pytest.mark.parametrize("seeds", [1, 3])
def test_one_network_that_has_learned_something_is_above_chance(
    tmp_path: Path, ledgers: Ledgers, learned: dict[str, float], seeds: int
) -> None:
    trials = guesses(8, seeds)
    for trial in trials[-seeds:]:
        trial["metrics"] = learned
    assert note_of(study(tmp_path, ledgers, trials)) == ""


def test_nothing_is_said_of_functions_unfinished_trials_and_unknown_tasks(
    tmp_path: Path, ledgers: Ledgers
) -> None:
    trials = guesses(2, 3)
    assert note_of(ledgers(tmp_path / "unknown", trials)) == ""
    assert note_of(study(tmp_path / "function", ledgers, trials, trial="bench:score")) == ""
    early = [trial | {"state": "early", "reason": "pruned"} for trial in trials]
    assert note_of(study(tmp_path / "early", ledgers, early)) == ""
    assert note_of(study(tmp_path / "none", ledgers, [])) == ""


def test_tables_and_captions_say_it(
    tmp_path: Path, ledgers: Ledgers, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = study(tmp_path / "arms", ledgers, guesses(2, 3))
    for suffix in {*FORMATS.values()} - {".csv"}:  # which has no caption
        text = " ".join(table_artefact(folder).content(suffix).decode().split())
        assert "no network is better than guessing" in text
    assert "no network is better than guessing" in effects_figure(folder).caption
    capsys.readouterr()
    for verb in ("status", "effects"):
        assert run_cli(verb, folder) == 0
        assert "no network is better than guessing" in " ".join(capsys.readouterr().out.split())


def test_the_table_of_a_front_says_it(tmp_path: Path, ledgers: Ledgers) -> None:
    trials = [trial | {"arm": None, "name": ""} for trial in guesses(4, 1)]
    costs = {"params": 1000, "macs": 2000, "macs_core": 1000, "activations": 10}
    trials = [trial | {"cost": costs} for trial in trials]
    objectives = {"val_nll": "min", "macs": "min"}
    folder = study(tmp_path, ledgers, trials, search={"sampler": "random"}, objectives=objectives)
    table, _ = front_table(load_trials(folder), [], None)
    assert "no network is better than guessing" in table.caption
