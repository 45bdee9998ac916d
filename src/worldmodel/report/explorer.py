"""One self-contained HTML page in which the bundle's own graphs run: plans are changed, futures are seen.

It asks for no network: onnxruntime-web, graphs and test episodes lie in it. Dimension key: T frames, F features.
"""

import base64
import gzip
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from worldmodel.arrays.affine import Affine
from worldmodel.arrays.packing import MANIFEST, read_packed
from worldmodel.arrays.scaler import Scaler
from worldmodel.arrays.windows import Packed
from worldmodel.bundle import SCALARS, Range
from worldmodel.client import ENCODER, PREDICTOR, WorldModel, find_bundle
from worldmodel.core.typing import Floats, Reals
from worldmodel.evaluation.plots import names_of
from worldmodel.report.collect import BUNDLES, NORMALIZED, NORMALIZER
from worldmodel.report.runtime import runtime

PAGE = Path(__file__).parent / "explorer_page"
SCRIPTS = ("model.js", "plans.js", "charts.js", "page.js", "controls.js")
STYLES = (Path(__file__).parent / "templates/style.css", PAGE / "style.css")
EPISODES, NUMBERS = 8, 400_000  # of test episodes in the page, at most
SHOWN = 4  # features, before another choice is made
LONGEST = 64  # frames ahead


class Shown(NamedTuple):
    """A test episode of the page, raw units."""

    agent: str
    name: str
    features: Reals  # [T, F]
    moves: Floats  # [T, A + C + 1]: actions, context, reward


def explorer_page(report: str | None) -> str:
    """Of the folder that this runs in; `report` is the address of the report's page, where there is one.

    Raises ValueError where bundle or packed arrays are not here, and where onnxruntime-web cannot be had.
    """
    if not (NORMALIZED / MANIFEST).is_file() or not any(BUNDLES.glob("*/*.onnx")):
        raise ValueError(
            f"the explorer needs a bundle below {BUNDLES}, and {NORMALIZED}; run `dvc pull` or `dvc repro export`"
        )
    bundle, data = find_bundle(BUNDLES), read_packed(NORMALIZED)
    model, scaler = WorldModel.load(bundle), Scaler.read(bundle / NORMALIZER.name)
    data.require_scales(scaler, bundle / NORMALIZER.name)
    episodes = _episodes(data.packed, scaler, model)
    if not episodes:
        raise ValueError(f"{NORMALIZED}: no test episode of more than {model.history} frames, the explorer shows some")
    script = Markup("\n".join((PAGE / name).read_text(encoding="utf-8") for name in SCRIPTS))
    templates = Environment(loader=PackageLoader("worldmodel.report", PAGE.name), autoescape=True, trim_blocks=True)
    return templates.get_template("page.html").render(
        facts=_facts(model, scaler, episodes, data.packed.rewards is not None),
        blocks=_blocks(model, episodes),
        script=script,
        digest=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
        style=Markup("\n".join(path.read_text(encoding="utf-8") for path in STYLES)),
        report=report,
    )


def _facts(model: WorldModel, scaler: Scaler, episodes: Sequence[Shown], rewards: bool) -> dict[str, Any]:
    """What the scripts know of the model; no number in it that is not finite."""
    frames = np.concatenate([each.features for each in episodes]).astype(np.float64)
    moved = np.nan_to_num(np.nanstd(frames, axis=0)) / scaler.features.spread
    actions = np.concatenate([each.moves for each in episodes])[:, : model.action_count]
    return {
        **{name: getattr(model, name) for name in ("run_id", "history", "horizon", "longest")},
        **{name: getattr(model, name) for name in ("discrete", "interval_s")},
        "context": model.context_count,
        "rewards": rewards,
        "float64": episodes[0].features.dtype == np.float64,
        "first": 0 if model.cold_starts else model.history - 1,
        "most": model.longest or max(model.horizon, min(4 * model.horizon, LONGEST)),
        "whole": not model.action_count and not model.context_count,
        "widths": [model.half_width(share) for share in (0.5, 0.9)],
        "features": _columns(scaler.features, model.feature_range, frames, "feature"),
        "actions": _columns(scaler.actions, model.action_range, actions, "action"),
        "start": _lively(episodes, model, scaler.features.spread),
        "shown": sorted(np.argsort(-moved, kind="stable")[:SHOWN].tolist()),
        "episodes": [{"agent": each.agent, "name": each.name, "frames": len(each.features)} for each in episodes],
    }


def _lively(episodes: Sequence[Shown], model: WorldModel, spread: Floats) -> tuple[int, int]:
    """Number of an episode that is as lively as others, and its liveliest frame: the page begins there."""
    best = []
    for each in episodes:
        moved = np.square(np.nan_to_num(np.diff(each.features, axis=0)) / spread).sum(axis=1)[model.history - 1 :]
        ahead = np.convolve(moved, np.ones(model.horizon))[model.horizon - 1 :][
            : max(1, len(moved) - model.horizon + 1)
        ]
        best.append((float(ahead.max()), model.history - 1 + int(ahead.argmax())))
    number = sorted(range(len(best)), key=lambda at: best[at])[len(best) // 2]
    return number, best[number][1]


def _columns(affine: Affine, known: Range | None, values: Reals, what: str) -> list[dict[str, Any]]:
    """Name, kind and range of each."""
    seen = np.nan_to_num(np.array([np.fmin.reduce(values), np.fmax.reduce(values)]))
    low, high = (np.asarray(each, np.float64) for each in known or seen)
    high = np.where(high > low, high, low + 1)
    kinds = [each.kind for each in affine.columns] or ["value"] * affine.width
    columns = zip(names_of(affine, what), kinds, low.tolist(), high.tolist(), strict=True)
    return [dict(zip(("name", "kind", "low", "high"), each, strict=True)) for each in columns]


def _episodes(packed: Packed, scaler: Scaler, model: WorldModel) -> list[Shown]:
    """Of every agent in turn, as far as there is room."""
    agents = defaultdict[str, list[int]](list)
    for episode in packed.where("test").tolist():
        if packed.lengths[episode] > model.history:
            agents[packed.labels.agents[episode]].append(episode)
    rounds = zip_longest(*(agents[agent] for agent in sorted(agents)))
    chosen = [episode for episode in chain.from_iterable(rounds) if episode is not None][:EPISODES]
    width = model.feature_count + packed.actions.shape[1] + 1
    longest = max(model.history + 2 * model.horizon, NUMBERS // (EPISODES * width))
    return [_shown(packed, scaler, model, episode, longest) for episode in sorted(chosen)]


def _shown(packed: Packed, scaler: Scaler, model: WorldModel, episode: int, longest: int) -> Shown:
    rows = packed.rows(episode)
    rows = slice(rows.start, min(rows.stop, rows.start + longest))
    actions, context = np.split(packed.actions[rows], [packed.action_count], axis=1)
    earned = np.zeros((len(actions), 1), np.float32) if packed.rewards is None else packed.rewards[rows, None]
    reward = earned if scaler.rewards is None else scaler.rewards.inverse(earned)
    moves = [scaler.actions.inverse(actions), scaler.context.inverse(context), reward]
    return Shown(
        packed.labels.agents[episode],
        packed.labels.names[episode],
        scaler.features.inverse(packed.features[rows]).astype(SCALARS[model.graphs[ENCODER].types["features"]]),
        np.concatenate(moves, axis=1).astype(np.float32),
    )


def _blocks(model: WorldModel, episodes: Sequence[Shown]) -> dict[str, str]:
    """Id -> base64; of gzip, but for the script."""
    web = runtime()
    parts = {
        "wasm": web.wasm,
        **{name.removesuffix(".onnx"): model.graphs[name].content for name in (ENCODER, PREDICTOR)},
        "frames": b"".join(each.features.tobytes() for each in episodes),
        "moves": b"".join(each.moves.tobytes() for each in episodes),
    }
    packed = {"runtime": web.script} | {name: gzip.compress(each, 6, mtime=0) for name, each in parts.items()}
    return {name: base64.b64encode(each).decode() for name, each in packed.items()}
