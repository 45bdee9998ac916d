"""Exit code 1 where a metric has got worse than gates.yaml lets it: against the merge base, or against a bound.

make gate BASE=origin/main        # or: python review/gate.py --base origin/main
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from gates import judge, read_gates
from revisions import METRICS, merge_base, state
from worldmodel.runtime import stage


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="origin/main", help="branch or commit; empty: bounds alone are checked")
    given = parser.parse_args(arguments)
    gates, now, commit = read_gates(), state(None), merge_base(given.base)
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


if __name__ == "__main__":
    stage.run(main)
