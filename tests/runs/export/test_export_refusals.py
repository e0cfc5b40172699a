"""Exports that are refused, with the reason and without a file."""

from pathlib import Path
from typing import Any

import pytest
from trained_studies import (
    QUICK,
    TASK,
    TRAINED,
    add_trial,
    create_ledger,
    create_trained_study,
    export_model,
    job_of,
    learned,
    planned,
    randomize,
    record_of,
    save_trial_weights,
)

import partialnas.space.timm  # noqa: F401
from partialnas.runs.export import export_model as exporting
from partialnas.runs.records.subject import (
    TimmModel,
)
from partialnas.runs.system.files import weights_path
from partialnas.runs.trials.build import subject_cost
from partialnas.space.deploy.freeze import learned_mixers
from partialnas.space.errors import MachineError, UserError
from partialnas.space.nn.network import Network


def refusal(folder: Path, number: int, kind: type[Exception] = UserError) -> str:
    """Return the message of a refused export, which must write nothing."""
    with pytest.raises(kind) as error:
        export_model(folder, number, folder / "out", max_seconds=QUICK)
    assert not (folder / "out").exists()
    return str(error.value)


def test_ratios_that_depend_on_the_image_are_refused(tmp_path: Path) -> None:
    dynamic = planned(ratio=learned(per="input"))
    with create_ledger(tmp_path / "study") as ledger:
        number = add_trial(ledger, dynamic, record_of(dynamic))
    message = refusal(tmp_path / "study", number)
    assert "depend on the image" in message
    assert "learn the ratios per layer" in message


def test_a_missing_trial_is_refused(study: Path) -> None:
    assert "has no trial 99" in refusal(study, 99)
    assert "no ledger here" in refusal(study.parent / "locks", 1)


def test_only_finished_architectures_can_be_exported(tmp_path: Path) -> None:
    static = TRAINED["static"]
    bad = record_of(static, seed=1, state="failed", reason="loss became NaN in epoch 1")
    other = TimmModel(timm="resnet18")
    with create_ledger(tmp_path / "study") as ledger:
        planned_trial = add_trial(ledger, static)
        failed = add_trial(ledger, static, bad, seed=1)
        timm_trial = add_trial(ledger, other, record_of(other))
    assert "is planned: it can be exported once it is done" in refusal(
        tmp_path / "study", planned_trial
    )
    message = refusal(tmp_path / "study", failed)
    assert "failed (loss became NaN in epoch 1)" in message
    assert "partialnas status" in message
    assert "is resnet18, a model of timm" in refusal(tmp_path / "study", timm_trial)


@pytest.mark.parametrize(
    ("frozen", "remedy"),
    [
        ({"recipe": {"keep_weights": "none"}}, "recipe.keep_weights: all"),
        ({"recipe": {"keep_weights": "front"}}, "choose one of their trials"),
        ({"trial": "mine:evaluate"}, "the study calls mine:evaluate instead of training"),
    ],
)
def test_without_weights_the_message_suggests_a_remedy(
    frozen: dict[str, Any], remedy: str, tmp_path: Path
) -> None:
    static = TRAINED["static"]
    with create_ledger(tmp_path / "study", **frozen) as ledger:
        number = add_trial(ledger, static, record_of(static))
    message = refusal(tmp_path / "study", number)
    assert "its weights were not kept" in message
    assert remedy in message


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_damaged_weights_are_a_machine_error(
    share: float, trained_study: tuple[Path, Network]
) -> None:
    folder, _ = trained_study
    (path,) = (folder / "weights").iterdir()
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    message = refusal(folder, 1, MachineError)
    assert str(path) in message
    assert "damaged" in message


def test_weights_of_another_network_are_refused(
    trained_study: tuple[Path, Network], study: Path
) -> None:
    folder, network = trained_study
    (path,) = (folder / "weights").iterdir()
    path.write_bytes(weights_path(study, job_of(TRAINED["static"]).trial_keys[0]).read_bytes())
    assert "belongs to another network" in refusal(folder, 1)
    mixer = learned_mixers(network)[3, 0]
    first, *rest = mixer.sizes
    mixer.set_sizes([first + 1, rest[0] - 1] if rest[0] > 1 else [first - 1, 2.0], ramp=0.0)
    save_trial_weights(folder, TRAINED["threshold"], network)
    assert "its ratios differ from" in refusal(folder, 1)


def test_ratios_that_are_still_learned_are_refused(trained_study: tuple[Path, Network]) -> None:
    folder, network = trained_study
    mixer = learned_mixers(network)[0, 0]
    mixer.set_sizes(mixer.sizes, ramp=2.0)
    save_trial_weights(folder, TRAINED["threshold"], network)
    assert "still being learned" in refusal(folder, 1)


@pytest.mark.parametrize(("change", "difference"), [(1.01, r"differ by \d"), (float("nan"), "nan")])
def test_a_network_with_other_outputs_is_never_written(
    change: float,
    difference: str,
    trained_study: tuple[Path, Network],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, _ = trained_study
    freeze = exporting.freeze

    def change_weights(network: Network) -> Network:
        frozen = freeze(network)
        frozen.classifier.get_parameter("weight").data.mul_(change)
        return frozen

    monkeypatch.setattr(exporting, "freeze", change_weights)
    with pytest.raises(MachineError, match=rf"{difference}[\s\S]*Nothing was written"):
        export_model(folder, 1, folder / "out", max_seconds=QUICK)
    assert not (folder / "out").exists()


def test_a_cost_other_than_the_recorded_one_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = dict(subject_cost(TRAINED["static"], TASK))
    cost["macs"] += 1
    monkeypatch.setitem(create_trained_study.__globals__, "subject_cost", lambda *_: cost)
    create_trained_study(tmp_path / "study", TRAINED["static"], randomize(TRAINED["static"], 0))
    message = refusal(tmp_path / "study", 1, MachineError)
    assert f"macs differ: formula {cost['macs'] - 1}" in message
    assert f"recorded {cost['macs']}" in message


def test_a_folder_with_other_files_is_refused(trained_study: tuple[Path, Network]) -> None:
    folder, _ = trained_study
    out = folder / "out"
    out.mkdir()
    (out / "config.json").write_text("{}")
    (out / "proof.json").write_text('{"of": "a theorem"}')
    with pytest.raises(UserError, match=r"holds config.json and is not an earlier export"):
        export_model(folder, 1, out, max_seconds=QUICK)
    assert (out / "config.json").read_text() == "{}"
    with pytest.raises(UserError, match=r"config.json is a file, not a folder"):
        export_model(folder, 1, out / "config.json", max_seconds=QUICK)


def test_an_invalid_device_is_refused(trained_study: tuple[Path, Network]) -> None:
    folder, _ = trained_study
    with pytest.raises(UserError, match="device"):
        export_model(folder, 1, folder / "out", device="tpu")
    assert not (folder / "out").exists()
