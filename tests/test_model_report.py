"""make report: the page of tiny projects, read as XML."""

import csv
import json
import platform
import re
import shutil
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from copies import tiny_params
from projects import Project, make_project, observed_and_dreams
from worldmodel.core import run_records as records
from worldmodel.evaluation import metrics
from worldmodel.report import build, material
from worldmodel.report.material import gather
from worldmodel.report.outputs import BUNDLES, NORMALIZED, PLOTS, TRAINED

ANCHORS = ["data", "horizon", "agents", "worst", "latent", "dreams", "training", "timing", "params", "provenance"]
EVIL = '<script>alert("1")</script> & \u202e]]>'
PLACES = {"normalized": NORMALIZED, "train": TRAINED, "worldmodel": BUNDLES, "plots": PLOTS}
LOCKED = {
    "train": {"deps": [{"path": "data/logs", "md5": "1" * 32}], "outs": [{"path": "artifacts/train", "md5": "2"}]}
}
FILES = ("metrics.json", "timing.json")


def lay_out(project: Project, folder: Path, places=PLACES) -> Path:
    """As the pipeline leaves it."""
    for name, place in places.items():
        shutil.copytree(project.folder / name, folder / place)
    for name in FILES:
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
    monkeypatch.setattr(material, "stale", dict)
    return tmp_path


def page() -> ElementTree.Element:
    return ElementTree.fromstring(build.page(gather()).removeprefix("<!DOCTYPE html>"))


def text_of(tree, anchor=None) -> str:
    found = tree if anchor is None else next(each for each in tree.iter("section") if each.get("id") == anchor)
    return " ".join("".join(found.itertext()).split()).replace("\u202f", " ")


def test_every_kind_of_project_has_a_whole_page_with_all_sections_in_the_contents(variant, here):
    lay_out(variant, here)
    tree = page()
    sections = [each for each in tree.iter("section") if each.get("id")]
    assert [each.get("id") for each in sections] == ANCHORS
    assert [link.get("href") for link in tree.find(".//nav").iter("a")] == [f"#{anchor}" for anchor in ANCHORS]
    assert all(each.find("h2").text for each in sections)
    assert "not here" not in text_of(tree).replace("made is not known here", "")
    ids = Counter(each.get("id") for each in tree.iter() if each.get("id"))
    assert set(ids.values()) == {1}


def test_it_asks_for_nothing_and_runs_nothing(project, here):
    lay_out(project, here)
    source = build.page(gather())
    assert not re.search(r"(?:https?:)?//\w|url\(|@import|javascript:", source)
    tree = page()
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & {
        each.tag for each in tree.iter()
    }
    assert not [key for each in tree.iter() for key in dict(each.items()) if key.startswith("on") or key == "src"]
    assert any(each.get("content", "").startswith("default-src 'none'") for each in tree.iter("meta"))


def test_every_picture_says_in_words_what_it_shows(project, here):
    lay_out(project, here)
    pictures = [each for each in page().iter("div") if each.get("role") == "img"]
    assert len(pictures) > 10
    assert all(len(each.get("aria-label")) > 20 for each in pictures)


def test_names_from_logs_are_only_ever_text(project, here):
    lay_out(project, here)
    renamed = {"agent-0": EVIL, "observed-6": f"{EVIL}6", "dream-0": f"{EVIL}d"}
    manifest = here / NORMALIZED / "manifest.json"
    body = json.loads(manifest.read_text(encoding="utf-8"))
    for episode in body["episodes"]:
        episode |= {key: renamed.get(episode[key], episode[key]) for key in ("agent_id", "name")}
    manifest.write_text(json.dumps(body), encoding="utf-8")
    for path in (here / PLOTS).glob("*.csv"):
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([[renamed.get(cell, cell) for cell in row] for row in rows])
    tree = page()
    assert not list(tree.iter("script"))
    for anchor in ("data", "agents", "worst", "latent"):
        assert " ".join(EVIL.split()) in text_of(tree, anchor)


def test_the_same_files_give_the_same_bytes(project, here):
    lay_out(project, here)
    assert build.page(gather()) == build.page(gather())


def test_what_a_clone_without_data_lacks_is_named_with_the_command_that_makes_it(project, here):
    lay_out(project, here, {"plots": PLOTS})
    tree = page()
    for anchor in ("data", "horizon", "worst", "latent", "dreams"):
        assert re.search(r"not here\. It comes with dvc pull or make (repro|data)", text_of(tree, anchor)), anchor
    for anchor in ("horizon", "agents", "worst", "training"):
        assert any(each.get("role") == "img" for each in tree.find(f".//section[@id='{anchor}']").iter("div")), anchor
    assert "less than ridge's" in text_of(tree) or "more than ridge's" in text_of(tree)


def test_an_empty_folder_has_a_page_too():
    tree = page()
    assert "How good the model is: not here. It comes with make repro." in text_of(tree)
    assert "artifacts/timing.json: not here." in text_of(tree, "timing")
    assert not [each for each in tree.iter("div") if each.get("role") == "img"]


def test_without_dreams_it_says_how_to_get_some(here, tmp_path_factory):
    project = make_project(tmp_path_factory.mktemp("real"), observed_and_dreams(dreams=0), rho=0.0, rho_start=0.0)
    project.train()
    project.export()
    project.validate()
    lay_out(project, here)
    tree = page()
    assert "there are no dreams" in text_of(tree, "dreams")
    assert "Dreams: not here. It comes with dvc exp run -S dreams.episodes=3000." in text_of(tree, "latent")


def test_a_bundle_that_is_not_the_measured_one_is_refused(project, here):
    lay_out(project, here)
    path = here / "artifacts/metrics.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    found["mse"]["mean"] *= 1.1
    path.write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(ValueError, match=r"metrics\.json: mse\.mean is .* run `dvc checkout`"):
        gather()


def test_a_file_that_is_no_table_is_named(project, here):
    lay_out(project, here)
    (here / PLOTS / "loss.csv").write_text('step,series,loss\n"150', encoding="utf-8")
    with pytest.raises(ValueError, match=r"artifacts/plots/loss\.csv: cannot be read"):
        gather()


def test_stale_results_are_told_before_anything_else(project, here, monkeypatch):
    lay_out(project, here)
    monkeypatch.setattr(material, "stale", lambda: {"train": ["train.rho modified"]})
    told = text_of(page())
    assert told.index("Changed: train (train.rho modified)") < told.index("the model's error is")


def test_intervals_are_of_the_means_that_validate_wrote(project, here):
    lay_out(project, here)
    found = gather()
    series = found.outputs.series("horizon", "frame", "mse")
    for name, key in (("model", "mse.mean"), ("ridge", "baseline.linear.mse")):
        means = found.scored.intervals[name]
        np.testing.assert_allclose(means.value[:-1], series[name][1], rtol=1e-5)
        assert means.value[-1] == pytest.approx(found.outputs.metrics[key], rel=1e-5)
        assert (means.low <= means.value).all()
        assert (means.value <= means.high).all()


def test_the_worst_episode_is_shown_first_and_as_validate_wrote_it(project, here):
    lay_out(project, here)
    found = gather()
    worst = max(metrics.episodes(found.scored.scores, found.scored.data.packed.labels), key=lambda row: row.model)
    assert text_of(page(), "worst").split(" of agent-")[0].endswith(worst.name)


def test_the_command_writes_the_page_where_it_is_told(project, here, capsys):
    lay_out(project, here)
    build.command.main(["--out", "elsewhere/page.html"], standalone_mode=False)
    assert (here / "elsewhere/page.html").read_text(encoding="utf-8") == build.page(gather())
    assert re.fullmatch(r"elsewhere/page\.html: \d+ kB\n", capsys.readouterr().out)


def test_time_that_was_taken_of_another_model_is_told_as_such(project, here):
    lay_out(project, here)
    path = here / "artifacts/timing.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    found["train"]["of"] = "000000000000"
    path.write_text(json.dumps(found), encoding="utf-8")
    assert "Of training: timed for 000000000000" in text_of(page(), "timing")
    assert "Of the exported model: timed for" not in text_of(page(), "timing")


def test_where_the_bundle_was_made_is_told_from_its_record(project, here):
    lay_out(project, here)
    with records.attempt(here / "runs" / project.bundle.name, {"run_id": project.bundle.name, "stage": "export"}):
        pass
    assert f"The bundle was exported on {platform.node()}, 2" in text_of(page(), "provenance")
