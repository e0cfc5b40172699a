import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from partialnas.analysis.report.report import write_report
from partialnas.space.arch.plan import Plan

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

HOSTILE = '</script><script>window.hit=1</script><img src=x onerror="window.hit=1">\''
TASK = json.dumps({"data": "mnist5k", "resolution": 28, "channels": 1, "classes": 10})
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
POINT = "svg.front:visible .point.front"

Made = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"no browser is installed: none of {', '.join(PROGRAMS)}")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, ledgers: Made, measure: Made) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    records, timed = [], []
    for i in range(40):
        plan = Plan.model_validate({"stem_stride": 2, "width": 8 + 2 * (i % 8), "head_width": 64})
        subject = plan.architecture().model_dump(mode="json")
        nll = 0.2 + ((7 * i) % 40) / 100
        curve = [{"epoch": float(e), "val_nll": nll + 1 / e} for e in range(1, 6)]
        cost = {"params": 1000 + i, "macs": 10_000 + i, "macs_core": 1, "activations": 1}
        arm = HOSTILE if i == 39 else None
        records.append(
            {
                "arm": arm, "subject": subject, "cost": cost, "curve": curve, "state": "done",
                "metrics": {"val_nll": nll, "val_accuracy": 90.0}, "name": arm or "",
            }
        )  # fmt: skip
        timed.append(measure(f"{i:016x}", 1 + i / 40, 1000.0))
    study = {"question": HOSTILE}
    ledgers(folder / "study", records, timed, study, {"task": TASK})
    return write_report(folder / "study", folder / "report.html")


@pytest.fixture(params=[(1280, 900), (390, 844)], ids=["desk", "phone"])
def page(request: pytest.FixtureRequest, browser: "Browser", report: Path) -> Iterator["Page"]:
    width, height = request.param
    context = browser.new_context(viewport={"width": width, "height": height}, offline=True)
    opened = context.new_page()
    problems: list[str] = []
    opened.on("console", lambda message: problems.append(message.text))
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on(
        "request",
        lambda request: problems.append(request.url) if request.url != report.as_uri() else None,
    )
    opened.goto(report.as_uri())
    yield opened
    assert not problems
    assert opened.evaluate("window.hit") is None
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()


def test_hovering_names_the_network_and_clicking_shows_its_details(page: "Page") -> None:
    point = page.locator(POINT).first
    point.hover(force=True)
    output = page.locator(".tip")
    assert output.is_visible()
    assert "Validation NLL (nats)" in output.inner_text()
    assert "widths" in output.inner_text()
    point.click(force=True)
    panel = page.locator(".panel")
    assert panel.is_visible()
    assert panel.locator("text=stage 4, block 1").count() == 1
    assert panel.locator("svg.split").count() >= 4
    assert panel.locator("svg.plot path.curve").count() == 1
    panel.locator("button", has_text="Close").click()
    assert not panel.is_visible()


def test_the_keyboard_goes_through_the_points_and_opens_them(page: "Page") -> None:
    assert page.locator('svg.front:visible [tabindex="0"]').count() == 1
    page.locator('svg.front:visible [tabindex="0"]').focus()
    first = page.evaluate("document.activeElement.dataset.id")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").count(
        "Validation NLL"
    )
    page.keyboard.press("ArrowRight")
    second = page.evaluate("document.activeElement.dataset.id")
    assert first != second
    assert page.locator(".tip").is_visible()
    page.keyboard.press("Enter")
    assert page.locator(".panel").is_visible()
    assert page.evaluate("document.activeElement.className") == "panel"
    page.keyboard.press("Escape")
    assert not page.locator(".panel").is_visible()
    assert page.evaluate("document.activeElement.dataset.id") == second
    page.keyboard.press("End")
    page.keyboard.press("Home")
    assert page.evaluate("document.activeElement.dataset.id") == first


def test_names_in_the_table_open_the_same_panel(page: "Page") -> None:
    button = page.locator("#front-table button").first
    name = button.inner_text()
    button.click()
    assert page.locator(".panel h3").inner_text() == name


def test_names_of_users_are_shown_as_they_are(page: "Page") -> None:
    assert page.locator(".question").inner_text() == HOSTILE
    button = page.locator("#front-table button", has_text="script")
    button.click()
    assert page.locator(".panel h3").inner_text() == HOSTILE


def test_every_interactive_element_has_a_name(page: "Page") -> None:
    nameless = page.evaluate(
        """[...document.querySelectorAll('a, button, [role=button], [role=region], [role=img]')]
        .filter(e => !(e.getAttribute('aria-label') || e.getAttribute('aria-labelledby')
                       || e.textContent.trim())).length"""
    )
    assert nameless == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(browser: "Browser", report: Path, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(report.as_uri())
    colors = page.evaluate(
        """['h1', '.state', 'nav a', 'figcaption', 'td', 'summary', '.which'].map(
            s => document.querySelector(s)).filter(Boolean).map(
            e => [getComputedStyle(e).color, getComputedStyle(document.body).backgroundColor])"""
    )
    assert len(colors) >= 6
    for ink, paper in colors:
        assert _contrast(ink, paper) >= 4.5
    paper = colors[0][1]
    assert (_luminance(paper) < 0.2) == (scheme == "dark")
    context.close()


def _luminance(color: str) -> float:
    # relative luminance and contrast as WCAG 2 defines them
    parts = [int(p) / 255 for p in color[color.index("(") + 1 : -1].split(",")[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_without_scripts_figure_and_tables_are_there(browser: "Browser", report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator(POINT).first.is_visible()
    assert page.locator("#front-table tbody tr").count() >= 2
    assert page.locator(".panel").is_hidden()
    context.close()


def test_print_shows_the_figure_without_interactive_elements(
    browser: "Browser", report: Path
) -> None:
    page = browser.new_page()
    page.goto(report.as_uri())
    page.emulate_media(media="print")
    assert page.locator("svg.front.wide").is_visible()
    assert page.locator("nav").is_hidden()
    assert page.pdf().startswith(b"%PDF")
    page.close()
