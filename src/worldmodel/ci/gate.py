"""Exit code 1 where a metric has got worse than gates.yaml lets it: against the merge base, or against a bound.
"""


import click

from worldmodel.ci.gates import judge, read_gates
from worldmodel.ci.revisions import METRICS, merge_base, state


@click.command()
@click.option("--base", default="origin/main", show_default=True, help="Branch or commit; empty: bounds alone are checked.")
def command(base: str) -> None:
    """Fail where a metric is worse than gates.yaml lets it be, against the merge base or against a bound."""
    gates, now, commit = read_gates(), state(None), merge_base(base)
    if not now.metrics:
        raise ValueError(f"{METRICS}: no metrics there; run `dvc repro` first")
    verdicts = judge(gates, now.metrics, state(commit).metrics if commit else {})
    for verdict in verdicts:
        found = "none" if verdict.found is None else f"{verdict.found:.6g}"
        word = "holds " if verdict.holds else "BROKEN"
        print(f"{word}  {verdict.metric}: found {found}, expected {verdict.expected}")
    broken = [verdict.metric for verdict in verdicts if not verdict.holds]
    if broken:
        raise ValueError(
            f"{len(broken)} of {len(verdicts)} gates broken: {', '.join(broken)}; better metrics or gates.yaml"
        )
