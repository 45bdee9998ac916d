"""Train our model and its peers on the same logs for the same time, and tell their errors on val and test episodes.

    python studies/peers/compare.py --logs my-logs --train-episodes 16 --seconds 150 --seed 0 --json peers.json

Each is trained for `--seconds` of updates on one thread; ours takes the steps that params.yaml names, and its seconds
count teacher and dreams. All numbers come from params.yaml but those that a peer's paper gives.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "studies")]

from peers.admpo import Admpo  # noqa: E402
from peers.fitting import Predict, Trained, errors, train_ours, train_peer  # noqa: E402
from peers.material import Material, read_material  # noqa: E402
from peers.peer import Peer  # noqa: E402
from peers.pets import Pets  # noqa: E402
from peers.rssm import Rssm  # noqa: E402
from peers.rwm import Rwm  # noqa: E402
from peers.tdmpc2 import TdMpc2  # noqa: E402
from worldmodel.config import params  # noqa: E402
from worldmodel.data.windows import Packed, Windows, windows  # noqa: E402
from worldmodel.learning.floors import persistence, train_ridge  # noqa: E402
from worldmodel.learning.learner import Tensors  # noqa: E402
from worldmodel.runtime import numerics, stage  # noqa: E402
from worldmodel.runtime.atomic import replacing  # noqa: E402
from worldmodel.runtime.tables import rounded  # noqa: E402

PEERS: dict[str, type[Peer]] = {"pets": Pets, "rwm": Rwm, "admpo": Admpo, "rssm": Rssm, "tdmpc2": TdMpc2}
OURS = "ours"

Row = dict[str, Any]


def compare(material: Material, settings: params.Params, models: Sequence[str], seconds: float, seed: int) -> list[Row]:
    """A row a model, the floors first."""
    packed = material.packed()
    held_out = {
        split: windows(packed, packed.where(split), settings.train.history, settings.train.horizon)
        for split in ("val", "test")
    }
    rows = [_told(name, predict, held_out) for name, predict in _floors(packed)]
    print(line(None), *map(line, rows), sep="\n", flush=True)
    for name in models:
        if name == OURS:
            trained = train_ours(material, settings, seed)
        else:
            trained = train_peer(PEERS[name], packed, settings.train, seconds, seed)
        rows.append(_told(name, trained.predict, held_out) | _spent(trained))
        print(line(rows[-1]), flush=True)
    return rows


def line(row: Row | None) -> str:
    """One row of the table, or its head."""
    columns = [f"{split} {mark}" for split in ("test", "val") for mark in ("mean", "h1", "h8", "h16")]
    if row is None:
        return "| model | " + " | ".join(columns) + " | seconds | updates |\n|" + "---|" * (len(columns) + 3)
    values = [row[split].get(mark) for split, mark in (column.split() for column in columns)]
    cells = ["" if value is None else f"{value:.4f}" for value in values]
    seconds = f"{row['seconds']:.0f}" if "seconds" in row else ""
    return f"| {row['model']} | " + " | ".join([*cells, seconds, str(row.get("updates", ""))]) + " |"


def _told(name: str, predict: Predict, held_out: dict[str, Windows]) -> Row:
    return {"model": name} | {split: errors(predict, each) for split, each in held_out.items()}


def _spent(trained: Trained) -> Row:
    return {"seconds": trained.seconds, "updates": trained.updates, "selected": trained.selected}


def _floors(packed: Packed) -> Iterator[tuple[str, Predict]]:
    ridge = train_ridge(packed)

    def hold(batch: Tensors) -> torch.Tensor:
        return torch.from_numpy(persistence(batch.history[:, -1].numpy(), batch.features.shape[1]))

    def linear(batch: Tensors) -> torch.Tensor:
        return torch.from_numpy(ridge.rollout(batch.history[:, -1].numpy(), batch.planned_actions.numpy()))

    yield "hold-last", hold
    yield "ridge", linear


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    settings = params.load(given.params, params.Params)
    settings = replace(settings, train=replace(settings.train, device="cpu"))
    numerics.settle(settings.train)
    intake = replace(settings.prepare, train_episodes=given.train_episodes)
    material = read_material(given.logs, intake, settings.normalize)
    rows = compare(material, settings, given.models, given.seconds, given.seed)
    if given.json:
        body = {
            "logs": [str(path) for path in given.logs],
            "train_episodes": len(material.train),
            "seconds": given.seconds,
            "seed": given.seed,
            "models": [rounded(row) for row in rows],
        }
        with replacing(given.json) as temporary:
            temporary.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=Path, nargs="+", required=True, help="folders or files of observed logs")
    parser.add_argument("--train-episodes", type=int, required=True, help="train episodes to keep; 0 = all")
    parser.add_argument("--seconds", type=float, default=150.0, help="of updates, a peer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", type=_models, default=[*PEERS, OURS], help="comma-separated")
    parser.add_argument("--params", type=Path, default=ROOT / "params.yaml")
    parser.add_argument("--json", type=Path, help="file for what was measured")
    return parser


def _models(text: str) -> list[str]:
    models = text.split(",")
    unknown = sorted(set(models) - {*PEERS, OURS})
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown {', '.join(unknown)}; expected {', '.join([*PEERS, OURS])}")
    return models


if __name__ == "__main__":
    stage.run(main)
