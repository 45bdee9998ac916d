"""Experiments of DVC, as git keeps them: a commit each, with params and results, below refs/exps."""

import json
from collections.abc import Iterable
from functools import cache
from typing import Any

from worldmodel.core.fingerprint import fingerprint
from worldmodel.core.processes import git
from worldmodel.core.tables import read_csv
from worldmodel.core.yaml12 import parse, parse_dvc
from worldmodel.sweeps.grid import PARAMS, Run

EPISODES, METRICS = "artifacts/plots/episodes.csv", "artifacts/metrics.json"


def committed_params() -> dict[str, Any]:
    values: dict[str, Any] = parse(git("show", f"HEAD:./{PARAMS}"))
    return values


def committed_code() -> str:
    """A hash of all committed files that the stages read, params.yaml left out.

    Raises ValueError where one of them is not as committed: experiments run what is committed, and nothing else.
    """
    stages = parse_dvc(git("show", "HEAD:./dvc.yaml"))["stages"].values()
    outs = {
        name for stage in stages for out in stage.get("outs", []) for name in ([out] if isinstance(out, str) else out)
    }
    read = sorted({dep for stage in stages for dep in stage["deps"]} - outs)
    paths = [*read, *(f"{path}.dvc" for path in read), "dvc.yaml", "requirements.txt"]
    changed = git("status", "--porcelain", "--", *paths, str(PARAMS)).splitlines()
    if changed:
        raise ValueError(f"not as committed: {', '.join(line[3:] for line in changed)}; commit or restore them first")
    return fingerprint({"tree": git("ls-tree", "-r", "HEAD", "--", *paths)})


def finished(runs: Iterable[Run]) -> dict[str, str]:
    """Name -> commit of the experiments that are there with these params and results."""
    lines = git("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps/*/*/*").splitlines()
    commits = {ref.rpartition("/")[2]: commit for commit, ref in map(str.split, lines)}
    return {run.name: commit for run in runs if (commit := commits.get(run.name)) and _params(commit) == run.values}


@cache
def _params(commit: str) -> Any:
    """None where the commit has no results."""
    try:
        return parse(git("show", f"{commit}:./{PARAMS}")) if episodes_of(commit) else None
    except ValueError:
        return None


def episodes_of(commit: str) -> list[dict[str, str]]:
    """Rows of the experiment's episodes.csv. Raises ValueError where it has none."""
    return read_csv(git("show", f"{commit}:./{EPISODES}"))


def metrics_of(commit: str) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads(git("show", f"{commit}:./{METRICS}"))
    return metrics
