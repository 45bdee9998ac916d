"""worldmodel report --explorer: the page in a browser without network, beside the Python client."""

import base64
import contextlib
import gzip
import hashlib
import io
import re
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from browser import CHROMIUM, Page
from projects import Project
from test_model_report import EVIL, edit_json, lay_out
from worldmodel.report import build, explorer, runtime
from worldmodel.report.collect import NORMALIZED

EMPTY = runtime.Runtime(b"", b"")


@pytest.fixture(scope="module")
def web():
    """The library that the page runs with."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    try:
        return runtime.runtime()
    except ValueError as error:
        pytest.skip(f"onnxruntime-web cannot be had: {error}")


@pytest.fixture(scope="module")
def page_of(web, tmp_path_factory):
    """Project -> file of its page, made once."""

    made: dict[Path, Path] = {}

    def page_of(project: Project) -> Path:
        if project.folder not in made:
            path = lay_out(project, tmp_path_factory.mktemp("project")) / "explorer.html"
            with contextlib.chdir(path.parent), pytest.MonkeyPatch.context() as patch:
                patch.setattr(explorer, "runtime", lambda: web)
                path.write_text(explorer.explorer_page(None), encoding="utf-8")
            made[project.folder] = path
        return made[project.folder]

    return page_of


@pytest.fixture
def browser(tmp_path):
    with Page(tmp_path / "profile") as page:
        yield page


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settled(page: Page) -> str:
    """Waits until all is drawn, or the page says why it cannot be: this text."""
    end = time.monotonic() + 240
    while time.monotonic() < end:
        if page.run("document.getElementById('loading')?.className === 'warning'"):
            return page.run("document.getElementById('loading').textContent")
        if page.run("!!globalThis.explorer?.settled() && !document.getElementById('page').hidden"):
            return ""
        time.sleep(0.05)
    raise AssertionError(f"the page is not ready: {page.console}")


def expected(project, view: dict, plan):
    """What the client says to a plan [K, A] at the frame of a view of the page."""
    model, data = project.client(), project.read_packed()
    shown = explorer._episodes(data.packed, project.scaler, model)[view["episode"]]
    seen = slice(max(0, view["frame"] - model.history + 1), view["frame"] + 1)
    actions = shown.moves[seen][:-1, : model.action_count] if model.action_count else None
    return model.predict(model.encode(shown.features[seen], actions), plan)


def slide(page: Page, title: str, value: float) -> None:
    """As a hand does: to a value, without letting go."""
    page.run(
        f"""{{ const label = [...document.querySelectorAll("label")].find(
        (each) => each.firstChild.textContent === {title!r} && !each.classList.contains("absent") && each.offsetParent);
        const input = label.querySelector("input"); input.value = {value}; input.focus({{preventScroll: true}});
        input.dispatchEvent(new Event("input")); }}"""
    )


def test_the_page_computes_what_the_client_does_at_any_frame_for_any_plan(variant, page_of, browser):
    model, plans = variant.client(), "a0=ramp:-0.25:0.5&a1=hold:0.125&plan=each:1.0.2"
    browser.open(f"{page_of(variant).as_uri()}#episode=1&frame=0&ahead=3&{plans}")
    for frame in (0, model.history + 2):
        assert settled(browser) == ""
        view, told = browser.run("explorer.state()"), browser.run("explorer.futures()")
        plan = np.array(told["plan"], np.float32) if model.action_count else None
        assert (view["episode"], view["frame"], len(told["plan"])) == (1, frame, 3)
        if model.discrete:
            assert plan.tolist() == np.eye(model.action_count)[[1, 0, 2]].tolist()
        elif model.action_count:
            assert plan[:, :2] == pytest.approx(np.array([[-0.25, 0.125], [0.125, 0.125], [0.5, 0.125]]))
        future = expected(variant, view, plan)
        parts = [part for part, values in future._asdict().items() if values is not None]
        assert set(parts) <= told["own"].keys()
        for part in parts:
            np.testing.assert_allclose(told["own"][part], getattr(future, part)[:3], rtol=1e-4, atol=1e-5)
        slide(browser, "now, at frame", model.history + 2)
    assert not browser.console


def test_it_follows_sliders_keys_and_addresses_and_nothing_jumps(project, page_of, browser):
    places = "[...document.querySelectorAll('figure, input, select')].map((each) => each.getBoundingClientRect().top)"
    first = "document.querySelector('#features path.model').getAttribute('d')"
    browser.resize(420, 900)
    browser.open(f"{page_of(project).as_uri()}#a0=hold:0.5&frame=4")
    assert settled(browser) == ""
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    before, path = browser.run(places), browser.run(first)
    for value in (0.25, -0.5, 1e9):
        slide(browser, "value", value)
    assert settled(browser) == ""
    assert browser.run(places) == before
    assert browser.run(first) != path
    high = browser.run("explorer.state().plan[0].from")
    browser.press("ArrowLeft")
    assert settled(browser) == ""
    assert browser.run("explorer.state().plan[0].from") < high
    browser.run("new Promise((done) => setTimeout(done, 400))")
    address = browser.run("location.hash")
    assert re.search(r"frame=4&.*a0=hold:", address)
    browser.run("location.hash = '#episode=99&frame=-3&ahead=x&features=1,1,77&a0=wave:1:2&a1=nonsense&plan=each:9'")
    assert settled(browser) == ""
    view = browser.run("explorer.state()")
    assert (view["episode"], view["frame"], view["features"]) == (1, 0, [1])
    assert [each["shape"] for each in view["plan"]] == ["wave", "log", "log"]
    browser.run(f"location.hash = {address!r}")
    assert settled(browser) == ""
    assert browser.run("explorer.state().frame") == 4
    assert not browser.console


def test_what_keeps_the_model_from_running_is_said_in_the_page(project, page_of, browser, tmp_path):
    junk = base64.b64encode(gzip.compress(b"junk")).decode()
    broken = tmp_path / "broken.html"
    whole = page_of(project).read_text(encoding="utf-8")
    broken.write_text(re.sub('(?<=id="predictor">)[^<]*', junk, whole), encoding="utf-8")
    browser.open(broken.as_uri())
    assert settled(browser).startswith("The model cannot run here: predictor.onnx cannot be loaded: ")
    browser.open(page_of(project).as_uri(), before="delete globalThis.WebAssembly")
    assert settled(browser) == "The model cannot run here: this browser has no WebAssembly, or it is switched off."


def test_names_from_logs_are_text_and_nothing_is_asked_of_a_network(project, here, monkeypatch):
    monkeypatch.setattr(explorer, "runtime", lambda: EMPTY)
    with pytest.raises(
        ValueError, match=r"the explorer needs a bundle below artifacts/worldmodel, and data/worldmodel"
    ):
        explorer.explorer_page(None)
    lay_out(project, here)
    edit_json(
        here / NORMALIZED / "manifest.json", lambda body: [each.update(agent_id=EVIL) for each in body["episodes"]]
    )
    build.command.main(["--explorer"], standalone_mode=False)
    page = build.EXPLORER.read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert page.count("<script") == page.count("</script>") == 8
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|src=|@import|url\(", page)
    script = re.search(r'<script type="module">(.*?)</script>', page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}' data: 'wasm-unsafe-eval'" in page
    )


def test_each_agent_has_its_turn_and_long_episodes_are_cut(project, monkeypatch):
    data, model = project.read_packed(), project.client()
    monkeypatch.setattr(explorer, "EPISODES", 1)
    monkeypatch.setattr(explorer, "NUMBERS", 1)
    (shown,) = explorer._episodes(data.packed, project.scaler, model)
    assert len(shown.features) == min(model.history + 2 * model.horizon, data.packed.lengths.max())
    monkeypatch.undo()
    count = len(data.packed.lengths)
    labels = replace(data.packed.labels, agents=("a",) * (count - 1) + ("b",), splits=("test",) * count)
    packed = replace(data.packed, labels=replace(labels, sources=("observed",) * count))
    monkeypatch.setattr(explorer, "EPISODES", 2)
    assert {each.agent for each in explorer._episodes(packed, project.scaler, model)} == {"a", "b"}


def test_the_library_comes_through_npm_once_and_is_what_was_expected(here, monkeypatch):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, content in ((runtime.SCRIPT, b"script"), (runtime.WASM, b"wasm")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    (here / "archive").write_bytes(archive.getvalue())
    npm = here / "bin/npm"
    npm.parent.mkdir()
    npm.write_text(f'#!/bin/sh\necho "$2" >> {here}/calls\ncp {here}/archive {runtime.FILE}\n', encoding="utf-8")
    npm.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    monkeypatch.setattr(runtime, "environment", dict, raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        ValueError, match=r"npm: not found.*\n.*call `npm pack onnxruntime-web@\S+` .* to .*cache/worldmodel"
    ):
        runtime.runtime()
    monkeypatch.setenv("PATH", f"{npm.parent}:/usr/bin:/bin")
    with pytest.raises(ValueError, match=r"its sha512 is .*, expected .*; remove it"):
        runtime.runtime()
    runtime.cached().unlink()
    monkeypatch.setattr(runtime, "SHA512", base64.b64encode(hashlib.sha512(archive.getvalue()).digest()).decode())
    assert runtime.runtime() == runtime.runtime() == (b"script", b"wasm")
    assert (here / "calls").read_text().split() == [runtime.PACKAGE] * 2


def test_the_report_leads_to_the_explorer_where_it_lies_beside_it(here, monkeypatch, capsys):
    build.command.main([], standalone_mode=False)
    assert "explorer" not in build.OUT.read_text(encoding="utf-8")
    build.EXPLORER.touch()
    build.command.main([], standalone_mode=False)
    assert '<a href="explorer.html">' in build.OUT.read_text(encoding="utf-8")
