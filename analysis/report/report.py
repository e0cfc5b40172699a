"""The report of a study: one self-contained HTML file."""

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
from partialnas.analysis.report import study_facts
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
from partialnas.analysis.report.warnings import report_warnings
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.study_meta import DRY_RUN_NOTICE
from partialnas.runs.ledger.usage import format_duration
from partialnas.runs.system.files import check_output_path, write_file
from partialnas.space.errors import UserError, markup_text

SUFFIXES = (".html", ".htm")


def report_artefact(folder: Path | str, *, refresh: int | None = None) -> Artefact:
    """Return the report of a study; the same ledger gives the same bytes.

    Args:
        folder: the study's folder.
        refresh: seconds after which a browser reloads the page, or None.

    Raises:
        UserError: the folder holds no ledger.
        MachineError: the ledger is damaged or cannot be read.
    """
    content = _load_content(Path(folder))
    return Artefact(
        studies=content.trials.studies,
        query=Query(verb="report", arguments={}),
        texts={".html": render_page(_context(content, refresh))},
    )


def write_report(folder: Path | str, path: Path | str, *, refresh: int | None = None) -> Path:
    """Write the report of a study atomically, and return its path.

    Args:
        folder: the study's folder.
        path: the file, which ends in `.html`.
        refresh: see `report_artefact`.

    Raises:
        UserError: the folder holds no ledger, or the path is unsuitable.
        MachineError: the ledger is damaged or cannot be read, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: the file of a report ends in {' or '.join(SUFFIXES)}")
    check_output_path(path)
    return write_file(path, report_artefact(folder, refresh=refresh).content(".html"))


class _Content(NamedTuple):
    """Everything that a report shows, read from the ledger."""

    study: study_facts.StudyFacts
    trials: Trials
    fronts: list[FrontSection]
    effects: list[EffectsSection]
    ratios: TextTable | None
    stages: list[TextTable]
    audits: list[AuditSection]
    warnings: pd.DataFrame


def _load_content(folder: Path) -> _Content:
    trials = load_trials(folder, stage=None)
    frame = trials.frame
    main_stage = trials.where(frame["stage"].eq(""))
    with Ledger.open(folder) as ledger:
        study = study_facts.study_facts(ledger, folder.name)
        details = NetworkDetails(ledger, main_stage.frame)
        audits = audit_sections(folder, study.recorded, trials)
        ranks = {audit.condition: audit.ranks for audit in audits if audit.ranks}
        fronts = front_sections(main_stage, details, ranks)
    series = with_series(frame)
    warnings, ratios = load_warnings(folder, series), None
    if details.has_learned_ratios:
        ratios = report_tables.ratios_sheet(series, load_ratios(folder), warnings)
    return _Content(
        study=study,
        trials=trials,
        fronts=fronts,
        effects=[] if study.is_search else effects_sections(folder, main_stage.frame),
        ratios=ratios,
        stages=[*_stages(folder, study)],
        audits=audits,
        warnings=warnings,
    )


def _stages(folder: Path, study: study_facts.StudyFacts) -> Iterator[TextTable]:
    of_audits = audit_stages(study.recorded)
    for name in study.recorded.stages:
        if name in of_audits:
            continue
        try:
            yield report_tables.stage_sheet(folder, name)
        except (UserError, KeyError):  # no trial of the stage has finished yet
            continue


def _context(content: _Content, refresh: int | None) -> dict[str, Any]:
    study, frame = content.study, content.trials.frame
    design, frozen = study.recorded.design, study.recorded.frozen
    tables = [
        report_tables.arms_sheet(design) if design else None,
        report_tables.left_out_sheet(design) if design else None,
        report_tables.axes_sheet(frozen),
        report_tables.sources_sheet(study, frame),
    ]
    shown, learned = (content.fronts, content.effects, content.audits), content.ratios is not None
    networks = {key: value for section in content.fronts for key, value in section.networks.items()}
    return {
        "study": study,
        "digest": content.trials.studies[0].digest,
        "refresh": refresh,
        "state": _state(study),
        "banners": _banners(study, refresh),
        "numbers": _numbers(content),
        "sections": _sections(content),
        "views": content.fronts,
        "effects": content.effects,
        "ratios": content.ratios,
        "stages": content.stages,
        "audits": content.audits,
        "design": [(name, text) for name, text in study_facts.describe_study(study) if text],
        "design_sheets": [sheet for sheet in tables if sheet is not None],
        "settings": study_facts.settings_yaml(frozen),
        "sources": study.recorded.trial_sources,
        "warnings": report_warnings(study, frame, content.fronts, content.audits, content.warnings),
        "failures": report_tables.failures_sheet(frame),
        "retried": report_tables.retried_sheet(frame),
        "early": report_tables.early_sheet(frame),
        "compute": report_tables.compute_sheet(study, frame),
        "compute_note": _compute_note(study, frame),
        "environment": report_tables.environment_sheet(study),
        "commands": reproduction_commands(study, *shown, has_learned_ratios=learned),
        "data": {"networks": networks},
    }


def _state(study: study_facts.StudyFacts) -> str:
    """Return the number of trials in each state, and when the study ran."""
    counts = ", ".join(f"{number:,} {state}" for state, number in study.states.items())
    stamps = map(study_facts.format_date, (study.started_at, study.finished_at))
    dates = [*dict.fromkeys(filter(None, stamps))]
    return ". ".join(filter(None, [f"Trials: {counts or 'none yet'}", " to ".join(dates)])) + "."


def _banners(study: study_facts.StudyFacts, refresh: int | None) -> list[dict[str, str]]:
    banners = []
    if study.is_dry_run:
        head, _, text = DRY_RUN_NOTICE.partition(" ")
        banners.append({"kind": "rehearsal", "head": head, "text": text.capitalize()})
    if study.unfinished:
        text = f"{study.unfinished:,} trials are planned or running; these are interim results."
        reload = f" This page reloads every {refresh} seconds." if refresh else ""
        banners.append({"kind": "open", "head": "Not complete.", "text": text + reload})
    return banners


def _numbers(content: _Content) -> list[tuple[str, str]]:
    """Return the key figures at the top of the page, with their labels."""
    study, frame = content.study, content.trials.frame
    failed = sum(study.states.get(state, 0) for state in ("failed", "timeout"))
    on_front = sum(section.on_front for section in content.fronts)
    seeds = frame.loc[frame["state"].eq("done"), "seed"].nunique()
    rows = [
        (f"{study.states.get('done', 0):,}", "trials done"),
        (f"{study.states.get('early', 0):,}", "stopped early"),
        (f"{failed:,}", "failed"),
        (f"{frame['digest'].nunique():,}", "networks"),
        (f"{on_front:,}", "on the front"),
        (f"{seeds:,}", "seeds"),
        (format_duration(sum(study.usage.hours.values())), "of compute"),
    ]
    return [(value, label) for value, label in rows if value != "0" or label == "trials done"]


def _sections(content: _Content) -> list[tuple[str, str]]:
    """Return ids and headings of the sections, for the navigation."""
    sections: Sequence[FrontSection | EffectsSection] = [*content.fronts, *content.effects]
    entries = [(section.id, section.heading) for section in sections]
    entries += [("ratios", "Learned ratios")] if content.ratios else []
    entries += [("stages", "Confirmation")] if content.stages else []
    entries += [("trust", "Proxy trust")] if content.audits else []
    names = ("Design", "Warnings", "Failures", "Compute", "Environment", "Reproduce")
    return [*entries, *((name.lower(), name) for name in names)]


def _compute_note(study: study_facts.StudyFacts, frame: pd.DataFrame) -> str:
    counts = frame.loc[frame["trained_on"].ne(""), "trained_on"].value_counts()
    devices = ", ".join(f"{name} ({number:,} trials)" for name, number in counts.items())
    where = f"{'Ran' if study.calls_function else 'Trained'} on {devices}. " if devices else ""
    hours = f"{study.usage.device_hours:.3g} device-hours"
    return f"{where}{hours}; a device is one GPU, or all cores of a machine."


_PAGE = Path(__file__).parent / "page"


def render_page(context: Mapping[str, Any]) -> str:
    """Return the HTML page of a report.

    All input is escaped: in text, in attributes and in the data for the script. The page's content
    security policy allows only its own script and style sheet, by their digests, and no loading.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    dumps = {"sort_keys": True, "allow_nan": False, "separators": (",", ":")}
    environment.policies["json.dumps_kwargs"] = dumps
    environment.filters["coded"] = _mark_code
    css, js = (_text(name) for name in ("page.css", "page.js"))
    page = environment.get_template("page.html")
    text = page.render(**context, css=Markup(css), js=Markup(js), policy=_policy(css, js))
    return markup_text(text)


def _mark_code(text: str) -> Markup:
    """Return a text as escaped HTML, with text between backticks as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _text(name: str) -> str:
    return (_PAGE / name).read_text(encoding="utf-8")


def _policy(css: str, js: str) -> str:
    """Return the content security policy of the page."""
    allowed = {"script-src": _digest(js), "style-src": _digest(css)}
    sources = [f"{kind} '{digest}'" for kind, digest in allowed.items()]
    forbidden = ("default-src", "base-uri", "form-action")
    return "; ".join([*(f"{kind} 'none'" for kind in forbidden), *sources])


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
