"""Fails where a metric has got worse than gates.yaml lets it: against the merge base, or against a bound."""

from contextlib import chdir

import click

from worldmodel.ci.gates import judge, read_gates
from worldmodel.ci.revisions import METRICS, merge_base, state
from worldmodel.core.project import project_folder


@click.command()
@click.option("--base", default="origin/main", show_default=True, help="Branch or commit; empty: there is none.")
def command(base: str) -> None:
    """Fail where a metric is worse than gates.yaml lets it be, against the merge base or against a bound."""
    with chdir(project_folder()):
        gates, now, commit = read_gates(), state(None), merge_base(base)
        before = state(commit).metrics if commit else {}
    if not now.metrics:
        raise ValueError(f"{METRICS}: no metrics there; run `dvc repro` first")
    verdicts = judge(gates, now.metrics, before)
    for verdict in verdicts:
        found = "none" if verdict.found is None else f"{verdict.found:.6g}"
        print(
            f"{'holds ' if verdict.holds else 'BROKEN'}  {verdict.metric}: found {found}, expected {verdict.expected}"
        )
    broken = ", ".join(verdict.metric for verdict in verdicts if not verdict.holds)
    if broken:
        raise ValueError(f"gates broken: {broken}; better the metrics, or change gates.yaml and say why")
