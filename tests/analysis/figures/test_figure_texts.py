"""Texts in figures: names instead of keys, and sizes that can be read in print."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from partialnas.analysis.figures.kinds import FIGURE_KINDS
from partialnas.analysis.frames.axis_levels import is_ordered
from partialnas.analysis.frames.provenance import Query
from partialnas.analysis.plotting.axes import tick_texts
from partialnas.analysis.plotting.names import axis_name, level_name, levels_note, network_name
from partialnas.analysis.registry import build_artefact
from partialnas.runs.config.quantities import QUANTITIES
from partialnas.space.errors import UserError

LEDGERS = Path(__file__).parents[3] / "analysis" / "notebooks" / "ledgers"
KEYS = [key for key in QUANTITIES if "_" in key]
RAW = re.compile(
    rf"\b({'|'.join(map(re.escape, KEYS))}|pat_sp|mlp_ratio|head_width|macs|img/s)\b"
    r"|stages? [\d-]+\.\w|\b[0-9a-f]{8,}\b|(fasternet|partialnet)_|\bfasternet\b|\bpartialnet\b"
)
"""Keys of quantities and axes, digests, and names of presets as they are registered."""

MIN_SIZE = 6.0
"""Points of the smallest text at printed size."""

LEFT_OUT = ("attainment", "importance")
"""Kinds that need repeated searches, or that take long and have the texts of others."""

REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("pareto", {}),
    ("pareto", {"size": "params", "x": "macs", "probability": True}),
    *(("figure", {"kind": kind}) for kind in FIGURE_KINDS if kind not in LEFT_OUT),
    *(("effects", {"kind": kind}) for kind in ("effect", "interaction", "ladder")),
    ("ratios", {}),
    ("audit", {}),
]


def drawn(study: str, verb: str, arguments: dict[str, Any]) -> tuple[Figure, str]:
    """Return a figure and its caption with the table to read."""
    artefact = build_artefact([LEDGERS / study], Query(verb=verb, arguments=arguments))
    figure = artefact.draw().figure
    assert isinstance(figure, Figure)
    return figure, artefact.texts[".md"]


def check_texts(figure: Figure, caption: str) -> None:
    texts = [artist for artist in figure.findobj(Text) if artist.get_text().strip()]  # type: ignore[attr-defined]
    assert len(texts) > 5
    for text in texts:
        assert RAW.search(text.get_text()) is None, text.get_text()
        assert text.get_fontsize() >= MIN_SIZE, text.get_text()
    sentences = [line for line in caption.splitlines() if line[:1] not in ("|", "")]
    for key in KEYS:
        assert not any(re.search(rf"\b{key}\b", line) for line in sentences), (key, sentences)


OFTEN = [("quickstart", "figure", {"kind": "parallel"}), ("partitions", "effects", {})]


@pytest.mark.parametrize(("study", "verb", "arguments"), OFTEN)
def test_texts_have_names_instead_of_keys(study: str, verb: str, arguments: dict[str, Any]) -> None:
    check_texts(*drawn(study, verb, arguments))


@pytest.mark.slow
@pytest.mark.parametrize("study", ["quickstart", "static-vs-dynamic", "ladder", "ingredients"])
def test_texts_of_every_kind_of_shipped_studies(study: str) -> None:
    number = 0
    for verb, arguments in REQUESTS:
        try:
            figure, caption = drawn(study, verb, arguments)
        except UserError:  # the kind does not suit the study
            continue
        check_texts(figure, caption)
        number += 1
    assert number >= 4


@pytest.mark.parametrize(
    ("axis", "name"),
    [
        ("pat_sp", "PAT_sp"),
        ("mlp_ratio", "MLP ratio"),
        ("head_width", "Head width"),
        ("stages 1-3.attention", "Attention, stages 1–3"),
        ("stage 4.pat_sp", "PAT_sp, stage 4"),
        ("PAT_ch", "PAT_ch"),
        ("attention in all stages", "attention in all stages"),
        ("a.b", "a.b"),
    ],
)
def test_axes_have_names(axis: str, name: str) -> None:
    assert axis_name(axis) == name


@pytest.mark.parametrize(
    ("network", "name"),
    [
        ("fasternet", "FasterNet"),
        ("partialnet_t0", "PartialNet-T0"),
        ("fasternet-l", "FasterNet-L"),
        ("fasternet_reference", "fasternet_reference"),
        ("my fasternet", "my fasternet"),
        ("#4", "#4"),
        ("quickstart: fasternet_t1", "quickstart: FasterNet-T1"),
    ],
)
def test_presets_have_names(network: str, name: str) -> None:
    assert network_name(network) == name


def test_levels_have_their_stages_in_parentheses() -> None:
    levels = ["channel: stages 1-2, self: stage 3", "none", "–"]
    assert [*map(level_name, levels)] == ["channel (1–2), self (3)", "none", "–"]
    assert levels_note(levels) == "In parentheses: stages; –: the axis does not apply."
    assert levels_note(["none", "1/4"]) == ""


def test_ticks_of_an_axis_have_the_same_decimals() -> None:
    assert tick_texts([0.2, 0.25, 0.3]) == ["0.20", "0.25", "0.30"]
    assert tick_texts([-1000.0, 0.0, 1000.0]) == ["−1,000", "0", "1,000"]
    assert tick_texts([0.1, 1.0, 10.0], log=True) == ["0.1", "1", "10"]


def test_axes_of_numbers_are_ordered() -> None:
    ordered = [("1/8", "1/4"), ("8", "12", "–")]
    others = [("none", "2"), ("8", "–"), ("on", "off")]
    assert all(is_ordered(pd.Series(levels)) for levels in ordered)
    assert not any(is_ordered(pd.Series(levels)) for levels in others)
