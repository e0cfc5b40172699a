import base64
import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partialnas.analysis.report import points as report_points
from partialnas.analysis.report.report import report_artefact, write_report
from partialnas.analysis.report.svg import Box, linear_scale, place_labels, quantity_scale
from partialnas.analysis.verification import verify
from partialnas.cli import main
from partialnas.commands.results import report as report_overview
from partialnas.runs.config.design import Design, DesignArm
from partialnas.runs.config.quantities import QUANTITIES
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.study_meta import dry_run_name
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.record import Record
from partialnas.space.arch.plan import Plan
from partialnas.space.errors import UserError

HOSTILE = (
    "</script></title><script>window.hit=1</script><img src=x onerror=hit()>`<b onclick=hit()>`\"'&"
)
TASK = json.dumps({"data": "mnist5k", "resolution": 28, "channels": 1, "classes": 10})

Made = Callable[..., Any]


class Page(HTMLParser):
    """The elements of a page with their attributes, and the text of each kind of element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br", "img", "path", "circle", "rect"):
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        for tag in {*self._open}:
            self.texts[tag][-1] += data

    def of(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]

    @property
    def data(self) -> Any:
        return json.loads(self.texts["script"][0])


def page_of(folder: Path, **options: Any) -> Page:
    return Page(report_artefact(folder, **options).content(".html").decode())


def record(number: int, nll: float | None, **changes: Any) -> dict[str, Any]:
    ended = {"state": "done", "metrics": {"val_nll": nll, "val_accuracy": 90.0}}
    failed = {"state": "failed", "reason": "the loss is NaN in epoch 2"}
    cost = {
        "params": 1000 + number,
        "macs": 10_000 + 100 * number,
        "macs_core": 1,
        "activations": 1,
    }
    return {"cost": cost, **(failed if nll is None else ended), **changes}


def search_of(folder: Path, ledgers: Made, measure: Made, number: int = 12, **options: Any) -> Path:
    records = options.pop("records", None)
    if records is None:
        records = [record(i, 0.1 + 0.5 * ((7 * i) % number) / number) for i in range(number)]
    timed: list[Measurement] = [
        measure(f"{i:016x}", 1 + i / len(records), 1000.0) for i in range(len(records))
    ]
    path: Path = ledgers(folder, records, timed, **options)
    return path


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, ledgers: Made, measure: Made) -> Path:
    return search_of(tmp_path_factory.mktemp("searched") / "study", ledgers, measure)


@pytest.fixture(scope="module")
def text(searched: Path) -> str:
    return report_artefact(searched).content(".html").decode()


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_user_input_stays_text(tmp_path: Path, ledgers: Made, measure: Made) -> None:
    records = [record(i, 0.2 + 0.1 * i, arm=f"{HOSTILE}{i}", name=HOSTILE) for i in range(3)]
    records.append(record(3, None, reason=HOSTILE))
    folder = search_of(
        tmp_path / "study", ledgers, measure, records=records,
        study={"study": HOSTILE, "question": HOSTILE, "space": {"axes": {HOSTILE: [HOSTILE]}}},
        meta={"growth": json.dumps([{"when": "2026-01-01T00:00:00", "lines": [HOSTILE]}])},
    )  # fmt: skip
    page = page_of(folder)
    assert [script.get("type") for script in page.of("script")] == ["application/json", None]
    assert not page.of("img")
    assert not [k for _, attributes in page.elements for k in attributes if k.startswith("on")]
    assert page.texts["h1"] == [HOSTILE]
    labels = {network["label"] for network in page.data["networks"].values()}
    assert labels == {f"{HOSTILE}{i}" for i in range(3)}
    assert any(HOSTILE in cell for cell in page.texts["td"])
    assert not page.of("b")


def test_text_between_backticks_is_code(page: Page) -> None:
    warning = next(item for item in page.texts["li"] if item.startswith("Every network was"))
    assert "partialnas confirm" in page.texts["code"]
    assert "partialnas confirm" in warning
    assert "`" not in warning


def test_arms_of_a_design_are_escaped_too(tmp_path: Path, ablations: Made) -> None:
    arms = [DesignArm(name="base"), DesignArm(name=HOSTILE, against="base")]
    design = Design(kind="arms", arms=tuple(arms))
    values = {"base": {0: 90.0, 1: 91.0}, HOSTILE: {0: 92.0, 1: 94.0}}
    page = page_of(ablations(tmp_path / "study", values, design))
    assert len(page.of("script")) == 2
    assert not page.of("img")
    assert HOSTILE in page.texts["th"]


def test_nothing_is_loaded_and_the_policy_allows_only_the_own_script_and_style(
    page: Page, text: str
) -> None:
    addresses = [
        str(value)
        for _, attributes in page.elements
        for key, value in attributes.items()
        if key in ("href", "src", "srcset", "action", "data", "poster", "xlink:href")
    ]
    assert addresses
    assert all(address.startswith("#") for address in addresses)
    assert not page.of("link")
    assert "@import" not in text
    assert "url(" not in text
    assert {*re.findall(r"https?://[^\"'\s]+", text)} == {"http://www.w3.org/2000/svg"}
    meta = [m for m in page.of("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    policy = dict(part.strip().split(" ", 1) for part in str(meta[0]["content"]).split(";"))
    assert policy["default-src"] == "'none'"
    for kind, content in (
        ("script-src", page.texts["script"][1]),
        ("style-src", page.texts["style"][0]),
    ):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[kind] == f"'sha256-{digest}'"
    assert not [attributes for _, attributes in page.elements if "style" in attributes]


def test_the_same_ledger_gives_the_same_bytes_at_any_place_and_time(
    searched: Path, text: str, tmp_path: Path
) -> None:
    moved = shutil.copytree(searched, tmp_path / "elsewhere" / "copy")
    time.sleep(0.01)
    assert write_report(moved, tmp_path / "two.html").read_bytes() == text.encode()


def test_a_report_is_verified_and_a_changed_number_is_detected(
    searched: Path, text: str, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    path.write_text(text)
    assert not verify(path, [searched]).differences
    cell = re.search(r'<td class="n">(0\.\d{4})</td>', text)
    assert cell is not None
    path.write_text(text.replace(cell[0], '<td class="n">0.0001</td>', 1))
    (difference,) = verify(path, [searched]).differences
    assert (difference.file, difference.ledger) == ("0.0001", cell[1])


def test_points_are_at_their_values(page: Page) -> None:
    at = {
        str(a["data-id"]): [*map(float, re.findall(r"[\d.]+", str(a["transform"])))]
        for a in page.of("g")
        if "data-id" in a
    }  # the narrow figure, which comes last
    values = {
        key: [float(text.split()[0].replace(",", "")) for _, text in network["values"]]
        for key, network in page.data["networks"].items()
    }
    assert len(at) == len(values) == 12
    y, x = np.array([values[key] for key in at]).T
    across, up = np.array([*at.values()]).T
    for value, pixel in ((x, across), (y, up)):
        slope, start = np.polyfit(value, pixel, 1)
        assert np.abs(slope * value + start - pixel).max() < 1
    assert np.polyfit(x, across, 1)[0] > 0 > np.polyfit(y, up, 1)[0]


def test_the_front_is_that_of_brute_force(page: Page) -> None:
    networks = page.data["networks"].values()
    points = {
        n["label"]: tuple(float(text.split()[0].replace(",", "")) for _, text in n["values"])
        for n in networks
    }
    undominated = {
        name
        for name, (nll, speed) in points.items()
        if not any(a <= nll and b >= speed and (a, b) != (nll, speed) for a, b in points.values())
    }
    assert {n["label"] for n in networks if n["kind"] == "front"} == undominated


def test_many_networks_are_thinned_and_the_report_says_so(
    tmp_path: Path, ledgers: Made, measure: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = 24
    monkeypatch.setattr(report_points, "MAX_OTHERS", 5)
    folder = search_of(tmp_path / "study", ledgers, measure, number)
    text = report_artefact(folder).content(".html").decode()
    page = Page(text)
    kinds = [network["kind"] for network in page.data["networks"].values()]
    assert kinds.count("other") == 5
    rest = number - len(kinds)
    assert rest > 0
    assert f"the other {rest:,} are background dots" in " ".join(text.split())
    assert [a for a in page.of("path") if a.get("class") == "crowd"]


def test_blocks_ratios_and_curves_are_those_of_the_network(
    tmp_path: Path, ledgers: Made, learned: Made
) -> None:
    curve = [{"epoch": float(e), "val_accuracy": 80.0 + e} for e in range(1, 11)]
    records = [{**record, "curve": curve} for record in learned(seeds=2)]
    study = {"search": None, "objectives": {"val_accuracy": "max", "macs": "min"}}
    costs = {"params": 1, "macs": 5, "macs_core": 1, "activations": 1}
    records = [{**record, "cost": costs, "fidelity": 10} for record in records]
    study["recipe"] = {"epochs": 10}
    folder = ledgers(tmp_path / "study", records, study=study, meta={"task": TASK})
    (network,) = page_of(folder).data["networks"].values()
    assert [len(series["points"]) for series in network["curves"]["series"]] == [10, 10]
    assert network["curves"]["series"][0]["points"][-1] == [10, 90.0]
    assert network["ratios"]["seeds"] == [0, 1]
    ends = {name: first for name, first, _ in network["ratios"]["ends"]}
    wanted = records[0]["ratios"][-1].ratios
    assert ends == pytest.approx(wanted, rel=1e-3)
    blocks = [row for row in network["blocks"] if "parts" in row]
    assert [row["name"] for row in blocks][:2] == ["stage 1, block 1", "stage 2, block 1"]
    assert all(sum(part[1] for part in row["parts"]) == row["width"] for row in blocks)


@pytest.mark.slow
def test_blocks_have_the_parameters_of_the_network_that_torch_builds(
    tmp_path: Path, ledgers: Made, measure: Made
) -> None:
    from partialnas.space.nn.network import Network

    plan = Plan.model_validate({"stem_stride": 2, "width": 16, "head_width": 64})
    architecture = plan.architecture()
    subject = architecture.model_dump(mode="json")
    records = [record(0, 0.3, subject=subject)]
    folder = search_of(tmp_path / "s", ledgers, measure, records=records, meta={"task": TASK})
    (network,) = page_of(folder).data["networks"].values()
    built = sum(p.numel() for p in Network(architecture, 1, 10).parameters())
    assert sum(row["params"] for row in network["blocks"]) == built


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "no trials"),
        ([record(0, None), record(1, None)], "nothing to draw"),
        ([{}], "nothing to draw"),
    ],
)
def test_a_study_without_a_front_has_a_report_that_says_why(
    tmp_path: Path, ledgers: Made, records: list[dict[str, Any]], message: str
) -> None:
    page = page_of(ledgers(tmp_path / "study", records))
    assert any(message in text for text in page.texts["p"])
    assert page.data == {"networks": {}}


@pytest.mark.parametrize("nll", [[0.3], [0.3, 0.3, 0.3], [0.0, 0.0]])
def test_single_equal_and_zero_values_have_a_figure(
    tmp_path: Path, ledgers: Made, measure: Made, nll: list[float]
) -> None:
    records = [record(i, value) for i, value in enumerate(nll)]
    page = page_of(search_of(tmp_path / "study", ledgers, measure, records=records))
    assert len(page.data["networks"]) == len(nll)
    assert "nan" not in " ".join(str(a.get("transform")) for a in page.of("g"))


def test_failures_are_listed_by_reason_the_most_frequent_first(
    tmp_path: Path, ledgers: Made, measure: Made
) -> None:
    records = [record(0, 0.3), record(1, None, reason="rare"), record(2, None), record(3, None)]
    page = page_of(search_of(tmp_path / "study", ledgers, measure, records=records))
    cells = page.texts["td"]
    assert cells.index("the loss is NaN in epoch 2") < cells.index("rare")
    assert "#3, #4" in cells


def test_a_network_that_was_timed_twice_is_counted_once(
    tmp_path: Path, ledgers: Made, measure: Made
) -> None:
    records = [record(i, 0.3 + 0.1 * i) for i in range(3)]
    timed = [measure(f"{i:016x}", 1.0 + i, 1000.0) for i in (0, 1, 2, 1, 1)]
    text = report_artefact(ledgers(tmp_path / "study", records, timed)).content(".html").decode()
    (row,) = re.findall(r"<tr><th[^>]*>measuring</th>(.*?)</tr>", text)
    assert re.findall(r">([^<]*)</td>", row)[0] == "3"


@pytest.mark.parametrize(
    ("rungs", "message"),
    [
        ([], "sampler random, seed 0"),
        (
            [{"recipe.epochs": 1}],
            "sampler random, rungs recipe.epochs 1, promote 1/3, scheme restart, seed 0",
        ),
    ],
)
def test_only_settings_of_a_search_with_an_effect_are_shown(
    tmp_path: Path, ledgers: Made, measure: Made, rungs: list[dict[str, int]], message: str
) -> None:
    search = {"sampler": "random", "tournament": None, "rungs": rungs, "promote": "1/3"}
    study = {"search": {**search, "scheme": "restart", "seed": 0}}
    page = page_of(search_of(tmp_path / "study", ledgers, measure, 2, study=study))
    assert message in page.texts["dd"]


def test_conditions_have_a_front_each(tmp_path: Path) -> None:
    frozen = {"study": "s", "search": None, "arms": {}, "seeds": 1, "recipe": {"epochs": 1},
              "task": {"data": "digits"}, "objectives": {"val_nll": "min", "macs": "min"},
              "conditions": {"short": {}, "long": {}}}  # fmt: skip
    folder = tmp_path / "study"
    with Ledger.create(folder, {"study": "s", "frozen": json.dumps(frozen)}) as ledger:
        for i, condition in enumerate(frozen["conditions"]):
            number = ledger.add_proposal("a", "d" * 16, {}, {"condition": condition})
            key = f"{i:016x}"
            ledger.plan(number, digest="d" * 16, name="a", fidelity=1, keys={0: key})
            ledger.start(key)
            cost = {"params": 1, "macs": 7, "macs_core": 1, "activations": 1}
            facts = {"key": key, "digest": "d" * 16, "name": "a", "seed": 0, "fidelity": 1}
            metrics = {"val_nll": 0.5 + i}
            ledger.finish(Record(**facts, state="done", metrics=metrics, cost=cost))
    page = page_of(folder)
    heads = [head for head in page.texts["h2"] if head.startswith("Front")]
    assert heads == ["Front under short", "Front under long"]
    assert {n["values"][0][1] for n in page.data["networks"].values()} == {"0.5000", "1.5000"}
    assert any("--condition long" in text for text in page.texts["code"])


def test_a_rehearsal_is_marked(tmp_path: Path, ledgers: Made, measure: Made) -> None:
    name = dry_run_name("study")
    folder = search_of(tmp_path / "study", ledgers, measure, 2, study={"study": name})
    marked = page_of(folder)
    assert [a for a in marked.of("p") if a.get("class") == "banner rehearsal"]
    assert any("nothing was trained" in text for text in marked.texts["p"])


def test_data_sets_on_disk_are_shown_without_their_path(
    tmp_path: Path, ledgers: Made, measure: Made
) -> None:
    study = {"task": {"data": "folder:/home/someone/private/birds", "resolution": 28}}
    folder = search_of(tmp_path / "study", ledgers, measure, 2, study=study)
    text = report_artefact(folder).content(".html").decode()
    assert "folder:…/birds" in text
    assert "someone" not in text
    assert str(tmp_path) not in text


def test_a_watched_page_reloads_until_watching_ends(
    searched: Path, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / "watched.html", []

    def sleep(_: float) -> None:
        seen.append([m.get("content") for m in Page(path.read_text()).of("meta")])
        if len(seen) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(report_overview.time, "sleep", sleep)
    report_overview.write_page(searched, path, watch=True, every=7)
    assert all("7" in contents for contents in seen)
    last = Page(path.read_text()).of("meta")
    assert not [m for m in last if m.get("http-equiv") == "refresh"]
    assert path.read_bytes() == text.encode()


def test_user_errors(searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"ends in \.html"):
        write_report(searched, tmp_path / "report.pdf")
    with pytest.raises(SystemExit) as ended:
        main(["report", str(tmp_path / "nowhere")])
    assert ended.value.code == 2
    assert "no ledger" in capsys.readouterr().err


FINITE = st.floats(-1e6, 1e6).map(lambda v: round(v, 3))


@given(st.lists(FINITE, min_size=1, max_size=20), st.integers(2, 9))
def test_ticks_are_round_inside_and_in_order(values: list[float], most: int) -> None:
    scale = linear_scale("x", np.array(values), 10.0, 300.0)
    ticks = scale.ticks(most)
    assert 1 <= len(ticks) <= most + 2
    assert [t.at for t in ticks] == sorted(t.at for t in ticks)
    assert all(10 <= t.at <= 300 for t in ticks)


@given(st.lists(st.floats(1e-3, 1e9), min_size=1, max_size=20))
def test_an_axis_over_decades_is_logarithmic_with_correct_ticks(
    values: list[float],
) -> None:
    scale = quantity_scale(QUANTITIES["macs"], np.array(values), 60.0, 400.0)
    assert scale.log == (max(values) > 10 * min(values))
    pixels = scale.to_pixels(values)
    assert ((pixels > 60) & (pixels < 400)).all()
    for tick in scale.ticks(7):
        output = float(tick.text.replace(",", "")) * scale.factor
        assert float(scale.to_pixels([output])[0]) == pytest.approx(tick.at, abs=2)


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 300)), min_size=1, max_size=30))
def test_labels_cover_neither_points_nor_one_another(spots: list[tuple[int, int]]) -> None:
    points = np.array(spots, dtype=float)
    area = Box(0, 0, 400, 300)
    labels = place_labels(points, [f"#{i}" for i in range(len(spots))], points, area, (1, -1), 7.0)
    boxes = []
    for label in labels:
        wide = 7.0 * len(label.text)
        left = label.x - {"start": 0.0, "middle": wide / 2, "end": wide}[label.anchor]
        boxes.append((left, label.y - 9, left + wide, label.y + 3))
    for i, (left, top, right, bottom) in enumerate(boxes):
        assert left >= -0.1
        assert right <= 400.1
        for x, y in spots:
            assert not (left + 0.2 < x < right - 0.2 and top + 0.2 < y < bottom - 0.2)
        for a, b, c, d in boxes[:i]:
            assert right <= a + 0.2 or c <= left + 0.2 or bottom <= b + 0.2 or d <= top + 0.2
