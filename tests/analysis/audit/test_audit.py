"""Audits of synthetic studies, with every number recomputed from the input values."""

import json
import math
import re
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from partialnas.analysis import load
from partialnas.analysis.audit.audit import (
    audited_networks,
    load_audit,
    network_ranks,
    proxy_agreement,
    seed_noise,
)
from partialnas.analysis.audit.figure import audit_figure
from partialnas.analysis.audit.sample import choose_sample
from partialnas.analysis.report.report import report_artefact
from partialnas.analysis.stats.multivariate_t import dunnett_critical_value
from partialnas.analysis.verification import verify
from partialnas.runs.config.design import StudyStage
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.record import Record
from partialnas.space.errors import UserError

Values = dict[int, float | None]
"""Log-likelihood by seed, or None if the trial failed."""

STUDY: dict[str, Any] = {
    "study": "short",
    "task": {"data": "digits", "resolution": 8},
    "recipe": {"epochs": 4},
    "search": {"sampler": "random"},
    "arms": {"fasternet_t0": "fasternet_t0"},
    "objectives": {"val_nll": "min", "macs": "min"},
    "measure": {},
}


class Written:
    """A ledger written trial by trial."""

    def __init__(self, folder: Path, **study: Any) -> None:
        self.folder = folder
        self.ledger = Ledger.create(folder, {"study": "short", "frozen": json.dumps(STUDY | study)})

    def trial(
        self, network: int, seed: int, nll: float | None, *, epochs: int = 4, **facts: Any
    ) -> int:
        stage, digest = facts.pop("stage", ""), f"{network:016x}"
        note = {"stage": stage} if stage else {}
        arm = facts.pop("arm", f"#{network}" if stage else None)
        proposal = self.ledger.add_proposal(arm, digest, {}, note)
        key = f"{len(self.ledger.trials()):016x}"
        facts_of = {"digest": digest, "name": "", "fidelity": epochs}
        (row,) = self.ledger.plan(proposal, **facts_of, keys={seed: key})
        if nll is None:
            ended: dict[str, Any] = {"state": "failed", "reason": "the loss is NaN in epoch 2"}
        else:
            metrics = {"val_nll": nll, "val_accuracy": 100 * math.exp(-nll)}
            cost = {"params": 10 + network, "macs": 1000 - network, "macs_core": 1}
            ended = {"state": "done", "metrics": metrics, "cost": {**cost, "activations": 1}}
        record = {"key": key, **facts_of, "seed": seed, "seconds": 36.0, "device": "cpu", **ended}
        self.ledger.finish(Record.model_validate(record | facts))
        return row.number

    def stages(self, *stages: StudyStage) -> None:
        stored = {stage.name: stage.model_dump(mode="json") for stage in stages}
        self.ledger.update_meta({"stages": json.dumps(stored)})


def stage(name: str, networks: list[int], epochs: int, seeds: int = 2) -> StudyStage:
    return StudyStage(
        name=name,
        recipe={"epochs": epochs},
        seeds=tuple(range(seeds)),
        chosen="all of them",
        origins={f"#{network}": f"{network:016x}" for network in networks},
        timed=False,
    )


SHORT: dict[int, Values] = {
    1: {0: 0.50, 1: 0.54}, 2: {0: 0.41, 1: 0.44}, 3: {0: 0.62, 1: 0.60}, 4: {0: 0.45, 1: 0.47},
    5: {0: 0.39, 1: 0.36}, 6: {0: 0.71, 1: 0.75}, 7: {0: 0.47, 1: 0.43}, 8: {0: 0.55, 1: None},
}  # fmt: skip
COMPLETE = {n: of for n, of in SHORT.items() if None not in of.values()}
AGAIN: dict[int, Values] = {n: {9: 0.45 + 0.03 * n * (-1) ** n} for n in SHORT}
LONGER: dict[int, Values] = {
    1: {5: 0.30, 6: 0.28}, 2: {5: 0.22, 6: 0.25}, 3: {5: 0.31, 6: 0.35}, 4: {5: 0.24, 6: 0.20},
    5: {5: 0.19, 6: 0.26}, 6: {5: 0.44, 6: 0.40}, 7: {5: None, 6: 0.29}, 8: {5: None, 6: None},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    written = Written(tmp_path_factory.mktemp("audit") / "study")
    for seed, (network, of) in product((0, 1), SHORT.items()):
        written.trial(network, seed, of[seed])
    written.trial(99, 0, 0.01, arm="fasternet_t0")
    networks = [*SHORT]
    written.stages(stage("audit", networks, 16), stage("audit-proxy", networks, 4))
    for network, of in LONGER.items():
        for seed, nll in of.items():
            written.trial(network, seed, nll, epochs=16, stage="audit")
    for network, of in AGAIN.items():
        written.trial(network, 9, of[9], stage="audit-proxy")
    written.ledger.close()
    return written.folder


def mean(of: Values) -> float:
    values = [value for value in of.values() if value is not None]
    return sum(values) / len(values) if values else math.nan


def tau(pairs: list[tuple[Any, Any]]) -> float:
    both = [(a, b) for a, b in pairs if None not in (a, b) and not math.isnan(a + b)]
    return float(kendalltau(*zip(*both, strict=True)).statistic)


def row_of(table: pd.DataFrame, **facts: str) -> "pd.Series[Any]":
    rows = table
    for key, value in facts.items():
        rows = rows[rows[key].eq(value)]
    (row,) = (series for _, series in rows.iterrows())
    return row


def test_the_proxy_ranks_by_the_trials_of_the_study(folder: Path) -> None:
    table = proxy_agreement(load_audit(folder))
    row = row_of(table, target="val_nll", ranked_by="4 epochs", by="val_nll", kind="proxy")
    means = [(mean(SHORT[n]), mean(LONGER[n])) for n in SHORT]
    assert row["n"] == 7  # all longer trainings of the eighth failed
    assert row["tau"] == pytest.approx(tau(means))
    assert row["tau_low"] < row["tau"] < row["tau_high"]
    best = sorted((n for n in SHORT if n != 8), key=lambda n: mean(LONGER[n]))[:3]
    assert row["top_n"] == 3
    assert row["top"] == pytest.approx(tau([(mean(SHORT[n]), mean(LONGER[n])) for n in best]))
    short = {n: {**SHORT[n], **AGAIN[n]} for n in SHORT}
    singles = [
        tau([(short[n][one], LONGER[n][other]) for n in SHORT])
        for one, other in product((0, 1, 9), (5, 6))
    ]
    assert row["single"] == pytest.approx(sum(singles) / 6)
    chosen = min((n for n in SHORT if n != 8), key=lambda n: mean(SHORT[n]))
    lost = mean(LONGER[chosen]) - min(mean(LONGER[n]) for n in SHORT if n != 8)
    assert row["regret"] == pytest.approx(lost)
    by_macs = tau([(n, mean(LONGER[n])) for n in SHORT])  # macs fall with the number
    assert row["over_macs"] == pytest.approx(row["tau"] - by_macs)


def test_the_ceiling_is_one_seed_against_another(folder: Path) -> None:
    table = proxy_agreement(load_audit(folder))
    short = {n: {**SHORT[n], **AGAIN[n]} for n in SHORT}
    pairs = combinations((0, 1, 9), 2)
    taus = [tau([(short[n][a], short[n][b]) for n in SHORT]) for a, b in pairs]
    row = row_of(table, target="val_nll", ranked_by="4 epochs", kind="seeds")
    assert row["tau"] == pytest.approx(sum(taus) / 3)
    row = row_of(table, target="val_nll", ranked_by="16 epochs", kind="seeds")
    assert row["tau"] == pytest.approx(tau([(LONGER[n][5], LONGER[n][6]) for n in SHORT]))
    assert math.isnan(row["regret"])


def test_costs_and_chance_are_included(folder: Path) -> None:
    table = proxy_agreement(load_audit(folder))
    row = row_of(table, target="val_nll", ranked_by="parameters alone")
    assert row["tau"] == pytest.approx(-tau([(n, mean(LONGER[n])) for n in SHORT]))
    assert row["regret"] == pytest.approx(mean(LONGER[7]) - mean(LONGER[4]))
    row = row_of(table, target="val_nll", ranked_by="chance")
    reached = [mean(LONGER[n]) for n in SHORT if n != 8]
    assert (row["tau"], row["regret"]) == (0, pytest.approx(np.mean(reached) - min(reached)))
    accuracy = row_of(table, target="val_accuracy", ranked_by="4 epochs", by="val_nll")
    shown = {n: mean({s: v and math.exp(-v) for s, v in LONGER[n].items()}) for n in SHORT}
    assert accuracy["tau"] == pytest.approx(-tau([(mean(SHORT[n]), shown[n]) for n in SHORT]))
    best = max(value for value in shown.values() if not math.isnan(value))
    assert accuracy["regret"] == pytest.approx(100 * (best - shown[5]))  # the fifth is chosen


def test_points_have_means_and_deviations(folder: Path) -> None:
    table = audited_networks(load_audit(folder))
    row = row_of(table, network="#1")
    assert row["short"] == pytest.approx(0.52)
    assert row["short_sd"] == pytest.approx(np.std([0.50, 0.54, AGAIN[1][9]], ddof=1))
    assert (row["longer"], row["longer_n"]) == (pytest.approx(0.29), 2)
    assert row_of(table, network="#7")["longer_n"] == 1
    assert math.isnan(row_of(table, network="#8")["longer"])
    assert table["network"].iloc[-1] == "#8"
    assert table["network"].iloc[0] == "#4"
    assert "fasternet_t0" not in set(table["network"])


def test_ranks_cover_the_whole_study(folder: Path) -> None:
    audit = load_audit(folder)
    table = network_ranks(audit)
    assert table["of"].unique().tolist() == [7]  # without the one that has a failed seed
    order = sorted(COMPLETE, key=lambda n: mean(COMPLETE[n]))
    assert table["network"].tolist() == [f"#{n}" for n in order]
    assert table["rank"].tolist() == [*range(1, 8)]
    assert (table["rank_low"].le(table["rank"]) & table["rank_high"].ge(table["rank"])).all()
    assert seed_noise(audit).degrees == 8 * 3 - 1 - 8 - 2


@pytest.mark.slow
def test_the_same_ledger_gives_the_same_files_and_they_verify(folder: Path, tmp_path: Path) -> None:
    first = audit_figure(folder, tmp_path / "one.pdf")
    second = audit_figure(folder, tmp_path / "two.pdf")
    for one, two in zip(first.files, second.files, strict=True):
        assert one.read_bytes() == two.read_bytes()
        verdict = verify(one, [folder])
        assert not verdict.differences
        assert verdict.numbers or one.suffix == ".pdf"
    assert [path.name for path in first.files] == [
        "one.pdf", "one.csv", "one.md", "one-agreement.csv", "one-ranks.csv",
    ]  # fmt: skip
    changed = tmp_path / "one-agreement.csv"
    changed.write_text(changed.read_text().replace(",7,", ",6,", 1))
    assert verify(changed, [folder]).differences
    for part in ("Kendall's τ-b", "two seeds of 4 epochs (ceiling)", "MACs alone", "Regret"):
        assert part in first.caption


@pytest.mark.parametrize(
    ("longer", "message"),
    [
        ({}, "0 networks of the audit have val_nll after longer training"),
        ({1: {0: None}, 2: {0: None}}, r"2 failed \(most often: the loss is NaN in epoch 2\)"),
        ({1: {0: 0.5}, 2: {0: 0.4}}, "2 networks of the audit"),
    ],
)
def test_audits_without_a_ranking_are_refused(
    tmp_path: Path, longer: dict[int, Values], message: str
) -> None:
    written = Written(tmp_path / "study")
    for network in (1, 2, 3):
        written.trial(network, 0, network / 10)
    with pytest.raises(UserError, match="has no audit; see"):
        load_audit(written.folder)
    written.stages(stage("audit", [1, 2, 3], 16))
    for network, of in longer.items():
        for seed, nll in of.items():
            written.trial(network, seed, nll, epochs=16, stage="audit")
    written.ledger.close()
    with pytest.raises(UserError, match=message):
        load_audit(written.folder)
    with pytest.raises(UserError, match="no audit 'audit-2'; did you mean audit"):
        load_audit(written.folder, "audit-2")


def test_a_single_seed_leaves_ceiling_and_ranks_unknown(tmp_path: Path) -> None:
    written = Written(tmp_path / "study")
    for network in range(1, 8):
        written.trial(network, 0, 0.5)
    written.stages(stage("audit", [*range(1, 8)], 16, seeds=1))
    for network in range(1, 8):
        written.trial(network, 0, network / 10, epochs=16, stage="audit")
    written.ledger.close()
    drawn = audit_figure(written.folder, tmp_path / "audit.svg")
    assert "unknown" in drawn.note
    assert drawn.ranks["rank"].eq(1).all()
    row = row_of(drawn.agreement, target="val_nll", kind="proxy", by="val_nll")
    assert math.isnan(row["tau"])  # the short training ties all of them
    assert row["regret"] == pytest.approx(0.3)  # and any of them is as likely chosen


RUNGS = {
    "sampler": "random",
    "rungs": [{"recipe.epochs": 1}, {"recipe.data_share": "1/2"}],
}


def on_rungs(folder: Path) -> Written:
    """Return a ledger of ten networks on the lowest rung; the best are promoted."""
    written = Written(folder, search=RUNGS)
    early = {"state": "early", "epochs": 1, "reason": "rung 1 of 3"}
    for network in range(1, 11):
        written.trial(network, 0, network / 10, **early)
    for network in (3, 2, 1):
        written.trial(network, 0, network / 20, state="early", reason="rung 2 of 3")
    written.trial(2, 0, 0.02)
    written.trial(1, 0, 0.01)
    return written


def test_every_rung_is_compared(tmp_path: Path) -> None:
    written = on_rungs(tmp_path / "study")
    networks = [1, 2, 5, 8, 9]
    names = {"#15": f"{1:016x}", "#14": f"{2:016x}", **{f"#{n}": f"{n:016x}" for n in (5, 8, 9)}}
    stages = [
        stage("audit", networks, 16).model_copy(update={"origins": names}),
        *(stage(name, networks, 4) for name in ("audit-proxy-rung-1", "audit-proxy")),
    ]
    written.stages(*stages)
    for network in networks:
        written.trial(network, 3, network / 30, epochs=16, stage="audit")
        written.trial(network, 4, 1 - network / 10, epochs=1, stage="audit-proxy-rung-1")
        written.trial(network, 4, network / 10 + 0.01, stage="audit-proxy")
    written.ledger.close()
    audit = load_audit(written.folder)
    ways = ["1 epoch", "4 epochs, data_share 1/2", "4 epochs"]
    assert [way.name for way in audit.fidelities] == ways
    table = proxy_agreement(audit)
    ranking = {"target": "val_nll", "by": "val_nll", "kind": "proxy"}
    rows = {way: row_of(table, ranked_by=way, **ranking) for way in ways}
    assert [rows[way]["n"] for way in rows] == [5, 2, 5]
    assert rows["1 epoch"]["tau"] == 1  # as the study trained them
    assert rows["1 epoch"]["single"] == 0  # further trainings are the other way round
    assert rows["4 epochs"]["tau"] == 1
    points = audited_networks(audit)
    last = points[points["way"].eq("4 epochs")].set_index("network")
    assert last.loc["#15", "short"] == pytest.approx(0.01)
    assert last.loc["#9", "short"] == pytest.approx(0.91)
    assert last.index[last["on_front"]].tolist() == ["#15", "#14"]  # macs fall with the number
    drawn = audit_figure(written.folder, tmp_path / "rungs.png")
    assert drawn.files[0].stat().st_size > 0


def test_the_sample_has_the_front_and_an_even_spread_of_the_rest(tmp_path: Path) -> None:
    written = Written(tmp_path / "study", objectives={"val_nll": "min", "params": "min"})
    for network in range(40):
        nll = 0.1 if network == 7 else 0.5 + (network * 17 % 40) / 100
        written.trial(network, 0, nll)
    written.trial(50, 0, None)
    written.trial(99, 0, 0.01, arm="fasternet_t0")
    written.ledger.close()
    sample = choose_sample(written.folder, 12)
    assert sample == choose_sample(written.folder, 12)
    frame = load(written.folder)
    values = frame[frame["digest"].isin(sample.digests.values())]["val_nll"].sort_values()
    assert len(values) == 12
    assert values.iloc[0] == 0.1
    assert values.diff().max() <= 0.41
    assert values.max() >= 0.84
    assert "12 of 40 networks" in sample.description
    assert not {f"{50:016x}", f"{99:016x}"} & set(sample.digests.values())
    everyone = choose_sample(written.folder, 100)
    assert len(everyone.digests) == 40


def test_a_sample_of_a_search_with_rungs_orders_by_the_lowest_rung(tmp_path: Path) -> None:
    written = on_rungs(tmp_path / "study")
    written.ledger.close()
    sample = choose_sample(written.folder, 6)
    assert len(sample.digests) == 6
    assert {"#15", "#14"} & set(sample.digests)  # those on the front, by the name that it has
    assert any(int(digest, 16) > 3 for digest in sample.digests.values())


@pytest.mark.parametrize("values", [[], [0.1], [0.1, 0.2], [None, None, None, 0.1]])
def test_too_few_networks_are_refused(tmp_path: Path, values: list[float | None]) -> None:
    written = Written(tmp_path / "study")
    for network, nll in enumerate(values):
        written.trial(network, 0, nll)
    written.ledger.close()
    with pytest.raises(UserError, match="no trials" if not values else "needs at least 3 networks"):
        choose_sample(written.folder, 20)


def test_the_report_marks_unresolved_ranks(folder: Path) -> None:
    page = report_artefact(folder).content(".html").decode()
    (table,) = re.findall(r'<table id="front-table">.*?</table>', page, re.DOTALL)
    heads = re.findall(r"<th[^>]*>([^<]*)</th>", table.partition("</thead>")[0])
    at = heads.index("Rank by Validation NLL")
    rows = re.findall(r"<tr>(.*?)</tr>", table.partition("<tbody>")[2])
    cells = [re.findall(r"<t[hd][^>]*>(?:<button[^>]*>)?([^<]*)", row) for row in rows]
    shown = {row[0]: row[at] for row in cells}
    between = seed_noise(load_audit(folder))
    critical = dunnett_critical_value(0.95, between.degrees, len(COMPLETE) - 1)
    means = {network: mean(of) for network, of in COMPLETE.items()}
    seeds = {network: len(of) for network, of in COMPLETE.items()}

    def expected(network: int) -> str:
        apart = {
            other: (means[other] - means[network])
            / (between.deviation * math.sqrt(1 / seeds[other] + 1 / seeds[network]))
            for other in COMPLETE
        }
        low = 1 + sum(gap < -critical for gap in apart.values())
        high = len(COMPLETE) - sum(gap > critical for gap in apart.values())
        rank = 1 + sum(other < means[network] for other in means.values())
        return f"{rank}" if low == high else f"≈{rank} ({low} to {high})"

    assert shown.pop("fasternet_t0") == ""
    assert len(shown) >= 2
    assert shown == {name: expected(int(name.removeprefix("#"))) for name in shown}
    open_ = sum("≈" in text for text in shown.values())
    assert open_ > 0
    assert f"does not resolve the ranks of {open_} of its {len(shown)} networks" in page
    assert "≈ marks a rank that short training does not resolve" in page
    assert "Stage audit" not in page.partition("Confirmation")[2]
    assert "Agreement with Validation NLL (nats) after 16 epochs" in page
    assert "partialnas audit . --report" in page


def test_the_report_mentions_an_unfinished_audit(tmp_path: Path) -> None:
    written = Written(tmp_path / "study")
    for network in range(1, 5):
        written.trial(network, 0, 0.1 * network)
    written.stages(stage("audit", [1, 2], 16))
    written.ledger.close()
    page = report_artefact(written.folder).content(".html").decode()
    assert "Proxy trust" in page
    assert "Nothing to compare: 0 networks of the audit" in page
    assert "Rank by" not in page
