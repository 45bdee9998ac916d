"""What README and docs show is there, and works."""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pages import ELSEWHERE, PAGES, ROOT, SERVER, SMALLER, blocks, commands, elsewhere
from teams import KEYS
from worldmodel.cli import COMMANDS, check_logs
from worldmodel.core.params import read
from worldmodel.core.project import default_params
from worldmodel.linting.remarks import Limits
from worldmodel.numerics.pinning import AVX2
from worldmodel.numerics.setup import PORTABLE

LOG = Path("data/worldmodel/offline/log.jsonl")
LIMITS = Limits(read(default_params()).prepare, history=8, horizon=16)
FILES = "py|md|yaml|jsonl?|lock|csv|png|txt|onnx|ini|proto|html|gz"
CALL_OF_A_SIMULATOR = """
from numpy import float32, random, zeros
start = Start("a", "e", 0, 2, zeros((3, 2), float32), zeros((2, 1), float32), None, zeros((3, 1), float32))
assert run(start, random.default_rng(0)).features.shape == (5, 2)
"""
MADE = {
    "encoder.onnx",
    "predictor.onnx",
    "step.onnx",
    "prior.onnx",
    "value.onnx",
    "normalizer.json",
    "manifest.yaml",
    "dreams.jsonl",
    "rejects.csv",
} | {
    *("artifacts/normalizer.json", "data/worldmodel/prepared/rejects.csv", "runs/report.html", "runs/explorer.html"),
    *("table.md", "runs.csv", "errors.png"),
}  # by the pipeline, by commands, or by whoever follows a page


@pytest.fixture
def workshop(copy, tmp_path):
    """The tiny project with all that a clone has, the package installed for make, logs beside it and an origin."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        there = copy.folder / name
        if not there.exists() and not name.startswith(("artifacts/", "tests/", "data/")) and (ROOT / name).is_file():
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, there)
    gates = yaml.safe_load(copy.read("gates.yaml"))
    gates["gates"] = [gate for gate in gates["gates"] if "tolerance" in gate]  # those that twelve steps can hold
    copy.write("gates.yaml", yaml.safe_dump(gates))
    (copy.folder / "my-logs").mkdir()
    shutil.copy(copy.folder / LOG, copy.folder / "my-logs")
    (copy.folder / ".git/info/exclude").write_text("/my-*\n", encoding="utf-8")
    copy.commit()
    copy.run("git", "branch", "--move", "main")
    copy.run("git", "clone", "--quiet", "--bare", ".", str(tmp_path / "origin"))
    copy.run("git", "remote", "add", "origin", str(tmp_path / "origin"))
    copy.run("git", "fetch", "--quiet", "origin")
    install(copy)
    return copy


def install(project, **variables):
    """What make finds up to date: a command `worldmodel` of this folder.

    Nobody has pinned what it starts: that computes with all that the processor has, unless it pins itself.
    """
    script = project.folder / ".venv/bin/worldmodel"
    script.parent.mkdir(parents=True)
    script.write_text('#!/bin/sh\nexec python -m worldmodel "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    for name in ("pipeline", "dev"):
        (project.folder / ".venv" / name).touch()
    clean = {name: value for name, value in project.environment.items() if name not in AVX2.keys() | PORTABLE.keys()}
    path = os.pathsep.join([str(script.parent), clean["PATH"]])
    project.environment = clean | {"PATH": path, "PYTHONPATH": str(project.folder / "src")} | variables


@pytest.mark.slow
def test_every_command_of_the_pages_works(workshop):
    shown = [line for page in PAGES for line in commands(page) if elsewhere(page, line) is None]
    assert SMALLER.keys() <= set(shown)
    for command in dict.fromkeys(shown):
        workshop.run("bash", "-ec", SMALLER.get(command, command))


def test_a_command_that_is_run_elsewhere_stands_on_a_page_and_its_tests_are_there():
    shown = [line for page in PAGES for line in commands(page)]
    assert [start for start in ELSEWHERE if not any(line.startswith(start) for line in shown)] == []
    named = re.findall(r"tests/[\w/]+\.py", " ".join([SERVER, *ELSEWHERE.values()]))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_python_of_the_pages_works_as_it_stands(workshop):
    for page in PAGES:
        for block in blocks(page, "python"):
            after = CALL_OF_A_SIMULATOR if "def run(" in block.text else ""
            workshop.run(sys.executable, "-W", "error", "-c", block.text + after)


def test_logs_in_a_bucket_are_checked(copy, server):
    shutil.copytree(copy.folder / LOG.parent, server.folder / "lake/logs")
    server.restart()
    install(copy, AWS_ENDPOINT_URL=server.endpoint, AWS_CONFIG_FILE=str(ROOT / ".dvc/aws.ini"), **KEYS)
    assert "episodes  30" in copy.run("worldmodel", "check-logs", "s3://lake/logs")


def test_log_lines_of_the_pages_are_good_and_bad_ones_are_named_as_shown(tmp_path):
    good = [block for page in ("README.md", "data/worldmodel/README.md") for block in blocks(page, "json")]
    guide = blocks("docs/logs.md", "jsonl")
    assert (len(good), len(guide)) == (3, 2)
    for number, text in enumerate([*(block.text for block in good), "".join(block.text for block in guide)]):
        (tmp_path / f"{number}.jsonl").write_text(text, encoding="utf-8")
        assert not check_logs.check(tmp_path / f"{number}.jsonl", LIMITS).rejects, text
    (bad,), (told,) = blocks("docs/logs.md", "json"), blocks("docs/logs.md", "text")
    (tmp_path / "bad.jsonl").write_text(bad.text, encoding="utf-8")
    assert check_logs.check(tmp_path / "bad.jsonl", LIMITS).facts() == told.text.splitlines()


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", (ROOT / page).read_text(encoding="utf-8")):
            name, _, heading = target.partition("#")
            path = (ROOT / page).parent / name if name else ROOT / page
            assert path.exists(), (page, target)
            lines = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M) if heading else []
            anchors = {re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in lines}
            assert not heading or heading in anchors, (page, target)


def test_targets_subcommands_and_modules_that_the_pages_name_are_there():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.M)) <= set(targets), page
        assert set(re.findall(r"(?:^|`)worldmodel ([a-z-]+)", text, re.M)) <= set(COMMANDS), page
        found = [ROOT / name.replace(".", "/") for name in re.findall(r"python -m (research[.\w]+)", text)]
        assert [m for m in found if not any(p.exists() for p in (m.with_suffix(".py"), m / "__main__.py"))] == [], page


def test_files_that_the_pages_name_are_there():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    there = {name[at:] for name in listed for at in [0, *(m.end() for m in re.finditer("/", name))]} | MADE
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        named = re.findall(
            r"`(?!\.jsonl)([\w./-]+\.(?:py|md|yaml|jsonl?|lock|csv|png|txt|onnx|ini|proto|html|gz))`", text
        )
        assert set(named) <= there, (page, set(named) - there)


def test_the_map_has_every_folder_of_the_package_below_what_it_imports():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    order = re.findall(r"^(\w+)/ ", text.partition("client.py  wire.py")[2], re.M)
    folders = {path.parent.name for path in (ROOT / "src/worldmodel").glob("*/__init__.py")}
    assert sorted(order) == sorted(folders)
    for at, folder in enumerate(order):
        code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src/worldmodel" / folder).rglob("*.py"))
        imported = set(re.findall(r"(?:from|import) worldmodel\.(\w+)", code)) & folders
        assert imported <= set(order[: at + 1]), folder


def test_changes_that_the_page_on_sweeps_shows_are_those_of_the_study():
    rows = (ROOT / "docs/results.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows if row.count("|") == 11]
    table = {(size, arm): change for size, arm, *_, change, _, _ in cells}
    shown = re.findall(r"^\| (\d+|all) .*?\| (.*?) \| (.*?) \|$", (ROOT / "docs/sweeps.md").read_text(), re.M)
    assert len(shown) == 3
    for size, *changes in shown:
        assert changes == [table[size, "rho 0.5"], table[size, "repeat, rho 0.5"]]


def test_sizes_that_the_page_on_the_bundle_shows_are_those_of_the_committed_run():
    train = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["train"]
    with gzip.open(ROOT / "data/worldmodel/offline/halfcheetah.jsonl.gz") as logs:
        first = json.loads(next(logs))
    frame = first["episode"][0] if "episode" in first else first
    sizes = {"H": train["history"], "H-1": train["history"] - 1, "K": train["horizon"], "Z": train["z_dim"]}
    sizes |= {"F": len(frame["features"]), "A": len(frame["action"])}
    shown = re.findall(r"\| \[batch, (.*?)\] \((.*?)\) \|", (ROOT / "docs/bundle.md").read_text(encoding="utf-8"))
    assert len(shown) == 13
    for letters, numbers in shown:
        assert [str(sizes[letter]) for letter in letters.split(", ")] == numbers.split(", ")
