"""The parts of the acceptance run on a GPU work on the CPU, as far as they can."""

import sys
import tempfile
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from gpu_acceptance import LOGIT_BOUNDS, NEED_A_GPU, PARTS, Facts, Machine, run_parts

pytestmark = pytest.mark.slow
CPU = Machine("cpu")


@pytest.fixture(autouse=True)
def _separate_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.mark.parametrize("part", sorted({*PARTS} - {*NEED_A_GPU, "precision", "repeat", "poison"}))
def test_parts_run_on_the_cpu(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_parts([part], CPU) == 0
    output = capsys.readouterr().out
    assert len(output.splitlines()) > 2
    assert "failed" not in output


def test_logits_are_within_their_bounds() -> None:
    gaps = {fact.what.split()[-1]: float(str(fact.value)) for fact in PARTS["precision"](CPU)}
    assert gaps.keys() == LOGIT_BOUNDS.keys() - {"tfloat32"}
    assert all(0 < gap <= LOGIT_BOUNDS[name] for name, gap in gaps.items())


def test_trainings_repeat_on_the_cpu() -> None:
    values = [fact.value for fact in PARTS["repeat"](CPU)]
    assert values == ["0.0e+00", "0.0e+00", True]


def test_a_broken_network_fails() -> None:
    broken, whole = (str(fact.value) for fact in PARTS["poison"](CPU))
    assert broken == "failed: IndexError: index 9 is out of bounds for dimension 0 with size 4"
    assert whole.startswith("done")


def test_a_part_that_raises_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: Machine) -> Facts:
        """Nothing works."""
        raise RuntimeError("no device")

    monkeypatch.setitem(PARTS, "env", broken)
    assert run_parts(["env", "stranger"], CPU) == 1
    output = capsys.readouterr().out
    assert "no device" in output
    assert "needs a GPU" in output
