import csv
import io
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partialnas.analysis import ParetoOptions, pareto_figure
from partialnas.analysis.frames.load import empty_trials
from partialnas.analysis.pareto.references import load_reference_families
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.presets import preset
from partialnas.space.cost.cost import compute_cost
from partialnas.space.errors import UserError

Frames = Callable[..., pd.DataFrame]
PUBLISHED = Path("tests/space/published.csv")


def test_published_counts_equal_those_of_the_presets() -> None:
    table = load_reference_families(["partialnet", "fasternet"])
    assert len(table) == 12
    for row in table.itertuples():
        counted = compute_cost(preset(str(row.name)), InputSpec.square(224))
        assert (row.params, row.macs) == (counted.params, counted.macs), row.name


def test_published_values_agree_with_independent_counts() -> None:
    with PUBLISHED.open() as file:
        counted = {(int(row["params"]), int(row["macs"])) for row in csv.DictReader(file)}
    table = load_reference_families(["partialnet", "fasternet"])
    assert {*zip(table["params"], table["macs"], strict=True)} <= counted


def test_families_can_be_drawn_without_a_study(tmp_path: Path) -> None:
    options = ParetoOptions(families=["partialnet", "fasternet"], size="params")
    drawn = pareto_figure(
        empty_trials(), tmp_path / "f.svg", x="macs", y="val_accuracy", options=options
    )
    assert drawn.table["member"].tolist().count("T0") == 2
    assert "ImageNet-1K at 224 px" in drawn.caption
    assert "arXiv:2502.01303" in drawn.caption
    assert "Marker area" in drawn.caption


def test_timm_results_replace_published_speeds(tmp_path: Path) -> None:
    speeds = tmp_path / "benchmark.csv"
    speeds.write_text(
        "model,infer_samples_per_sec,infer_step_time,infer_batch_size,infer_img_size,infer_gmacs,"
        "param_count\nfasternet_t0.in1k,5000,51.2,256,224,0.34,3.91\nresnet18,3000,85,256,224,1.82,"
        "11.69\nbroken,,,,,,\n"
    )
    accuracies = tmp_path / "results.csv"
    accuracies.write_text("model,top1,param_count,img_size\nresnet18,71.5,11.69,224\n")
    table = load_reference_families(["fasternet", "resnet"], [speeds, accuracies]).set_index("name")
    assert table.loc["fasternet_t0", ["throughput_img_s", "val_accuracy"]].tolist() == [5000, 71.9]
    assert table.loc["fasternet_t0", "macs"] == 338041280  # counted here, not rounded by timm
    assert pd.isna(table.loc["fasternet_t1", "throughput_img_s"])
    assert table.loc["resnet18", ["val_accuracy", "params"]].tolist() == [71.5, 11_690_000]
    assert load_reference_families(["partialnet"], [speeds])["throughput_img_s"].isna().all()


def test_impossible_family_requests_are_errors(tmp_path: Path, frames: Frames) -> None:
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("a,b\n1,2\n")
    timm = tmp_path / "timm.csv"
    timm.write_text("model,top1\nresnet18,71.5\n")
    calls: list[tuple[str, Callable[[], object]]] = [
        (
            "unknown family 'nothing'; choose partialnet or fasternet",
            lambda: load_reference_families(["nothing"]),
        ),
        ("not a results file of timm", lambda: load_reference_families(["resnet"], [wrong])),
        ("cannot be read", lambda: load_reference_families(["resnet"], [tmp_path / "absent.csv"])),
        ("choose the families", lambda: load_reference_families([], [timm])),
    ]
    for message, call in calls:
        with pytest.raises(UserError, match=message):
            call()
    options = ParetoOptions(families=["fasternet"])
    with pytest.raises(UserError, match="for mnist5k at 28 px: they cannot share an axis"):
        pareto_figure(frames(5, 1), tmp_path / "f.pdf", x="macs", options=options)
    pareto_figure(
        frames(5, 1).assign(data="folder:imagenet", resolution=224, device=None),
        tmp_path / "f.svg", x="macs", y="val_accuracy", options=options,
    )  # fmt: skip


CELLS = st.one_of(
    st.text(max_size=8),
    st.floats().map(str),
    st.integers().map(str),
    st.sampled_from(["", "1e400", "-1", "nan", "0", "9" * 400, "resnet18", "resnet50.a1"]),
)
HEADS = st.sampled_from(["model", "top1", "param_count", "infer_samples_per_sec", "img_size", "x"])


@settings(max_examples=100, deadline=None)
@given(
    heads=st.lists(HEADS, max_size=5),
    rows=st.lists(st.lists(CELLS, max_size=6), max_size=4),
    noise=st.binary(max_size=3),
)
def test_any_results_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, heads: list[str], rows: list[list[str]], noise: bytes
) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([["model", *heads], *(["resnet18", *row] for row in rows)])
    path = tmp_path_factory.mktemp("timm") / "results.csv"
    path.write_bytes(text.getvalue().encode("utf-8", "replace") + noise)
    with suppress(UserError):
        table = load_reference_families(["resnet"], [path])
        numbers = table[["test_accuracy", "params", "throughput_img_s", "resolution"]]
        assert numbers.gt(0).where(numbers.notna(), True).all(axis=None)
        assert numbers.lt(math.inf).where(numbers.notna(), True).all(axis=None)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\x00", b"model\n", b"model,top1\n" + b'"' + b"x" * 200_000, b"\x00" * 10],
    ids=["empty", "binary", "one column", "huge cell", "zeros"],
)
def test_a_file_that_is_no_results_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "results.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"results\.csv: "):
        load_reference_families(["resnet"], [path])
