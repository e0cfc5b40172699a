"""How far a study's short trainings can be trusted: what its audit found, as tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from partialnas.analysis.audit.sample import front_names, trial_rungs
from partialnas.analysis.frames.arrays import Floats
from partialnas.analysis.frames.columns import network_names
from partialnas.analysis.frames.load import load_trials
from partialnas.analysis.frames.seed_means import FAILED_STATES, aggregate
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.stats import rank_correlation as ranking
from partialnas.analysis.stats.rank_intervals import SeedNoise, pooled_seed_noise, rank_intervals
from partialnas.runs.config.design import StudyStage
from partialnas.runs.config.quantities import QUANTITIES, Quantity
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.study_meta import Fidelity, RecordedStudy, format_epochs
from partialnas.space.errors import UserError

_TRUSTED = ("val_nll", "val_accuracy")
_COSTS = {"macs": "MACs alone", "params": "parameters alone"}
_MOST_RANKED = 10
_NUMBER = r"#\d+$"


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What is known of a sample of networks that were trained short and longer.

    Attributes:
        stage: that holds the longer trainings.
        longer_label: what these are called, as `16 epochs`.
        fidelities: what is compared with them, from cheap to dear.
        trainings: one row each, failed ones included: the columns of `load`, `network` (what the
            audit calls it), `way` (the fidelity's name), `longer_label` and `fresh` (whether it was
            trained for the audit).
        study: the study's own trials, of all networks.
        quantity: that the study decides by.
    """

    stage: StudyStage
    longer_label: str
    fidelities: tuple[Fidelity, ...]
    trainings: pd.DataFrame
    study: Trials
    quantity: Quantity

    @property
    def networks(self) -> list[str]:
        """The networks of the sample, in its order."""
        return [*dict.fromkeys(_canonical(self.stage, self.study.frame).values())]

    @property
    def quantities(self) -> list[Quantity]:
        """What rankings are made by: the deciding quantity, log-likelihood and accuracy."""
        known = [key for key in _TRUSTED if self.trainings[key].notna().any()]
        others = [QUANTITIES[key] for key in known if key != self.quantity.key]
        return [self.quantity, *others]

    def scores(self, way: str, quantity: Quantity) -> Floats:
        """What the trainings of a way reach, networks x seeds, the greater the better.

        Without trainings there are no columns; what failed is NaN.
        """
        rows = self.trainings[
            self.trainings["way"].eq(way) & ~self.trainings["state"].isin(FAILED_STATES)
        ]
        cells = rows.pivot_table(index="network", columns="seed", values=quantity.key)
        sign = 1.0 if quantity.better == "max" else -1.0
        found: Floats = sign * cells.reindex(self.networks).to_numpy(float)
        return found

    def chosen_by(self, way: str, quantity: Quantity) -> Floats:
        """The mean of each network's own trainings in the study, of further ones where it has none.

        The greater the better.
        """
        rows = self.trainings[self.trainings["way"].eq(way)]
        means = rows.groupby(["network", "fresh"])[quantity.key].mean().unstack("fresh")
        means = means.reindex(index=self.networks, columns=[False, True])
        sign = 1.0 if quantity.better == "max" else -1.0
        found: Floats = sign * means[False].fillna(means[True]).to_numpy(float)
        return found

    def cost(self, key: str) -> Floats:
        """A count of each network: more of it is taken to be better."""
        known = self.trainings.groupby("network")[key].first().reindex(self.networks)
        return np.asarray(known.to_numpy(float, na_value=np.nan))


def load_audit(folder: str | Path, stage: str | None = None, *, metric: str | None = None) -> Audit:
    """The audit of a study, from its ledger.

    Args:
        folder: the study's.
        stage: that holds the longer trainings; without it the latest.
        metric: the quantity that networks are chosen by; without it the study's first trained
            objective.

    Raises:
        UserError: the study has no audit, or not this one, or none of its trainings is done.
    """
    folder = Path(folder)
    with Ledger.open(folder) as ledger:
        study = ledger.study
    return audit_from_trials(folder, study, load_trials(folder, stage=None), stage, metric=metric)


def audit_from_trials(
    folder: Path,
    recorded: RecordedStudy,
    whole: Trials,
    stage: str | None = None,
    *,
    metric: str | None = None,
) -> Audit:
    """The same of a study whose trials have been loaded, those of all stages."""
    stages = recorded.longer_audit_stages
    name = stage or next(reversed(stages), "")
    if name not in stages:
        there = f"; there are {', '.join(stages)}" if stages else ""
        told = f"no audit {stage!r}{there}" if stage else "no audit"
        raise UserError(f"{folder}: has {told}; see `partialnas audit --help`")
    trials = whole.where(whole.frame["condition"].eq(stages[name].condition))
    frame = trials.frame
    ways = recorded.fidelities(stages[name].condition)
    longer = format_epochs(int(stages[name].recipe["epochs"]))
    study = trials.where(frame["stage"].eq(""))
    quantity = trials.quantity(metric or study.default_axes()[1])
    trainings = _trainings(frame, stages[name], ways, longer)
    _require(folder, trainings, quantity)
    return Audit(
        stage=stages[name],
        longer_label=longer,
        fidelities=ways,
        trainings=trainings,
        study=study,
        quantity=quantity,
    )


def _trainings(
    frame: pd.DataFrame, stage: StudyStage, ways: Sequence[Fidelity], longer: str
) -> pd.DataFrame:
    """All trainings of the sample, each with its network and its way."""
    names = _canonical(stage, frame[frame["stage"].eq("")])
    rows = frame.assign(network=_key(frame).map(names), fresh=frame["stage"].ne(""))
    rows = rows[rows["network"].notna()]
    rows["longer"] = rows["stage"].eq(stage.name)
    by_rung = {each.rung: each.name for each in ways}
    by_stage = {**{each.stage: each.name for each in ways}, stage.name: longer}
    rows["way"] = rows["stage"].map(by_stage).where(rows["fresh"], trial_rungs(rows).map(by_rung))
    return rows[rows["way"].notna()]


def _canonical(stage: StudyStage, own: pd.DataFrame) -> dict[str, str]:
    """What the networks of a stage are called, by their keys; the name that was given last counts.

    A searched network that was promoted since it was chosen has another first trial, and name.
    """
    arms = {*own["arm"]}
    return {name if name in arms else key: name for name, key in stage.origins.items()}


def _key(frame: pd.DataFrame) -> "pd.Series[str]":
    """What tells the network of each trial: its arm, or the digest of one that was searched."""
    searched = frame["arm"].eq("") | frame["arm"].str.match(_NUMBER)
    return frame["digest"].where(searched, frame["arm"])


def _require(folder: Path, trainings: pd.DataFrame, quantity: Quantity) -> None:
    """Refuses an audit that no ranking can be made of."""
    rows = trainings[trainings["longer"]]
    known = rows.loc[rows[quantity.key].notna(), "network"].nunique()
    if known >= ranking.MIN_NETWORKS:
        return
    states = ", ".join(f"{n} {state}" for state, n in rows["state"].value_counts().items())
    reasons = rows.loc[rows["state"].isin(FAILED_STATES), "reason"].dropna().mode()
    often = f" (most often: {reasons.iloc[0]})" if len(reasons) else ""
    raise UserError(
        f"{folder}: nothing to compare: {known} networks of the audit have {quantity.key} of a "
        f"longer training, and a ranking takes {ranking.MIN_NETWORKS}; longer trainings: "
        f"{states or 'none'}{often}"
    )


def proxy_agreement(audit: Audit) -> pd.DataFrame:
    """How well each fidelity ranks the sample as longer training does: one row a ranking.

    Returns:
        `target` (the quantity of the longer training), `ranked_by`, `by` (the quantity that it is
        ranked by; empty of counts), `kind` (`proxy`, `seeds`: one seed of a way against another,
        the noise ceiling; `cost`; `chance`), `n` (networks that have both), `tau` with the ends of
        its interval, the same within the best third of the longer training (`top_`), `single`
        (mean of tau over single trainings, one of each side, which is what the ceilings are),
        `regret` (what the network chosen so lacks to the best of the sample, in the target's
        unit), and `over_macs` (tau less that of MACs alone) with the ends of its interval.
    """
    rows = [row for target in audit.quantities for row in _rows(audit, target)]
    return pd.DataFrame(rows).astype({"n": "Int64", "top_n": "Int64"})


def _rows(audit: Audit, target: Quantity) -> list[dict[str, Any]]:
    longer = audit.scores(audit.longer_label, target)
    reached = ranking.row_means(longer)
    macs = ranking.kendall_tau([(audit.cost("macs"), reached)])

    def row(name: str, by: str, kind: str, scores: Floats, singles: Floats) -> dict[str, Any]:
        own = ranking.kendall_tau([(scores, reached)])
        top = ranking.top_third(reached)
        return {
            **_head(target, name, by, kind),
            **_told(own, ranking.kendall_tau([(scores[top], reached[top])])),
            "single": ranking.kendall_tau(ranking.cross_pairs(singles, longer)).value,
            "regret": ranking.regret(scores, reached),
            **(_ends("over_macs", own.difference(macs)) if kind == "proxy" else {}),
        }

    found = [
        row(way.name, by.key, "proxy", audit.chosen_by(way.name, by), audit.scores(way.name, by))
        for way in audit.fidelities
        for by in audit.quantities
    ]
    ways = [*(way.name for way in audit.fidelities), audit.longer_label]
    found += [_ceiling(audit, target, way, reached) for way in ways]
    for key, name in _COSTS.items():
        found.append(row(name, "", "cost", audit.cost(key), audit.cost(key)[:, None]))
    lost = float(np.nanmax(reached) - np.nanmean(reached))
    count = int(np.isfinite(reached).sum())
    chance = {"n": count, "tau": 0.0, "top_n": 0, "regret": lost}
    found.append({**_head(target, "chance", "", "chance"), **chance})
    return found


def _ceiling(audit: Audit, target: Quantity, way: str, reached: Floats) -> dict[str, Any]:
    """One seed of a way against another."""
    scores = audit.scores(way, target)
    top = ranking.top_third(reached)
    own = ranking.kendall_tau(ranking.seed_pairs(scores))
    told = _told(own, ranking.kendall_tau(ranking.seed_pairs(scores[top])))
    return {**_head(target, way, target.key, "seeds"), **told, "single": own.value}


def _head(target: Quantity, name: str, by: str, kind: str) -> dict[str, Any]:
    return {"target": target.key, "ranked_by": name, "by": by, "kind": kind}


def _told(own: ranking.KendallTau, top: ranking.KendallTau) -> dict[str, Any]:
    return {"n": own.n, **_ends("tau", own), "top_n": top.n, **_ends("top", top)}


def _ends(name: str, tau: ranking.KendallTau) -> dict[str, float]:
    low, high = tau.interval
    return {name: tau.value, f"{name}_low": low, f"{name}_high": high}


def audited_networks(audit: Audit) -> pd.DataFrame:
    """What each network of the sample reaches, short and longer: one row a network and fidelity.

    Returns:
        `network`, `way`, `on_front` (of the study), `macs`, `params`, `quantity`, `short` (mean of
        the study's own trainings, of the audit's where it has none), `short_sd` and `short_n` (over
        all its trainings of that way), `longer`, `longer_sd`, `longer_n`; the longer best first.
    """
    key = audit.quantity.key
    sign = 1.0 if audit.quantity.better == "max" else -1.0
    members = front_names(audit.study.where(~audit.study.frame["baseline"]), audit.quantity)
    facts = {
        "network": audit.networks,
        "on_front": [name in members for name in audit.networks],
        "macs": audit.cost("macs"),
        "params": audit.cost("params"),
        "quantity": key,
        **_spread("longer", sign * audit.scores(audit.longer_label, audit.quantity)),
    }
    parts = []
    for way in audit.fidelities:
        spread = _spread("short", sign * audit.scores(way.name, audit.quantity))
        own = sign * audit.chosen_by(way.name, audit.quantity)
        parts.append(pd.DataFrame({**facts, "way": way.name, **spread, "short": own}))
    table = pd.concat(parts)
    table["best"] = sign * table["longer"]
    order = [each.name for each in audit.fidelities]
    table["at"] = table["way"].map(order.index)
    table = table.sort_values(["at", "best"], ascending=[True, False], kind="stable")
    first = ["network", "way", "on_front", "macs", "params", "quantity"]
    values = [f"{side}{end}" for side in ("short", "longer") for end in ("", "_sd", "_n")]
    return table[[*first, *values]].reset_index(drop=True)


def _spread(name: str, values: Floats) -> dict[str, Any]:
    """Mean, standard deviation and number of each row's values."""
    frame = pd.DataFrame(values)
    columns = {"": frame.mean(axis=1), "_sd": frame.std(axis=1), "_n": frame.notna().sum(axis=1)}
    return {f"{name}{end}": column.to_numpy() for end, column in columns.items()}


def seed_noise(audit: Audit) -> SeedNoise:
    """The deviation between seeds of trainings in full, over the sample and the study."""
    own = _in_full(audit.study.frame, audit.quantity)
    last = audit.fidelities[-1].name
    fresh = audit.trainings[audit.trainings["fresh"] & audit.trainings["way"].eq(last)]
    rows = pd.concat([own, fresh])
    cells = rows.assign(of=_key(rows)).pivot_table(
        index="of", columns="seed", values=audit.quantity.key
    )
    return pooled_seed_noise(cells.to_numpy(float))


def _in_full(study: pd.DataFrame, quantity: Quantity) -> pd.DataFrame:
    return study[study["state"].eq("done") & study[quantity.key].notna() & ~study["baseline"]]


def network_ranks(audit: Audit, max_rank: int = _MOST_RANKED) -> pd.DataFrame:
    """The ranks in the study of its front and its best networks, and which they could have.

    Args:
        audit: of the study.
        max_rank: so many of the best are told.

    Returns:
        `network`, `on_front`, the deciding quantity as `value` (mean over the study's own seeds),
        `n`, `rank`, `rank_low`, `rank_high` (see `rank_intervals`) and `of` (how many have a rank).
    """
    return ranks_of(audit.study, audit.quantity, seed_noise(audit), max_rank)


def ranks_of(
    study: Trials, quantity: Quantity, between_seeds: SeedNoise, most: int = _MOST_RANKED
) -> pd.DataFrame:
    """The same of any study's trials, as `load` gives them; see `ranks`."""
    trials = study.where(~study.frame["baseline"])
    rows = aggregate(trials, {quantity.key: quantity.better})
    sign = 1.0 if quantity.better == "max" else -1.0
    scores = sign * rows[quantity.key].to_numpy(float)
    ranks = rank_intervals(scores, rows["n"].to_numpy(float), between_seeds)
    names = network_names(rows)
    members = front_names(trials, quantity)
    facts = {"network": names, "on_front": names.isin(members), "value": rows[quantity.key]}
    intervals = {"rank": ranks.rank, "rank_low": ranks.low, "rank_high": ranks.high}
    table = pd.DataFrame({**facts, "n": rows["n"], **intervals})
    table = table.astype(dict.fromkeys(intervals, "Int64"))
    table["of"] = int(table["rank"].notna().sum())
    shown = table[table["rank"].notna() & (table["on_front"] | table["rank"].le(most))]
    return shown.sort_values("rank", kind="stable").reset_index(drop=True)
