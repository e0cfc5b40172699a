"""The front of a study is that in its own objectives and limits, wherever it is shown."""

import csv
import io
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partialnas.analysis import front, load_trials, pareto_figure, pareto_table, verify
from partialnas.analysis.ablation.table import table_artefact
from partialnas.analysis.audit.confirmation import select_networks
from partialnas.analysis.audit.sample import front_names
from partialnas.analysis.figures.kinds import study_figure
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.pareto import front_probability
from partialnas.analysis.pareto.table import make_pareto_table
from partialnas.analysis.report.report import write_report
from partialnas.cli import main
from partialnas.runs.config.quantities import Direction
from partialnas.space.errors import UserError

Ledgers = Callable[..., Path]
Values = Mapping[str, float]

DIRECTIONS: dict[str, Direction] = {
    "val_nll": "min", "my_cost": "min", "my_gain": "max", "params": "min", "macs": "min",
}  # fmt: skip
TRAINED = ("val_nll", "my_cost", "my_gain")

number = st.integers(0, 4).map(float)
network = st.fixed_dictionaries(dict.fromkeys(DIRECTIONS, number))
some_keys = st.lists(st.sampled_from([*DIRECTIONS]), min_size=1, max_size=4, unique=True)
seeds = st.lists(st.sampled_from([-0.5, 0.0, 0.5]), min_size=1, max_size=3)


def frame_of(networks: list[tuple[Values, list[float], bool]], folder: str) -> pd.DataFrame:
    """Trials of networks: values, an offset of the trained ones per seed, whether one fails."""
    rows = [
        {
            "study": folder, "folder": folder, "name": "", "arm": "", "condition": "",
            "baseline": False, "digest": f"{index:x}", "seed": seed, "state": "done",
            "fidelity": 4, "full_fidelity": 4, "noisy": False, "reason": None,
            "throughput_img_s": np.nan,
            **{key: value + offset * (key in TRAINED) for key, value in values.items()},
        }
        for index, (values, offsets, _) in enumerate(networks)
        for seed, offset in enumerate(offsets)
    ]  # fmt: skip
    rows += [
        {**rows[0], "digest": f"{index:x}", "seed": 9, "state": "failed"}
        | {key: value if key not in TRAINED else np.nan for key, value in values.items()}
        for index, (values, _, fails) in enumerate(networks)
        if fails
    ]
    frame = pd.DataFrame(rows)
    frame.insert(0, "trial", range(1, len(frame) + 1))
    return frame


def brute_force(
    networks: list[tuple[Values, list[float], bool]],
    objectives: Mapping[str, Direction],
    limit: float | None = None,
) -> set[str]:
    """Return the digests of the networks that no feasible one without a failed seed dominates."""
    points = {}
    for index, (values, offsets, fails) in enumerate(networks):
        if fails:
            continue
        shift = sum(offsets) / len(offsets)
        means = {key: value + shift * (key in TRAINED) for key, value in values.items()}
        if limit is None or means["val_nll"] <= limit:
            points[f"{index:x}"] = [
                round(means[key] * (1 if better == "min" else -1), 9)
                for key, better in objectives.items()
            ]
    return {
        name
        for name, point in points.items()
        if not any(
            all(a <= b for a, b in zip(other, point, strict=True)) and other != point
            for other in points.values()
        )
    }


@pytest.fixture(scope="module")
def few_draws() -> Iterator[None]:
    """Make the probabilities of being on the front, which are not tested here, cheap."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(front_probability, "DRAWS", 2)
        yield


@settings(max_examples=15, deadline=None)
@pytest.mark.usefixtures("few_draws")
@given(
    networks=st.lists(st.tuples(network, seeds, st.booleans()), min_size=1, max_size=10),
    keys=some_keys,
    axes=st.permutations([*DIRECTIONS]),
    limit=st.sampled_from([None, 2.0]),
)
def test_members_are_those_of_the_objectives_whatever_the_axes_are(
    networks: list[tuple[Values, list[float], bool]],
    keys: list[str],
    axes: list[str],
    limit: float | None,
) -> None:
    objectives = {key: DIRECTIONS[key] for key in keys}
    limits = {} if limit is None else {"a": {"val_nll": {"max": limit}}}
    settings_of_study = {"objectives": objectives, "study_objectives": {"a": objectives}}
    trials = Trials(frame=frame_of(networks, "a"), limits=limits, **settings_of_study)
    expected = brute_force(networks, objectives, limit)
    rows = front(trials)
    assert {*rows.loc[rows["on_front"], "digest"]} == expected
    x, y = (f"{key}:{DIRECTIONS[key]}" for key in axes[:2])
    for table in (make_pareto_table(trials, x, y), make_pareto_table(trials)):
        shown = table.rows
        assert {*shown.loc[shown["on_front"], "digest"]} == expected
        assert {*objectives} <= {*shown.columns}
        assert {q.key for q in table.quantities} == {table.x.key, table.y.key, *objectives}
        assert table.is_projection == (table.axes != objectives)
        assert ("on_projected_front" in shown) == table.is_projection
        edge = "on_projected_front" if table.is_projection else "on_front"
        projected = brute_force(networks, table.axes, limit)
        assert {*shown.loc[shown[edge], "digest"]} == projected


@settings(max_examples=10, deadline=None)
@pytest.mark.usefixtures("few_draws")
@given(
    networks=st.lists(st.tuples(network, seeds, st.booleans()), min_size=1, max_size=8),
    keys=st.tuples(some_keys, some_keys),
)
def test_each_study_of_a_figure_is_judged_by_its_own_objectives(
    networks: list[tuple[Values, list[float], bool]], keys: tuple[list[str], list[str]]
) -> None:
    objectives = {
        folder: {key: DIRECTIONS[key] for key in of} for folder, of in zip("ab", keys, strict=True)
    }
    frame = pd.concat([frame_of(networks, folder) for folder in "ab"], ignore_index=True)
    frame = frame.sample(frac=1, random_state=len(frame))  # rows of the studies are mixed
    trials = Trials(frame=frame, objectives=objectives["a"], study_objectives=objectives)
    rows = make_pareto_table(trials, "macs", "val_nll").rows
    for folder, of in objectives.items():
        members = rows[rows["on_front"] & rows["folder"].eq(folder)]
        assert {*members["digest"]} == brute_force(networks, of)


def test_two_axes_decide_only_where_no_study_states_objectives() -> None:
    networks: Any = [({**dict.fromkeys(DIRECTIONS, 1.0), "macs": float(i)}, [0.0], False)
                     for i in range(3)]  # fmt: skip
    table = make_pareto_table(Trials(frame=frame_of(networks, "nowhere")), "macs", "val_nll")
    assert table.rows["on_front"].tolist() == [True, False, False]
    assert not table.is_projection
    with pytest.raises(UserError, match="no objectives"):
        front(frame_of(networks, "nowhere"))


def test_baselines_and_other_conditions_do_not_compete() -> None:
    networks: Any = [(dict.fromkeys(DIRECTIONS, float(i)), [0.0], False) for i in range(4)]
    frame = frame_of(networks, "a").assign(condition=["", "", "warm", ""])
    frame.loc[0, ["arm", "baseline"]] = ["resnet", True]
    rows = front(frame, {"val_nll": "min", "macs": "min"})
    assert rows["on_front"].tolist() == [False, True, True, False]
    assert rows["rank"].tolist() == [pd.NA, 1, 1, 2]


# three objectives: every network but #4 is on the front, in two of them only #1 and #2 are
THREE = {"val_nll": "min", "my_cost": "min", "params": "min"}
TWO = {"val_nll": "min", "my_cost": "min"}
POINTS = [(0.1, 9.0, 30), (0.4, 1.0, 40), (0.3, 9.5, 20), (0.5, 9.9, 50), (0.6, 9.6, 10)]
MEMBERS = {"three": {"#1", "#2", "#3", "#5"}, "two": {"#1", "#2"}}


@pytest.fixture
def studies(tmp_path: Path, ledgers: Ledgers) -> dict[str, Path]:
    records = [
        {"state": "done", "metrics": {"val_nll": nll, "my_cost": cost, "val_accuracy": 90.0 + i},
         "cost": {"params": params, "macs": 7, "macs_core": 1, "activations": 1}}
        for i, (nll, cost, params) in enumerate(POINTS)
    ]  # fmt: skip
    records.append({**records[0], "arm": "resnet", "name": "resnet", "digest": "f" * 16})
    return {
        name: ledgers(tmp_path / name, records, study={"study": name, "objectives": of})
        for name, of in (("three", THREE), ("two", TWO))
    }


def run_cli(*arguments: object) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert ended.value.code == 0


def labels(output: str) -> set[str]:
    """Return the labels of networks that begin the rows of a printed table."""
    return {*re.findall(r"^[ |]*(#\d+) ", output, re.M)}


@pytest.mark.parametrize("name", ["three", "two"])
def test_every_output_shows_the_same_front_and_all_objectives(
    studies: dict[str, Path], name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, objectives = studies[name], THREE if name == "three" else TWO
    members = MEMBERS[name]

    def printed(*arguments: object) -> str:
        run_cli(*arguments)
        return capsys.readouterr().out

    axes = ("-x", "macs", "-y", "val_accuracy") if name == "two" else ()
    for arguments in (("status", folder), ("pareto", folder, *axes, "-o", tmp_path / "f.svg")):
        output = printed(*arguments)
        assert labels(output) == members
        assert all(re.search(rf"\b{key}\b", output) for key in objectives)
        assert ("projection on" in output) == (arguments[0] == "pareto")
    assert labels((tmp_path / "f.md").read_text()) == members
    for file in ("f.svg", "f.csv"):
        assert not verify(tmp_path / file, [folder]).differences
    heads, *rows = table_rows(table_artefact([folder]).content(".md").decode())
    assert {row[0] for row in rows if row[0].startswith("#")} == members
    wanted = {"val_nll": "Validation NLL (nats)", "my_cost": "My cost", "params": "Params"}
    assert {wanted[key] for key in objectives} <= {*heads}
    text = (tmp_path / "f.csv").read_text().split("\n", 1)[1]
    table = [*csv.DictReader(io.StringIO(text))]
    assert {row["label"] for row in table if row["on_front"] == "True"} == members
    assert {*objectives} <= table[0].keys()
    trials = load_trials(folder)
    assert {*select_networks(folder, "front")} == members == front_names(trials)
    page = write_report(folder, tmp_path / "r.html").read_text()
    sheet = page[page.index('id="front-table"') :].partition("</table>")[0]
    shown = re.findall(r"<tr><th[^>]*>(#\d+)</th><td>yes</td>", sheet)
    assert {*shown} == members
    names = {"val_nll": "Validation NLL", "my_cost": "My cost", "params": "Parameters"}
    assert all(names[key] in sheet for key in objectives)
    assert ("Projection:" in page) == ("off the line (" in page) == (name == "three")


def table_rows(markdown: str) -> Iterator[list[str]]:
    for line in markdown.splitlines():
        if line.startswith("| ") and not line.startswith("| ---"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def test_a_projection_says_so_and_marks_what_it_hides(
    studies: dict[str, Path], tmp_path: Path
) -> None:
    trials = load_trials(studies["three"])
    drawn = pareto_figure(trials, tmp_path / "f.svg", x="my_cost", y="val_nll")
    rows = drawn.table.set_index("label")
    assert {*rows.index[rows["on_front"]]} == MEMBERS["three"]
    assert {*rows.index[rows["on_projected_front"]]} == MEMBERS["two"]
    for words in (
        "no other one of the study dominates in validation NLL, my cost and parameters",
        "Projection: the figure shows two quantities",
        "Off the line (diamonds): 2 of 4 members",
    ):
        assert words in drawn.caption
    own = pareto_figure(load_trials(studies["two"]), tmp_path / "g.svg")
    assert "Projection" not in own.caption
    assert "on_projected_front" not in own.table


def test_members_without_a_drawn_quantity_are_counted_and_stay_in_the_table(
    studies: dict[str, Path],
) -> None:
    trials = load_trials(studies["two"])
    frame = trials.frame
    slow = frame["trial"].eq(1)
    frame = frame.assign(latency_ms=frame["latency_ms"].mask(~slow, 2.0))
    table = make_pareto_table(trials.with_frame(frame), "latency_ms", "val_accuracy")
    assert {*table.rows.loc[table.rows["on_front"], "label"]} == {"#2"}
    assert table.undrawn["label"].tolist() == ["#1"]
    assert {*table.all_rows.loc[table.all_rows["on_front"], "label"]} == {"#1", "#2"}


def test_studies_with_other_objectives_share_a_figure_but_no_hypervolume(
    studies: dict[str, Path], tmp_path: Path
) -> None:
    both = [studies["three"], studies["two"]]
    rows = pareto_table(load_trials(both), "macs", "val_nll")
    for folder, name in zip(both, ("three", "two"), strict=True):
        of_study = rows[rows["folder"].eq(str(folder)) & rows["on_front"]]
        assert {*of_study["label"]} == MEMBERS[name]
    with pytest.raises(UserError, match="hypervolumes of different objectives"):
        study_figure("convergence", both, tmp_path / "c.svg")


@pytest.mark.parametrize(
    ("objectives", "axes"),
    [
        ({"my_cost": "min", "val_nll": "min"}, ("val_nll", "my_cost")),
        ({"macs": "min", "params": "min"}, ("macs", "params")),
        ({"val_nll": "min"}, ("macs", "val_nll")),
        ({"params": "min", "val_accuracy": "max", "val_nll": "min"}, ("params", "val_accuracy")),
    ],
)
def test_default_axes_are_objectives(objectives: Any, axes: tuple[str, str]) -> None:
    frame = pd.DataFrame({"throughput_img_s": [np.nan]})
    assert Trials(frame=frame, objectives=objectives).default_axes() == axes


def test_brute_force_knows_dominance() -> None:
    points: Any = [({**dict.fromkeys(DIRECTIONS, 0.0), "macs": a, "params": b}, [0.0], False)
                   for a, b in itertools.product((0.0, 1.0), repeat=2)]  # fmt: skip
    assert brute_force(points, {"macs": "min", "params": "min"}) == {"0"}
