"""The report: one HTML file that tells a whole study, and loads nothing from elsewhere."""

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pandas as pd
from markupsafe import Markup, escape

from partialnas.analysis.formats.artefact import Artefact
from partialnas.analysis.formats.text_table import TextTable
from partialnas.analysis.frames.load import load_trials
from partialnas.analysis.frames.provenance import Query
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.ratios.tables import load_ratios, load_warnings, with_series
from partialnas.analysis.report import tables as report_tables
from partialnas.analysis.report.audit_section import AuditSection, audit_sections, audit_stages
from partialnas.analysis.report.commands import reproduction_commands
from partialnas.analysis.report.condition_section import (
    EffectsSection,
    FrontSection,
    effects_sections,
    front_sections,
)
from partialnas.analysis.report.network_section import NetworkDetails
from partialnas.analysis.report.study_facts import (
    StudyFacts,
    describe_study,
    format_date,
    settings_yaml,
    study_facts,
)
from partialnas.analysis.report.warnings import report_warnings
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.study_meta import DRY_RUN_NOTICE
from partialnas.runs.ledger.usage import format_duration
from partialnas.runs.system.files import check_output_path, write_file
from partialnas.space.errors import UserError

SUFFIXES = (".html", ".htm")


def report_artefact(folder: Path | str, *, refresh: int | None = None) -> Artefact:
    """The report of a study; the same ledger gives the same bytes.

    Args:
        folder: of the study.
        refresh: seconds after which a browser loads the page again, while the study runs.

    Raises:
        UserError: the folder holds no ledger.
        MachineError: the ledger is damaged or cannot be read.
    """
    told = _gathered(Path(folder))
    return Artefact(
        studies=told.trials.studies,
        query=Query(verb="report", arguments={}),
        texts={".html": render_page(_context(told, refresh))},
    )


def write_report(folder: Path | str, path: Path | str, *, refresh: int | None = None) -> Path:
    """Writes the report of a study, whole: a reader never meets half of it.

    Args:
        folder: of the study.
        path: the file, which ends in `.html`.
        refresh: see `report_artefact`.

    Raises:
        UserError: the folder holds no ledger, or the path cannot be that of a page.
        MachineError: the ledger is damaged or cannot be read, or the place cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: a report ends in {' or '.join(SUFFIXES)}")
    check_output_path(path)
    return write_file(path, report_artefact(folder, refresh=refresh).content(".html"))


class _Told(NamedTuple):
    """All that a report tells of a study, out of its ledger."""

    study: StudyFacts
    trials: Trials
    fronts: list[FrontSection]
    effects: list[EffectsSection]
    ratios: TextTable | None
    stages: list[TextTable]
    audits: list[AuditSection]
    warned: pd.DataFrame


def _gathered(folder: Path) -> _Told:
    trials = load_trials(folder, stage=None)
    frame = trials.frame
    own = trials.where(frame["stage"].eq(""))
    with Ledger.open(folder) as ledger:
        study = study_facts(ledger, folder.name)
        details = NetworkDetails(ledger, own.frame)
        audits = audit_sections(folder, study.recorded, trials)
        ranks = {each.condition: each.ranks for each in audits if each.ranks}
        fronts = front_sections(own, details, ranks)
        learns = details.has_learned_ratios
    series = with_series(frame)
    warned = load_warnings(folder, series)
    return _Told(
        study=study,
        trials=trials,
        fronts=fronts,
        effects=[] if study.is_search else effects_sections(folder, own.frame),
        ratios=report_tables.ratios_sheet(series, load_ratios(folder), warned) if learns else None,
        stages=[*_stages(folder, study)],
        audits=audits,
        warned=warned,
    )


def _stages(folder: Path, study: StudyFacts) -> Iterator[TextTable]:
    of_audits = audit_stages(study.recorded)
    for name in study.stages:
        if name in of_audits:
            continue
        try:
            yield report_tables.stage_sheet(folder, name)
        except (UserError, KeyError):  # nothing of it has ended yet
            continue


def _context(told: _Told, refresh: int | None) -> dict[str, Any]:
    study, frame = told.study, told.trials.frame
    design = study.design
    tables = [
        report_tables.arms_sheet(design) if design else None,
        report_tables.left_out_sheet(design) if design else None,
        report_tables.axes_sheet(study.frozen),
    ]
    networks = {key: value for view in told.fronts for key, value in view.networks.items()}
    return {
        "study": study,
        "digest": told.trials.studies[0].digest,
        "refresh": refresh,
        "state": _state(study),
        "banners": _banners(study, refresh),
        "numbers": _numbers(told),
        "sections": _sections(told),
        "views": told.fronts,
        "effects": told.effects,
        "ratios": told.ratios,
        "stages": told.stages,
        "audits": told.audits,
        "design": [(name, text) for name, text in describe_study(study) if text],
        "design_sheets": [sheet for sheet in tables if sheet is not None],
        "settings": settings_yaml(study.frozen),
        "warnings": report_warnings(study, frame, told.fronts, told.audits, told.warned),
        "failures": report_tables.failures_sheet(frame),
        "early": report_tables.early_sheet(frame),
        "compute": report_tables.compute_sheet(study, frame),
        "compute_note": _compute(study, frame),
        "environment": report_tables.environment_sheet(study),
        "commands": reproduction_commands(
            study, told.fronts, told.effects, told.audits, has_learned_ratios=told.ratios is not None
        ),
        "data": {"networks": networks},
    }


def _state(study: StudyFacts) -> str:
    """How far the study is, and when it ran."""
    told = ", ".join(f"{number:,} {state}" for state, number in study.states.items())
    dates = [*dict.fromkeys(filter(None, map(format_date, (study.started_at, study.finished_at))))]
    return ". ".join(filter(None, [f"Trials: {told or 'none yet'}", " to ".join(dates)])) + "."


def _banners(study: StudyFacts, refresh: int | None) -> list[dict[str, str]]:
    banners = []
    if study.is_dry_run:
        head, _, text = DRY_RUN_NOTICE.partition(" ")
        banners.append({"kind": "rehearsal", "head": head, "text": text.capitalize()})
    if study.unfinished:
        text = f"{study.unfinished:,} trials are planned or running; what follows is so far."
        again = f" This page loads itself again every {refresh} seconds." if refresh else ""
        banners.append({"kind": "open", "head": "Not complete.", "text": text + again})
    return banners


def _numbers(told: _Told) -> list[tuple[str, str]]:
    """The figures at the top: what, and how many."""
    study, frame = told.study, told.trials.frame
    bad = sum(study.states.get(state, 0) for state in ("failed", "timeout"))
    on_front = sum(view.on_front for view in told.fronts)
    seeds = frame.loc[frame["state"].eq("done"), "seed"].nunique()
    rows = [
        (f"{study.states.get('done', 0):,}", "trials done"),
        (f"{study.states.get('early', 0):,}", "stopped early"),
        (f"{bad:,}", "failed"),
        (f"{frame['digest'].nunique():,}", "networks"),
        (f"{on_front:,}", "on the front"),
        (f"{seeds:,}", "seeds"),
        (format_duration(sum(study.usage.hours.values())), "of computing"),
    ]
    return [(value, what) for value, what in rows if value != "0" or what == "trials done"]


def _sections(told: _Told) -> list[tuple[str, str]]:
    views: Sequence[FrontSection | EffectsSection] = [*told.fronts, *told.effects]
    found = [(view.id, view.heading) for view in views]
    found += [("ratios", "Learned ratios")] if told.ratios else []
    found += [("stages", "Confirmation")] if told.stages else []
    found += [("trust", "Proxy trust")] if told.audits else []
    names = ("Design", "Warnings", "Failures", "Compute", "Environment", "Reproduce")
    return [*found, *((name.lower(), name) for name in names)]


def _compute(study: StudyFacts, frame: pd.DataFrame) -> str:
    counts = frame.loc[frame["trained_on"].ne(""), "trained_on"].value_counts()
    devices = ", ".join(f"{name} ({number:,} trials)" for name, number in counts.items())
    where = f"Trained on {devices}. " if devices else ""
    return (
        f"{where}{study.usage.device_hours:.3g} device-hours: a device is a whole GPU, or all "
        "cores of a machine."
    )


_PAGE = Path(__file__).parent / "page"


def render_page(context: Mapping[str, Any]) -> str:
    """The page of a report.

    Whatever comes from users is escaped, in text, in attributes and in the data for scripts. The
    page's policy lets a browser run its one script and use its one style sheet, both known by
    their digests, and load nothing at all.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {
        "sort_keys": True,
        "allow_nan": False,
        "separators": (",", ":"),
    }
    environment.filters["coded"] = _coded
    css, js = (_text(name) for name in ("page.css", "page.js"))
    page = environment.get_template("page.html")
    return page.render(**context, css=Markup(css), js=Markup(js), policy=_policy(css, js))


def _coded(text: str) -> Markup:
    """A text as HTML, escaped, with what stands between backticks set as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _text(name: str) -> str:
    return (_PAGE / name).read_text(encoding="utf-8")


def _policy(css: str, js: str) -> str:
    """The content security policy of the page."""
    allowed = {"script-src": _digest(js), "style-src": _digest(css)}
    sources = [f"{kind} '{digest}'" for kind, digest in allowed.items()]
    shut = ("default-src", "base-uri", "form-action")
    return "; ".join([*(f"{kind} 'none'" for kind in shut), *sources])


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
