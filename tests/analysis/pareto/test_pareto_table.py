import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from partialnas.analysis import pareto_figure, pareto_table
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.pareto.table import make_pareto_table
from partialnas.commands.studies.status import front_table
from partialnas.space.errors import UserError

Frames = Callable[..., pd.DataFrame]


def test_table_holds_the_front_first_and_every_architecture_once(frames: Frames) -> None:
    frame = frames(20, 2, baselines=("resnet10",))
    table = pareto_table(frame, "macs", "val_accuracy")
    assert table["digest"].is_unique
    assert len(table) == frame.loc[frame["state"].eq("done"), "digest"].nunique()
    assert table["on_front"].is_monotonic_decreasing
    members = table[table["on_front"]]
    assert members["macs"].is_monotonic_increasing
    assert members["val_accuracy"].is_monotonic_increasing
    assert members["family"].eq("").all()
    searched = table[table["family"].eq("")]
    for row in searched[~searched["on_front"]].itertuples():
        better = members[
            members["macs"].le(row.macs) & members["val_accuracy"].ge(row.val_accuracy)
        ]
        assert len(better)


def test_axes_default_to_the_objectives_of_the_study(frames: Frames) -> None:
    frame = frames(3, 1, failed=0)
    assert [*make_pareto_table(Trials(frame=frame)).objectives] == ["throughput_img_s", "val_nll"]
    stated = Trials(frame=frame, objectives={"macs": "min", "val_accuracy": "max"})
    assert [*make_pareto_table(stated).objectives] == ["macs", "val_accuracy"]
    unmeasured = frames(3, 1, failed=0).assign(throughput_img_s=np.nan)
    assert make_pareto_table(Trials(frame=unmeasured)).x.key == "macs"


def test_error_bars_are_seed_deviation_and_measurement_interval(
    frames: Frames,
) -> None:
    frame = frames(4, 3, failed=0)
    table = pareto_table(frame, "throughput_img_s", "val_nll").set_index("digest")
    spread = frame.groupby("digest")["val_nll"].std()
    high, low = table["val_nll_high"], table["val_nll_low"]
    assert (high - table["val_nll"]).to_dict() == pytest.approx(spread.to_dict())
    assert (table["val_nll"] - low).to_dict() == pytest.approx(spread.to_dict())
    speed = table["throughput_img_s"]
    assert (table["throughput_img_s_low"] / speed).tolist() == pytest.approx([0.985] * 4)
    assert (table["throughput_img_s_high"] / speed).tolist() == pytest.approx([1.02] * 4)
    slow = pareto_table(frame, "latency_ms", "params").set_index("digest")
    assert (slow["latency_ms_low"] / slow["latency_ms"]).tolist() == pytest.approx([1 / 1.02] * 4)
    assert slow["params_low"].isna().all()


def test_baselines_of_one_family_are_grouped(frames: Frames) -> None:
    arms = ("fasternet_t0", "fasternet-t1", "mobilenetv3_small_100", "resnet10")
    table = pareto_table(frames(5, 1, failed=0, baselines=arms)).set_index("arm")
    assert table.loc[["fasternet_t0", "fasternet-t1"], "family"].tolist() == ["fasternet"] * 2
    assert table.loc[["fasternet_t0", "fasternet-t1"], "member"].tolist() == ["T0", "T1"]
    alone = table.loc[["mobilenetv3_small_100", "resnet10"]]
    assert alone["family"].tolist() == ["mobilenetv3_small_100", "resnet10"]
    assert alone["member"].tolist() == ["", ""]


def test_conditions_share_no_front(frames: Frames) -> None:
    frame = frames(architectures=4)
    frame["condition"] = ["small", "large"] * 4
    with pytest.raises(UserError, match="choose one of small, large as the condition"):
        pareto_table(frame, "throughput_img_s", "val_nll")
    one = frame[frame["condition"].eq("large")]
    assert set(pareto_table(one, "throughput_img_s", "val_nll")["condition"]) == {"large"}


def test_each_study_has_its_own_front(frames: Frames) -> None:
    frame = frames(6, 1, failed=0)
    worse = frame.assign(folder="no-ledger/other", val_nll=frame["val_nll"] + 1)
    table = pareto_table(pd.concat([frame, worse], ignore_index=True))
    fronts = table[table["on_front"]].groupby("folder")["digest"].agg(set)
    assert fronts["no-ledger/other"] == fronts["no-ledger/quickstart"]


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_the_same_trials_give_the_same_bytes(tmp_path: Path, frames: Frames, suffix: str) -> None:
    frame = frames(12, 2, baselines=("fasternet_t0", "fasternet_t1"))
    first, second = (pareto_figure(frame, tmp_path / n / f"f.{suffix}").files for n in "ab")
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


SCRIPT = """
import sys
import pandas as pd
from partialnas.analysis import pareto_figure
pareto_figure(pd.read_pickle(sys.argv[1]), sys.argv[2])
"""


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(tmp_path: Path, frames: Frames) -> None:
    frame = frames(12, 2)
    frame.to_pickle(tmp_path / "frame")
    here = pareto_figure(frame, tmp_path / "here.pdf").files[0]
    command = [sys.executable, "-c", SCRIPT, tmp_path / "frame", tmp_path / "there.pdf"]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "7"})
    assert (tmp_path / "there.pdf").read_bytes() == here.read_bytes()


def test_pdf_embeds_its_fonts_and_carries_no_date(tmp_path: Path, frames: Frames) -> None:
    content = pareto_figure(frames(5), tmp_path / "f.pdf").files[0].read_bytes()
    assert b"/FontFile2" in content
    assert b"/Type3" not in content
    assert b"CreationDate" not in content


def test_style_settings_are_restored(tmp_path: Path, frames: Frames) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    pareto_figure(frames(5), tmp_path / "f.png", style="neurips")
    assert dict(mpl.rcParams) == before


def test_table_and_caption_are_written_beside_the_figure(tmp_path: Path, frames: Frames) -> None:
    frame = frames(20, 2, failed=3, baselines=("resnet10",))
    frame.loc[frame["digest"].eq("d000000000000004"), "noisy"] = True
    result = pareto_figure(frame, tmp_path / "front.svg")
    assert [path.name for path in result.files] == ["front.svg", "front.csv", "front.md"]
    table = pd.read_csv(tmp_path / "front.csv")
    assert table["val_nll"].tolist() == pytest.approx(result.table["val_nll"].tolist())
    text = (tmp_path / "front.md").read_text()
    assert result.caption in text
    assert all(label in text for label in result.table.query("on_front")["label"])
    assert "| resnet10 " in text
    for words in (
        "architectures of quickstart and 1 baseline, trained on mnist5k for 4 epochs.",
        "a mean over 1 to 2 seeds",
        "Vertical bars: ± one standard deviation (n − 1) over seeds",
        "Horizontal bars: 95 % interval",
        "Throughput: AMD EPYC 9B14, 1 thread, batch 32, 28 px, float32, deploy form, timed ",
        "Hollow markers: noisy measurements (1)",
        "Compute: 42 trials, ",
        "; 3 failed",
    ):
        assert words in result.caption


def test_caption_states_that_one_seed_has_no_spread(tmp_path: Path, frames: Frames) -> None:
    caption = pareto_figure(frames(5, 1), tmp_path / "f.png", x="macs").caption
    assert "One seed per architecture: the spread between seeds is unknown." in caption
    assert "bars" not in caption


def test_noisy_timings_are_marked_only_on_measured_axes(tmp_path: Path, frames: Frames) -> None:
    frame = frames(5, 1, failed=0).assign(noisy=True)
    assert "noisy" not in pareto_figure(frame, tmp_path / "f.png", x="macs").caption
    caption = pareto_figure(frame, tmp_path / "f.png", x="latency_ms").caption
    assert "noisy measurements (5)" in caption


def test_noisy_timings_are_marked_and_explained_in_the_table(
    tmp_path: Path, frames: Frames
) -> None:
    frame = frames(5, 1, failed=0)
    pareto_figure(frame, tmp_path / "quiet.png")
    assert "~" not in (tmp_path / "quiet.md").read_text()
    table = pareto_figure(frame.assign(noisy=True), tmp_path / "noisy.png").table
    text = (tmp_path / "noisy.md").read_text()
    for row in table[table["on_front"]].itertuples():
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {row.label} ")]
        timed = [cell.strip() for cell in line.split("|") if "~" in cell]
        figures = [float(cell.removeprefix("~").replace(",", "")) for cell in timed]
        assert figures == pytest.approx([row.throughput_img_s, row.relative_throughput], rel=1e-3)
    assert "\n~: noisy timing" in text


def test_noisy_timings_are_marked_on_the_terminal(frames: Frames) -> None:
    def printed(frame: pd.DataFrame, *axes: str) -> str:
        console = Console(file=io.StringIO(), width=120)
        with console.capture() as captured:
            console.print(front_table(Trials(frame=frame), *axes))
        return captured.get()

    frame = frames(5, 1, failed=0)
    noisy = frame.assign(noisy=True)
    assert "~" not in printed(frame)
    assert "~" not in printed(noisy, "macs", "val_nll")
    front = pareto_table(frame)["on_front"].sum()
    *rows, note = [line for line in printed(noisy).splitlines() if "~" in line]
    assert len(rows) == front
    assert note.startswith("~: noisy timing")


def test_invalid_requests_are_errors_and_write_nothing(tmp_path: Path, frames: Frames) -> None:
    frame = frames(4, 1, failed=0)
    calls: list[tuple[str, Callable[[], object]]] = [
        ("no trials", lambda: pareto_figure(frame.iloc[:0], tmp_path / "f.pdf")),
        (r"ends in \.pdf, \.svg, \.png", lambda: pareto_figure(frame, tmp_path / "f.jpg")),
        ("choose cvpr", lambda: pareto_figure(frame, tmp_path / "f.pdf", style="x")),  # type: ignore[arg-type]
        ("did you mean macs", lambda: pareto_figure(frame, tmp_path / "f.pdf", x="mac")),
        ("on both axes", lambda: pareto_figure(frame, tmp_path / "f.pdf", x="macs", y="macs")),
    ]
    for message, call in calls:
        with pytest.raises(UserError, match=message):
            call()
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is a file, not a folder"):
        pareto_figure(frame, tmp_path / "file" / "f.pdf")


def test_error_states_why_all_trials_failed(tmp_path: Path, frames: Frames) -> None:
    with pytest.raises(
        UserError, match=r"trials: 6 failed \(most often: the loss is NaN in epoch 2"
    ):
        pareto_figure(frames(6, 1, failed=6), tmp_path / "f.pdf")


def test_speeds_measured_in_different_ways_share_no_axis(tmp_path: Path, frames: Frames) -> None:
    other = frames(4, 1, folder="no-ledger/other").assign(threads=2)
    frame = pd.concat([frames(4, 1), other], ignore_index=True)
    with pytest.raises(UserError, match=r"2 protocols.*1 thread.*2 threads"):
        pareto_figure(frame, tmp_path / "f.pdf", x="latency_ms")
    pareto_figure(frame, tmp_path / "f.pdf", x="macs")
