"""The README against what it speaks of."""

import json
import re

import pytest

from pages import PAGES, ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
METRICS = json.loads((ROOT / "artifacts" / "metrics.json").read_text(encoding="utf-8"))


def metric(name):
    value = METRICS
    for key in name.split("."):
        value = value[key]
    return value


def test_the_metrics_table_is_that_of_the_committed_run():
    shown = {}
    for names, values in re.findall(r"^\| (`[^|]+`) \| (-?\d[^|]*) \|", README, re.MULTILINE):
        shown |= dict(zip(re.findall(r"[\w.]+", names), values.split(", "), strict=True))
    assert len(shown) == 17
    for name, text in shown.items():
        assert text == f"{metric(name):.{len(text.split('.')[1])}f}", name


@pytest.mark.parametrize("path", sorted((ROOT / "src" / "worldmodel").rglob("*.py")), ids=lambda path: path.name)
def test_every_file_of_the_library_is_on_the_map(path):
    assert path.name in README or path.name.startswith(("__init__", "worldmodel_pb2"))


@pytest.mark.parametrize("page", PAGES)
def test_every_target_of_the_makefile_that_a_page_names_is_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)) <= set(targets)
