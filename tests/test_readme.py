"""The figures of README and of docs/results.md are those of the committed run."""

import json
import re
from functools import reduce
from pathlib import Path

from pages import ROOT, blocks
from worldmodel.core.tables import read_csv
from worldmodel.stages.validate import summary

METRICS = json.loads((ROOT / "artifacts" / "metrics.json").read_text(encoding="utf-8"))


def test_the_tables_of_metrics_are_those_of_the_committed_run():
    for page, count in (("README.md", 5), ("docs/results.md", 25)):
        shown = {}
        text = (ROOT / page).read_text(encoding="utf-8")
        for names, values in re.findall(r"^\| (`[a-z_.\d, `]+`) \| (-?\d[^|]*) \|", text, re.M):
            shown |= dict(zip(re.findall(r"[\w.]+", names), values.split(", "), strict=True))
        assert len(shown) == count
        for name, value in shown.items():
            metric = reduce(dict.__getitem__, name.split("."), METRICS)
            assert value == f"{metric:.{len(value.split('.')[1])}f}", (page, name)


def test_the_output_of_the_quickstart_is_that_of_the_committed_run():
    run_id = json.loads((ROOT / "artifacts" / "timing.json").read_text(encoding="utf-8"))["inference"]["of"]
    shown, _ = blocks("README.md", "text")
    verdict, *_ = read_csv((ROOT / "artifacts/plots/verdict.csv").read_text(encoding="utf-8"))
    told = [f"verdict: {verdict['text']}", summary(METRICS, Path("artifacts/worldmodel") / run_id)]
    assert shown.text.rstrip() == "\n".join(told)
