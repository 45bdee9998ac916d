"""The page in a real browser: Playwright's own Chromium, or one that is installed."""

import shutil
from pathlib import Path

import pytest

from test_model_report import EVIL, lay_out
from worldmodel.report import build, material
from worldmodel.report.material import gather

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
INSTALLED = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# Text with less contrast to the page than 4.5 (WCAG 2, AA); colours as "rgb(r, g, b)".
FAINT = """() => {
    const light = text => text.match(/[\\d.]+/g).slice(0, 3).map(Number).map(c => c / 255)
        .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
    const page = light(getComputedStyle(document.body).backgroundColor);
    const contrast = other => (Math.max(page, other) + 0.05) / (Math.min(page, other) + 0.05);
    return [...document.body.querySelectorAll("*")]
        .filter(each => [...each.childNodes].some(node => node.nodeType === 3 && node.data.trim()))
        .filter(each => contrast(light(getComputedStyle(each).color)) < 4.5).map(each => each.outerHTML);
}"""
OUTSIDE = """() => [...document.body.querySelectorAll("figure, p, h1, h2, h3, h4, .scroll, .tick, svg")]
    .filter(each => !each.closest(".scroll") || each.matches(".scroll"))
    .filter(each => { const box = each.getBoundingClientRect(); return box.right > innerWidth || box.left < 0; })
    .map(each => each.outerHTML.slice(0, 200))"""
OVERLAPPING = """() => [...document.querySelectorAll(".canvas")].flatMap(canvas => ["x", "y"].flatMap(side => {
    const boxes = [...canvas.querySelectorAll(`.tick.${side}`)].map(each => each.getBoundingClientRect());
    return boxes.slice(1).filter((box, n) => side === "x" ? box.left < boxes[n].right : box.bottom > boxes[n].top)
        .map(() => canvas.textContent);
}))"""


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        own = Path(started.chromium.executable_path)
        found = str(own) if own.is_file() else next(filter(None, map(shutil.which, INSTALLED)), None)
        if found is None:
            pytest.skip("no Chromium is here: `playwright install chromium` brings one")
        opened = started.chromium.launch(executable_path=found)
        yield opened
        opened.close()


@pytest.fixture
def file(project, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(lay_out(project, tmp_path))
    monkeypatch.setattr(material, "stale", lambda: {EVIL: ["a reason"]})
    path = tmp_path / "page.html"
    path.write_text(build.page(gather()), encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_it_is_readable_and_quiet(browser, file, scheme, width):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    assert said == []
    assert asked == [file.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(OUTSIDE) == []
    assert page.evaluate(OVERLAPPING) == []
    assert page.evaluate(FAINT) == []
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 28)"
    assert dark == (scheme == "dark")
    page.close()


def test_its_links_lead_to_their_sections(browser, file):
    page = browser.new_page()
    page.goto(file.as_uri())
    for link in page.query_selector_all("nav a"):
        link.click()
        assert page.evaluate("document.querySelector(location.hash).getBoundingClientRect().top < innerHeight")
    page.close()
