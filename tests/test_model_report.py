"""worldmodel report: the page of tiny projects, read as XML, which it is too."""

import csv
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from copies import tiny_params
from projects import Project, observed_and_dreams
from test_validate import beside
from worldmodel.core import run_records
from worldmodel.evaluation import metrics
from worldmodel.numerics.pinning import AVX2
from worldmodel.report import build, collect
from worldmodel.report.collect import BUNDLES, NORMALIZED, PLOTS, TRAINED
from worldmodel.report.wording import number, percent

ANCHORS = ["data", "horizon", "agents", "features", "worst", "latent", "dreams"]
ANCHORS += ["training", "timing", "params", "provenance"]
EVIL = '<script>alert("1")</script> & \u202e]]>$x_{1}$ {{ data }}'
PLACES = {"normalized": NORMALIZED, "train": TRAINED, "worldmodel": BUNDLES, "plots": PLOTS}
LOCKED = {
    "train": {"deps": [{"path": "data/logs", "md5": "1" * 32}], "outs": [{"path": "artifacts/train", "md5": "2"}]}
}
HASH = (
    "import hashlib, numpy; from worldmodel.report.build import page; print(hashlib.md5(page().encode()).hexdigest())"
)


def lay_out(project: Project, folder: Path, places=PLACES) -> Path:
    """As the pipeline leaves it."""
    for name, place in places.items():
        shutil.copytree(project.folder / name, folder / place)
    for name in ("metrics.json", "timing.json"):
        shutil.copy(project.folder / name, folder / "artifacts" / name)
    params = tiny_params()
    params["validate"]["horizon"] = project.settings.horizon
    (folder / "dvc.lock").write_text(yaml.safe_dump({"stages": LOCKED}), encoding="utf-8")
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The folder that a report is of; DVC says that nothing is stale there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(collect, "stale", dict)
    return tmp_path


def write_run(folder: Path, run_id: str = "", **trace) -> None:
    """As `worldmodel control` does, of the bundle there or another one."""
    means = {"planner": -130.0, "oracle": -120.0, "random": -1120.0, "hold": -1300.0, EVIL: -200.0}
    wave = [[math.sin(frame), math.cos(frame)] for frame in range(7)]
    run = {
        "run_id": run_id or next((folder / BUNDLES).iterdir()).name,
        **{"env": "Pendulum-v1", "seed": 0, "episodes": 3, "steps": 6},
        "planner": {"samples": 64, "decide_ms": {"p50": 12.5, "p99": 31.0}},
        "rows": {name: {"mean": mean, "low": mean - 20, "high": mean + 20} for name, mean in means.items()},
        "leads": {"hold": {"mean": 1170.0, "low": 1150.0, "high": 1190.0, "sure": True}},
        "notes": ["The logs are few."],
        "trace": {
            **{"seconds_per_frame": None, "feature_names": ["x", "y"], "features": wave},
            **{"reward": [0.0, 1.0, 0.0, 2.0, -1.0, 0.5], "predicted_reward": [0.5, 1.0, 0.0, 1.0, -2.0, 0.5]},
            **{"disagreement": [0.1, 0.5, 0.2, 0.2, 0.9, 0.3]},
            "plans": [{"at": 2, "features": wave[1:4], "std": [[0.5, 0.25], [1.0, 0.5], [0.5, 0.5]]}],
            **trace,
        },
    }
    (folder / "runs/control").mkdir(parents=True, exist_ok=True)
    (folder / "runs/control/Pendulum-v1.json").write_text(json.dumps(run), encoding="utf-8")


def page() -> ElementTree.Element:
    return ElementTree.fromstring(build.page().removeprefix("<!DOCTYPE html>"))


def text_of(tree, anchor=None) -> str:
    element = tree if anchor is None else next(each for each in tree.iter("section") if each.get("id") == anchor)
    return " ".join("".join(element.itertext()).split()).replace("\u202f", " ")


def edit_json(path: Path, edit) -> None:
    body = json.loads(path.read_text(encoding="utf-8"))
    edit(body)
    path.write_text(json.dumps(body), encoding="utf-8")


def test_a_bundle_in_a_folder_of_another_name_keeps_its_run_id(project, here):
    bundle = next((lay_out(project, here) / BUNDLES).iterdir())
    title = text_of(page()).split(" Over ")[0]
    bundle.rename(bundle.with_name("current"))
    assert text_of(page()).startswith(title)
    assert f"World model {bundle.name}" in title


def test_every_kind_of_project_has_a_whole_page_that_asks_for_nothing_and_runs_nothing(variant, here):
    lay_out(variant, here)
    tree = page()
    source, attributes = (
        ElementTree.tostring(tree, encoding="unicode"),
        [each for tag in tree.iter() for each in tag.items()],
    )
    assert [each.get("id") for each in tree.iter("section") if each.get("id")] == ANCHORS
    assert [link.get("href") for link in tree.find(".//nav").iter("a")] == [f"#{anchor}" for anchor in ANCHORS]
    assert "not here" not in text_of(tree).replace("made is not known here", "")
    assert set(Counter(value for key, value in attributes if key == "id").values()) == {1}
    assert not {"script", "link", "img", "image", "use", "iframe", "object", "embed", "base"} & {
        each.tag for each in tree.iter()
    }
    assert not [key for key, value in attributes if key.startswith("on") or key == "src" or "//" in value]
    assert not re.search(r"url\(|@import|#fe00|javascript:|https?:", source)
    assert any(each.get("content", "").startswith("default-src 'none'") for each in tree.iter("meta"))
    assert set(re.findall(r"var\((--[\w-]+)\)", source)) <= set(re.findall(r"(--[\w-]+):", source))


def test_who_cannot_see_it_finds_their_way(project, here):
    lay_out(project, here)
    tree = page()
    levels = [int(each.tag[1]) for each in tree.iter() if re.fullmatch("h[1-6]", each.tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(each.get("role") == "img" and len(each.get("aria-label")) > 20 for each in tree.iter("svg"))
    assert all(each.find("caption").text for each in tree.iter("table"))
    assert all(row.find("th").get("scope") for row in tree.iter("tr"))


def test_runs_in_a_simulator_are_shown_where_they_are_of_this_bundle(project, here):
    write_run(lay_out(project, here), run_id="0" * 12)
    assert "control" not in [each.get("id") for each in page().iter("section")]
    write_run(here, seconds_per_frame=0.5)
    tree = page()
    text = text_of(tree, "control")
    assert "Pendulum-v1 The planner chose every action in the real simulator: 3 episodes of at most 6 steps" in text
    assert "It decided in 12.5 ms (median), 31.0 ms (99th percentile)." in text
    assert "planner\u2212130\u2212150 to \u2212110--99.0 %" in text
    assert "hold\u22121,300\u22121,320 to \u22121,2801,1701,150 to 1,190\u221218.0 %" in text
    assert "The logs are few." in text
    assert "seconds" in text
    assert " ".join(EVIL.split()) in text
    assert not list(tree.iter("script"))
    for change, complaint in (
        ({"reward": [0.0]}, "1 rewards, 7 frames"),
        ({"plans": [{"at": 0, "features": [[1.0]], "std": [[1.0]]}]}, "not all of 2 features"),
        ({"disagreement": "none"}, "disagreement: expected a valid list, found 'none'"),
    ):
        write_run(here, **change)
        with pytest.raises(ValueError, match=rf"runs/control/Pendulum-v1\.json: cannot be read: .*{complaint}"):
            build.page()


def test_names_from_logs_are_only_ever_text(project, here, monkeypatch):
    lay_out(project, here)
    renamed = {"observed-6": f"{EVIL}6", "dream-0": f"{EVIL}d"}
    renamed |= dict.fromkeys(("agent-0", "feature 0", "train", "drawn"), EVIL)

    def rename(body):
        for episode in body["episodes"]:
            episode |= {key: renamed.get(episode[key], episode[key]) for key in ("agent_id", "name")}

    edit_json(here / NORMALIZED / "manifest.json", rename)
    for path in (here / PLOTS).glob("*.csv"):
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([[renamed.get(cell, cell) for cell in row] for row in rows])
    params = yaml.safe_load((here / "params.yaml").read_text(encoding="utf-8"))
    (here / "params.yaml").write_text(yaml.safe_dump(params | {EVIL: {"a": EVIL}}), encoding="utf-8")
    bundle = next((here / BUNDLES).iterdir())
    with run_records.attempt(here / "runs" / bundle.name, {"run_id": bundle.name, "stage": "export"}):
        pass
    secret = f"export --logs http://user:pass@host {EVIL}"
    edit_json(
        here / "runs" / bundle.name / "metadata.json",
        lambda body: body["attempts"][-1].update(
            host=EVIL, command=secret, python=EVIL, git={"revision": EVIL, "changed": []}
        ),
    )
    monkeypatch.setattr(collect, "stale", lambda: {EVIL: [EVIL]})
    tree = page()
    assert not list(tree.iter("script"))
    assert "user:pass" not in text_of(tree)
    for anchor in (None, "data", "agents", "features", "worst", "latent", "training", "params", "provenance"):
        assert " ".join(EVIL.split()) in text_of(tree, anchor)


@pytest.mark.slow
def test_the_same_files_give_the_same_bytes_whatever_the_process_has_loaded_before(project, here, monkeypatch):
    lay_out(project, here)
    code = "import numpy, sys; from worldmodel.report.build import page; sys.stdout.write(page())"
    free = {key: value for key, value in os.environ.items() if key not in AVX2}
    free |= {"PYTHONPATH": str(Path(build.__file__).parents[2]), "PYTHONUTF8": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=free, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    monkeypatch.setattr(collect, "stale", lambda: None)  # what DVC, which has no project here, has told that process
    assert build.page() == build.page() == done.stdout


def test_numbers_are_those_of_the_files(project, here):
    lay_out(project, here)
    tree, data = page(), collect.collect()
    summary, horizon, agents = text_of(tree.find(".//section")), text_of(tree, "horizon"), text_of(tree, "agents")
    for key in ("mse.mean", "baseline.linear.mse", "baseline.persistence.mse", "rare.mse"):
        assert number(data.metrics[key]) in summary
    assert percent(data.metrics["coverage.p90"]).replace("\u202f", " ") in summary
    assert summary.startswith(f"Verdict: {data.plots['verdict'][0]['text']} ")
    assert "2 test episodes cannot tell, it takes 3 at least" in summary
    for name, (frames, errors) in data.series("horizon", "frame", "mse").items():
        means = data.scored.intervals[name]
        assert means.value[:-1].tolist() == pytest.approx(errors, rel=1e-5)
        for frame in (1, 2, 4):
            low, value, high = (number(each[frame - 1]) for each in (means.low, errors, means.high))
            assert f"{value} ({low} to {high})" in horizon, (name, frame)
        assert frames == [1, 2, 3, 4]
    assert data.scored.intervals["model"].value[-1] == pytest.approx(data.metrics["mse.mean"], rel=1e-5)
    for row in data.plots["agents"]:
        assert all(number(float(row[key])) in agents for key in ("model", "ridge", "hold-last"))
    for key, value in data.params.items():
        assert f"{key.partition('.')[2] or key}{value}" in text_of(tree, "params"), key
    worst = max(metrics.episodes(data.scored.scores, data.packed.labels), key=lambda row: row.model)
    assert f"{worst.name} of {worst.agent_id}: error {number(worst.model)}" in text_of(tree, "worst")


def test_what_is_missing_is_named_with_the_command_that_makes_it(project, here):
    assert "How good the model is: not here. It comes with make repro." in text_of(page())
    lay_out(project, here, {"plots": PLOTS})
    tree = page()
    for anchor in ("data", "horizon", "worst", "latent", "dreams"):
        assert re.search(r"not here\. It comes with dvc pull or make (repro|data)", text_of(tree, anchor)), anchor
    for anchor in ("horizon", "agents", "worst", "training"):
        assert list(tree.find(f".//section[@id='{anchor}']").iter("svg")), anchor
    assert re.search(r"the model's error is [\d.]+ % (less|more) than ridge's \(", text_of(tree))


def test_without_dreams_it_says_how_to_get_some(project, here, tmp_path_factory):
    found = beside(project, tmp_path_factory.mktemp("real"), observed_and_dreams(dreams=0))
    shutil.copytree(project.trained, found.trained)
    shutil.copytree(project.plots, found.plots)
    shutil.copy(project.clock, found.clock)
    found.validate()
    lay_out(found, here)
    tree = page()
    assert "there are no dreams" in text_of(tree, "dreams")
    assert "Dreams: not here. It comes with dvc exp run -S dreams.episodes=3000." in text_of(tree, "latent")


def test_files_that_are_damaged_or_do_not_belong_together_are_named(project, here):
    lay_out(project, here)
    edit_json(here / "artifacts/metrics.json", lambda body: body["mse"].update(mean=1.1 * body["mse"]["mean"]))
    with pytest.raises(ValueError, match=r"metrics\.json: mse\.mean is .* run `dvc checkout`"):
        build.page()
    (here / PLOTS / "loss.csv").write_text('step,series,loss\n"150', encoding="utf-8")
    shutil.rmtree(here / BUNDLES)
    with pytest.raises(ValueError, match=r"artifacts/plots/loss\.csv: cannot be read"):
        build.page()
    (here / PLOTS / "loss.csv").write_text("step,loss\n150,1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="lacks 'series', as if another version had written it; run `dvc repro`"):
        build.page()


def test_the_command_says_what_is_stale_first_and_what_was_timed_and_made_elsewhere(project, here, monkeypatch, capsys):
    lay_out(project, here)
    monkeypatch.setattr(collect, "stale", lambda: {"train": ["train.rho modified"]})
    edit_json(here / "artifacts/timing.json", lambda body: body["train"].update(of="000000000000"))
    with run_records.attempt(here / "runs" / project.bundle.name, {"run_id": project.bundle.name, "stage": "export"}):
        pass
    build.command.main(["--out", "elsewhere/page.html"], standalone_mode=False)
    assert re.fullmatch(r"elsewhere/page\.html: \d+ kB\n", capsys.readouterr().out)
    tree = ElementTree.fromstring((here / "elsewhere/page.html").read_text("utf-8").removeprefix("<!DOCTYPE html>"))
    text, timing = text_of(tree), text_of(tree, "timing")
    assert text.index("Changed: train (train.rho modified)") < text.index("the model's error is")
    assert "Of training: timed for 000000000000" in timing
    assert "Of the exported model: timed for" not in timing
    assert f"The bundle was exported on {platform.node()}, 2" in text_of(tree, "provenance")


def test_numbers_have_three_digits_and_are_written_out():
    values = (0.05844, 0.12, -1.5, 123.4, 26885.4, 9e-6)
    assert [number(value) for value in values] == ["0.0584", "0.120", "\u22121.50", "123", "26,885", "9e\u221206"]
