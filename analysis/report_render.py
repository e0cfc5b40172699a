"""How the report becomes a page: templates that escape all they show, and what a browser may do."""

import base64
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

_PAGE = Path(__file__).parent / "report_page"


def rendered(context: Mapping[str, Any]) -> str:
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
