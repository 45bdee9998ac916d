"""Train our model and its peers on the same logs for the same time, and tell their errors on val and test episodes.

    python studies/peers/compare.py --logs my-logs --train-episodes 16 --json peers.json

Ours takes the steps that params.yaml names; each peer is then trained for the seconds that ours took, of the processor
and on one thread, teacher and dreams counted, or for `--seconds`. All numbers come from params.yaml but those that a
peer's paper gives. `table.py` does this for many logs.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "studies")]

import worldmodel.numerics.pinning  # noqa: E402, F401  (before NumPy, which goes by it)

# isort: split
from research.peers.material import Material, read_material
from research.peers.measuring import OURS, PEERS, Row, in_order, measure
from worldmodel.core import errors as stage
from worldmodel.core import params
from worldmodel.core.atomic import replacing
from worldmodel.core.tables import rounded
from worldmodel.numerics import setup


def compare(
    material: Material, settings: params.Params, models: Sequence[str], seconds: float | None, seed: int
) -> list[Row]:
    """A row a model, the floors first; without `seconds`, peers take what ours took."""
    rows: list[Row] = []
    print(line(None), flush=True)
    for name in in_order(models):
        rows.append(measure(name, material, settings, seconds, seed))
        print(line(rows[-1]), flush=True)
        if name == OURS and seconds is None:
            seconds = rows[-1]["seconds"]
    return rows


def line(row: Row | None) -> str:
    """One row of the table, or its head."""
    columns = [f"{split} {mark}" for split in ("test", "val") for mark in ("mean", "h1", "h8", "h16")]
    if row is None:
        return "| model | " + " | ".join(columns) + " | CPU seconds | updates |\n|" + "---|" * (len(columns) + 3)
    values = [row[split].get(mark) for split, mark in (column.split() for column in columns)]
    cells = ["" if value is None else f"{value:.4f}" for value in values]
    spent = [f"{row['seconds']:.0f}", str(row["updates"])] if row["updates"] else ["", ""]
    return f"| {row['model']} | " + " | ".join([*cells, *spent]) + " |"


def on_the_processor(path: Path) -> params.Params:
    """params.yaml, whatever device it names: all models run where one clock counts for all of them."""
    settings = params.load(path, params.Params)
    return replace(settings, train=replace(settings.train, device="cpu"))


def main(arguments: Sequence[str] | None = None) -> None:
    given = parsed(_parser(), arguments)
    settings = on_the_processor(given.params)
    setup.configure(settings.train)
    intake = replace(settings.prepare, train_episodes=given.train_episodes)
    material = read_material(given.logs, intake, settings.normalize)
    rows = compare(material, settings, given.models, given.seconds, given.seed)
    if given.json:
        body = {
            "logs": [str(path) for path in given.logs],
            "train_episodes": len(material.train),
            "seed": given.seed,
            "models": [rounded(row) for row in rows],
        }
        with replacing(given.json) as temporary:
            temporary.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=Path, nargs="+", required=True, help="folders or files of observed logs")
    parser.add_argument("--train-episodes", type=int, required=True, help="train episodes to keep; 0 = all")
    parser.add_argument("--json", type=Path, help="file for what was measured")
    add_options(parser)
    return parser


def add_options(parser: argparse.ArgumentParser) -> None:
    """What does not depend on how many logs are compared on."""
    parser.add_argument("--seconds", type=float, help="of the processor, a peer; left out: what ours took")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", type=_models, default=[OURS, *PEERS], help="comma-separated")
    parser.add_argument("--params", type=Path, default=ROOT / "params.yaml")


def parsed(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    given = parser.parse_args(arguments)
    if given.seconds is None and OURS not in given.models and set(given.models) & set(PEERS):
        parser.error(f"--models has no {OURS}, whose seconds the peers get: add it, or say --seconds")
    return given


def _models(text: str) -> list[str]:
    models = text.split(",")
    unknown = sorted(set(models) - {*PEERS, OURS})
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown {', '.join(unknown)}; expected {', '.join([*PEERS, OURS])}")
    return models


if __name__ == "__main__":
    stage.run(main)
