from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from partialnas.runs.config.recipe import RECIPES, Recipe
from partialnas.space.validation import validation_messages


def test_short_has_the_settings_that_ranked_best() -> None:
    short = RECIPES["short"]
    assert (short.epochs, short.batch_size, short.optimizer) == (4, 64, "adamw")
    assert (short.lr, short.weight_decay, short.label_smoothing) == (1e-2, 0.05, 0.1)
    assert (short.schedule, short.warmup) == ("one_cycle", 0.25)


def test_standard_trains_longer() -> None:
    assert RECIPES["standard"].epochs > RECIPES["short"].epochs


def test_gpu_is_short_for_larger_batches() -> None:
    kept = {name: getattr(RECIPES["short"], name) for name in ("optimizer", "lr", "weight_decay")}
    assert {name: getattr(RECIPES["gpu"], name) for name in kept} == kept
    assert RECIPES["short"].precision == "float32"
    assert (RECIPES["gpu"].precision, RECIPES["gpu"].batch_size) == ("bfloat16", 512)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("epochs", 2.5),
        ("batch_size", 0),
        ("optimizer", "adam0"),
        ("lr", 0),
        ("lr", float("nan")),
        ("weight_decay", -0.1),
        ("schedule", "linear"),
        ("warmup", 1),
        ("warmup_steps", -1),
        ("cool_down", 0),
        ("label_smoothing", 1),
        ("mixup", -1),
        ("cutmix", -1),
        ("shift", -1),
        ("drop_path", 1),
        ("dropout", 1),
        ("precision", "int8"),
        ("ema", 1),
        ("clip_grad", -1),
        ("threads", 0),
        ("keep_weights", "some"),
        ("learning_rate", 0.1),
    ],
)
def test_errors_name_the_key(key: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        Recipe(**{key: value})
    (message,) = validation_messages(caught.value, "recipe")
    assert message.startswith(f"recipe.{key}: ")


def test_mixup_and_cutmix_need_two_images() -> None:
    with pytest.raises(ValidationError, match="batch_size of at least 2"):
        Recipe(batch_size=1, mixup=0.2)


def test_shift_defaults_to_a_share_of_the_resolution() -> None:
    assert [Recipe().shift_at(side) for side in (8, 28, 32, 224)] == [0, 2, 2, 16]
    assert Recipe(shift=3).shift_at(8) == 3


@given(st.integers(1, 1000), st.sampled_from(["all", "front", "none"]))
def test_identity_excludes_epochs_and_kept_weights(epochs: int, keep: Any) -> None:
    assert Recipe(epochs=epochs, keep_weights=keep).identity(
        has_learned_ratios=True
    ) == Recipe().identity(has_learned_ratios=True)


OF_TRAPEZOIDS = {"warmup_steps", "cool_down"}


@pytest.mark.parametrize(
    "name", sorted(set(Recipe.model_fields) - {"epochs", "keep_weights"} - OF_TRAPEZOIDS)
)
def test_identity_includes_all_other_settings(name: str) -> None:
    other: dict[str, Any] = {
        "optimizer": "sgd",
        "schedule": "cosine",
        "precision": "bfloat16",
        "data_share": 0.5,
        "width_share": 0.5,
    }
    usual = {float: 0.5, bool: True}.get(Recipe.model_fields[name].annotation, 3)  # type: ignore[call-overload]
    value = other.get(name, usual)
    assert Recipe(**{name: value}).identity(has_learned_ratios=True) != Recipe().identity(
        has_learned_ratios=True
    )


def test_identity_includes_the_settings_of_the_schedule_in_use() -> None:
    one_cycle = Recipe().identity(has_learned_ratios=True)
    assert Recipe(warmup_steps=9, cool_down=0.5).identity(has_learned_ratios=True) == one_cycle
    assert not OF_TRAPEZOIDS & one_cycle.keys()
    trapezoid = Recipe(schedule="trapezoid").identity(has_learned_ratios=True)
    for settings in ({"warmup_steps": 9}, {"cool_down": 0.5}):
        changed = Recipe.model_validate({"schedule": "trapezoid", **settings})
        assert changed.identity(has_learned_ratios=True) != trapezoid
    same = Recipe(schedule="trapezoid", warmup=0.5).identity(has_learned_ratios=True)
    assert same == trapezoid


def test_new_settings_change_no_identity_while_they_have_their_defaults() -> None:
    plain = Recipe().identity(has_learned_ratios=False)
    assert not {"deterministic", "cudnn_benchmark"} & plain.keys()
    deterministic = Recipe(deterministic=True).identity(has_learned_ratios=False)
    assert deterministic == plain | {"deterministic": True}


def test_deterministic_trainings_do_not_let_cudnn_choose() -> None:
    with pytest.raises(ValidationError, match="cudnn_benchmark: the algorithm that is fastest"):
        Recipe(deterministic=True, cudnn_benchmark=True)
