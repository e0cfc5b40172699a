"""Audits: how well short training ranks a sample of networks that was also trained longer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from partialnas.analysis.audit.sample import front_names, trial_rungs
from partialnas.analysis.frames.arrays import Floats, Mask
from partialnas.analysis.frames.columns import calls_function, network_names
from partialnas.analysis.frames.load import load_trials
from partialnas.analysis.frames.seed_means import FAILED_STATES, aggregate, has_failed_seed
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.stats import rank_correlation as ranking
from partialnas.analysis.stats.rank_intervals import SeedNoise, pooled_seed_noise, rank_intervals
from partialnas.runs.config.design import StudyStage
from partialnas.runs.config.quantities import QUANTITIES, Quantity
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.study_meta import Fidelity, RecordedStudy, format_epochs
from partialnas.space.errors import UserError
from partialnas.space.validation import quote, suggest

_TRUSTED = ("val_nll", "val_accuracy")
_COSTS = {"macs": "MACs alone", "params": "parameters alone"}
_MAX_RANK = 10
_TRIAL_LABEL = r"#\d+$"


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The trials of a sample of networks after short and after longer training.

    Attributes:
        stage: stage of the longer training.
        longer_label: duration of the longer training, such as `16 epochs`.
        fidelities: fidelities that are compared with it, from the cheapest to the most expensive.
        trials: trials of the sample, failed ones included. The columns are those of `load`,
            `network` (label in the audit), `way` (name of the fidelity), `longer` (whether of the
            longer training) and `fresh` (whether trained for the audit).
        study: trials of the study itself, for all networks.
        quantity: quantity that decides in the study.
    """

    stage: StudyStage
    longer_label: str
    fidelities: tuple[Fidelity, ...]
    trials: pd.DataFrame
    study: Trials
    quantity: Quantity

    @property
    def work(self) -> str:
        """What its trials do: `training`, or `evaluation` by the study's own function."""
        return _work(self.trials)

    @property
    def networks(self) -> list[str]:
        """Labels of the networks of the sample, in its order."""
        return [*dict.fromkeys(_labels(self.stage, self.study.frame).values())]

    @property
    def quantities(self) -> list[Quantity]:
        """Quantities that networks are ranked by: the deciding one, log-likelihood and accuracy."""
        available = [key for key in _TRUSTED if self.trials[key].notna().any()]
        others = [QUANTITIES[key] for key in available if key != self.quantity.key]
        return [self.quantity, *others]

    def scores(self, fidelity: str, quantity: Quantity) -> Floats:
        """Return the results at a fidelity, of shape (networks, seeds); greater is better.

        Failed trials are NaN. There are no columns without trials.
        """
        rows = self.trials[self.trials["way"].eq(fidelity)]
        rows = rows[~rows["state"].isin(FAILED_STATES)]
        cells = rows.pivot_table(index="network", columns="seed", values=quantity.key)
        return np.asarray(_sign(quantity) * cells.reindex(self.networks).to_numpy(float))

    def chosen_by(self, fidelity: str, quantity: Quantity) -> Floats:
        """Return the mean of each network over the trials of the study; greater is better.

        Networks that the study did not train at this fidelity have the mean of the audit's trials.
        """
        rows = self.trials[self.trials["way"].eq(fidelity)]
        means = rows.groupby(["network", "fresh"])[quantity.key].mean().unstack("fresh")
        means = means.reindex(index=self.networks, columns=[False, True])
        return np.asarray(_sign(quantity) * means[False].fillna(means[True]).to_numpy(float))

    def cost(self, key: str) -> Floats:
        """Return a count of each network as a score: networks with more of it rank higher."""
        counts = self.trials.groupby("network")[key].first().reindex(self.networks)
        return np.asarray(counts.to_numpy(float, na_value=np.nan))


def _sign(quantity: Quantity) -> float:
    return 1.0 if quantity.better == "max" else -1.0


def load_audit(folder: str | Path, stage: str | None = None, *, metric: str | None = None) -> Audit:
    """Load the audit of a study from its ledger.

    Args:
        folder: folder of the study.
        stage: stage of the longer training; by default the latest.
        metric: quantity that networks are ranked by; by default the study's first trained
            objective.

    Raises:
        UserError: the study has no such audit, or too few of its trials are done.
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
    """Return the audit of a study from its trials of all stages, see `load_audit`."""
    stages = recorded.longer_audit_stages
    name = stage or next(reversed(stages), "")
    if name not in stages:
        missing = f"no audit {quote(stage)}; {suggest(stage, stages)}" if stage else "no audit"
        raise UserError(f"{folder}: the study has {missing}; see `partialnas audit --help`")
    trials = whole.where(whole.frame["condition"].eq(stages[name].condition))
    frame = trials.frame
    fidelities = recorded.fidelities(stages[name].condition)
    longer_label = format_epochs(int(stages[name].recipe["epochs"]))
    study = trials.where(frame["stage"].eq(""))
    quantity = trials.quantity(metric or study.deciding_quantity)
    sample = _sample_trials(frame, stages[name], fidelities, longer_label)
    _require_ranking(folder, sample, quantity)
    return Audit(
        stage=stages[name],
        longer_label=longer_label,
        fidelities=fidelities,
        trials=sample,
        study=study,
        quantity=quantity,
    )


def _sample_trials(
    frame: pd.DataFrame, stage: StudyStage, fidelities: Sequence[Fidelity], longer_label: str
) -> pd.DataFrame:
    """Return all trials of the sample with their networks and fidelities."""
    labels = _labels(stage, frame[frame["stage"].eq("")])
    rows = frame.assign(network=_network_keys(frame).map(labels), fresh=frame["stage"].ne(""))
    rows = rows[rows["network"].notna()]
    rows["longer"] = rows["stage"].eq(stage.name)
    by_rung = {fidelity.rung: fidelity.name for fidelity in fidelities}
    by_stage = {fidelity.stage: fidelity.name for fidelity in fidelities}
    by_stage[stage.name] = longer_label
    rows["way"] = rows["stage"].map(by_stage).where(rows["fresh"], trial_rungs(rows).map(by_rung))
    return rows[rows["way"].notna()]


def _labels(stage: StudyStage, study: pd.DataFrame) -> dict[str, str]:
    """Return the labels of a stage's networks by their keys.

    A searched network that was promoted after it was selected has a new first trial and label; the
    latest label counts.
    """
    arms = {*study["arm"]}
    return {name if name in arms else key: name for name, key in stage.origins.items()}


def _network_keys(frame: pd.DataFrame) -> "pd.Series[str]":
    """Return the arm of each trial, or the digest of a searched network."""
    searched = frame["arm"].eq("") | frame["arm"].str.match(_TRIAL_LABEL)
    return frame["digest"].where(searched, frame["arm"])


def _work(trials: pd.DataFrame) -> str:
    return "evaluation" if calls_function(trials) else "training"


def _require_ranking(folder: Path, trials: pd.DataFrame, quantity: Quantity) -> None:
    """Check that enough networks have finished the longer training."""
    rows = trials[trials["longer"]]
    count = rows.loc[rows[quantity.key].notna(), "network"].nunique()
    if count >= ranking.MIN_NETWORKS:
        return
    work = _work(trials)
    states = ", ".join(f"{n} {state}" for state, n in rows["state"].value_counts().items())
    reasons = rows.loc[rows["state"].isin(FAILED_STATES), "reason"].dropna().mode()
    reason = f" (most often: {reasons.iloc[0]})" if len(reasons) else ""
    raise UserError(
        f"{folder}: nothing to compare: {count} networks of the audit have {quantity.key} after "
        f"longer {work}, and a ranking needs at least {ranking.MIN_NETWORKS}; trials of longer "
        f"{work}: {states or 'none'}{reason}"
    )


def proxy_agreement(audit: Audit) -> pd.DataFrame:
    """Return how well each fidelity ranks the sample compared with longer training.

    Returns:
        One row per ranking: `target` (quantity after longer training), `ranked_by`, `by` (quantity
        of the ranking, empty for counts), `kind` (`proxy`; `seeds`: one seed against another at the
        same fidelity, the noise ceiling; `cost`; `chance`), `n` (networks with both), `tau` with
        the ends of its interval, the same within the best third after longer training (`top_`),
        `single` (mean of tau over pairs of single trials, comparable to the ceilings), `regret`
        (gap between the selected network and the best of the sample, in the unit of the target),
        and `over_macs` (tau minus that of MACs alone) with the ends of its interval.
    """
    rows = [row for target in audit.quantities for row in _rows(audit, target)]
    return pd.DataFrame(rows).astype({"n": "Int64", "top_n": "Int64"})


def _rows(audit: Audit, target: Quantity) -> list[dict[str, Any]]:
    longer = audit.scores(audit.longer_label, target)
    reached = ranking.row_means(longer)
    top = ranking.top_third(reached)
    macs = ranking.kendall_tau([(audit.cost("macs"), reached)])

    def row(name: str, by: str, kind: str, scores: Floats, singles: Floats) -> dict[str, Any]:
        tau = ranking.kendall_tau([(scores, reached)])
        return {
            **_head(target, name, by, kind),
            **_taus(tau, ranking.kendall_tau([(scores[top], reached[top])])),
            "single": ranking.kendall_tau(ranking.cross_pairs(singles, longer)).value,
            "regret": ranking.regret(scores, reached),
            **(_interval("over_macs", tau.difference(macs)) if kind == "proxy" else {}),
        }

    names = [fidelity.name for fidelity in audit.fidelities]
    rows = [
        row(name, by.key, "proxy", audit.chosen_by(name, by), audit.scores(name, by))
        for name in names
        for by in audit.quantities
    ]
    rows += [_ceiling(audit, target, name, top) for name in [*names, audit.longer_label]]
    for key, name in _COSTS.items():
        rows.append(row(name, "", "cost", audit.cost(key), audit.cost(key)[:, None]))
    regret = float(np.nanmax(reached) - np.nanmean(reached))
    count = int(np.isfinite(reached).sum())
    chance = {"n": count, "tau": 0.0, "top_n": 0, "regret": regret}
    rows.append({**_head(target, "chance", "", "chance"), **chance})
    return rows


def _ceiling(audit: Audit, target: Quantity, fidelity: str, top: Mask) -> dict[str, Any]:
    """Return the agreement between seeds at one fidelity."""
    scores = audit.scores(fidelity, target)
    tau = ranking.kendall_tau(ranking.seed_pairs(scores))
    taus = _taus(tau, ranking.kendall_tau(ranking.seed_pairs(scores[top])))
    return {**_head(target, fidelity, target.key, "seeds"), **taus, "single": tau.value}


def _head(target: Quantity, name: str, by: str, kind: str) -> dict[str, Any]:
    return {"target": target.key, "ranked_by": name, "by": by, "kind": kind}


def _taus(tau: ranking.KendallTau, top: ranking.KendallTau) -> dict[str, Any]:
    return {"n": tau.n, **_interval("tau", tau), "top_n": top.n, **_interval("top", top)}


def _interval(name: str, tau: ranking.KendallTau) -> dict[str, float]:
    low, high = tau.interval
    return {name: tau.value, f"{name}_low": low, f"{name}_high": high}


def audited_networks(audit: Audit) -> pd.DataFrame:
    """Return the results of each network of the sample after short and after longer training.

    Returns:
        One row per network and fidelity: `network`, `way`, `on_front` (of the study), `macs`,
        `params`, `quantity`, `short` (mean over the trials of the study, or of the audit if it has
        none), `short_sd` and `short_n` (over all trials at that fidelity), `longer`, `longer_sd`
        and `longer_n`; the best after longer training comes first.
    """
    quantity, sign = audit.quantity, _sign(audit.quantity)
    members = front_names(audit.study)
    facts = {
        "network": audit.networks,
        "on_front": [name in members for name in audit.networks],
        "macs": audit.cost("macs"),
        "params": audit.cost("params"),
        "quantity": quantity.key,
        **_statistics("longer", sign * audit.scores(audit.longer_label, quantity)),
    }
    parts = []
    for fidelity in audit.fidelities:
        statistics = _statistics("short", sign * audit.scores(fidelity.name, quantity))
        mean = sign * audit.chosen_by(fidelity.name, quantity)
        parts.append(pd.DataFrame({**facts, "way": fidelity.name, **statistics, "short": mean}))
    table = pd.concat(parts)
    table["best"] = sign * table["longer"]
    order = [fidelity.name for fidelity in audit.fidelities]
    table["order"] = table["way"].map(order.index)
    table = table.sort_values(["order", "best"], ascending=[True, False], kind="stable")
    first = ["network", "way", "on_front", "macs", "params", "quantity"]
    values = [f"{side}{end}" for side in ("short", "longer") for end in ("", "_sd", "_n")]
    return table[[*first, *values]].reset_index(drop=True)


def _statistics(name: str, values: Floats) -> dict[str, Any]:
    """Return mean, standard deviation and number of the values of each row."""
    frame = pd.DataFrame(values)
    columns = {"": frame.mean(axis=1), "_sd": frame.std(axis=1), "_n": frame.notna().sum(axis=1)}
    return {f"{name}{end}": column.to_numpy() for end, column in columns.items()}


def seed_noise(audit: Audit) -> SeedNoise:
    """Return the standard deviation between seeds at full fidelity, of study and audit."""
    study, key = audit.study.frame, audit.quantity.key
    done = study[study["state"].eq("done") & study[key].notna() & ~study["baseline"]]
    full = audit.fidelities[-1].name
    fresh = audit.trials[audit.trials["fresh"] & audit.trials["way"].eq(full)]
    rows = pd.concat([done, fresh])
    cells = rows.assign(of=_network_keys(rows)).pivot_table(index="of", columns="seed", values=key)
    return pooled_seed_noise(cells.to_numpy(float))


def network_ranks(audit: Audit, max_rank: int = _MAX_RANK) -> pd.DataFrame:
    """Return the ranks of the front and the best networks of the study, and their possible ranks.

    Args:
        audit: audit of the study.
        max_rank: number of best networks to include.

    Returns:
        `network`, `on_front`, the deciding quantity as `value` (mean over the study's own seeds),
        `n`, `rank`, `rank_low`, `rank_high` (see `rank_intervals`) and `of` (number of networks
        with a rank).
    """
    trials, quantity = audit.study.where(~audit.study.frame["baseline"]), audit.quantity
    rows = aggregate(trials, {quantity.key: quantity.better})
    scores = _sign(quantity) * rows[quantity.key].to_numpy(float)
    scores[has_failed_seed(rows)] = np.nan
    ranks = rank_intervals(scores, rows["n"].to_numpy(float), seed_noise(audit))
    intervals = {"rank": ranks.rank, "rank_low": ranks.low, "rank_high": ranks.high}
    names = network_names(rows)
    on_front = names.isin(front_names(audit.study))
    facts = {"network": names, "on_front": on_front, "value": rows[quantity.key], "n": rows["n"]}
    table = pd.DataFrame({**facts, **intervals}).astype(dict.fromkeys(intervals, "Int64"))
    table["of"] = int(table["rank"].notna().sum())
    shown = table[table["rank"].notna() & (table["on_front"] | table["rank"].le(max_rank))]
    return shown.sort_values("rank", kind="stable").reset_index(drop=True)
