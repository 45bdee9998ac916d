"""bundle, packed arrays -> artifacts/metrics.json, plots of errors, what the clock says of a call.

Runs the ONNX files as `control` does, on observed test episodes, beside the floors, and says what follows. Whatever it
is, the stage ends well: `worldmodel gate` judges. Of val episodes, which weights were chosen on, it only lists errors.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from worldmodel.arrays.packing import PackedData, read_packed
from worldmodel.arrays.scaler import Scaler
from worldmodel.arrays.windows import Windows, windows
from worldmodel.client import WorldModel, find_bundle
from worldmodel.core import params, timing
from worldmodel.core.atomic import publishing
from worldmodel.core.options import PATH, params_option
from worldmodel.core.stage_run import begin
from worldmodel.core.tables import aligned, rounded
from worldmodel.core.text import escaped
from worldmodel.core.yaml12 import leaves
from worldmodel.dreams import rarity
from worldmodel.dreams.realism import describe, realism
from worldmodel.evaluation import latency, metrics, parity, reliability
from worldmodel.evaluation.metrics import Feature, best_floor
from worldmodel.evaluation.plots import (
    names_of,
    write_agents,
    write_coverage,
    write_disagreement,
    write_episodes,
    write_features,
    write_horizon,
    write_predicted,
    write_realism,
    write_termination,
    write_verdict,
)
from worldmodel.evaluation.scoring import MARGIN, TAIL, Predictors, outside, score
from worldmodel.evaluation.verdict import Evidence, judge
from worldmodel.model import footprint
from worldmodel.model.artifact import read_compute, read_trained, require_bundle
from worldmodel.model.baselines import FLOORS
from worldmodel.numerics import setup
from worldmodel.numerics.isolation import portable

OF_ITSELF = ("termination", "disagreement")
PLOTS = ("verdict", "horizon", "coverage", "agents", "episodes", "features", "realism", "predicted", *OF_ITSELF)
LIBRARIES = ("numpy", "onnx", "onnxruntime", "torch")
SHOWN = 5  # features that are printed
UNIT = "squared, in standard deviations of the observed train frames"


@portable
def validate(
    bundles: Path, normalized: Path, out: Path, plots: Path, clock: Path, settings: params.Validate
) -> dict[str, Any]:
    """Measure the bundle and write metrics, plots and timing; returns the metrics.

    Raises ValueError where the inputs do not belong together or no test episode is long enough.
    """
    bundle = find_bundle(bundles)
    require_bundle(bundle)
    model = WorldModel.load(bundle)
    setup.configure(read_compute(bundle))
    trained, scaler, data = read_trained(bundle), Scaler.read(bundle / "normalizer.json"), read_packed(normalized)
    data.require_scales(scaler, bundle / "normalizer.json")
    held_out = _test_windows(data, model, settings.horizon)
    footprint.require_for_validation(trained.model.shape, settings, len(held_out))

    # Errors of model and baselines on held-out windows
    predictors = Predictors.fitted(model, scaler, data.packed)
    scores = score(predictors, held_out)
    by_episode = metrics.episodes(scores, data.packed.labels)
    if not by_episode:
        raise ValueError(f"observed test episodes hold no reading after their first {model.history} frames: log some")
    by_agent = metrics.agents(by_episode)
    outside_share, outside_by_feature = outside(predictors, data.packed)
    by_feature = metrics.features(scores, names_of(scaler.features), outside_by_feature)
    difference = parity.largest_difference(model, trained.model, scaler, held_out, trained.policy)
    rare = rarity.rarest(_windows(data, model, settings.horizon, "train"), held_out)
    dreamlike = realism(data.packed, model.history, model.horizon)
    endings, disagreement = reliability.endings(scores), reliability.disagreement(scores)
    starts = score(predictors, _windows(data, model, settings.horizon, "test", starts=True))
    result = metrics.quality(scores, by_agent, by_feature) | {
        "rare": metrics.errors(scores, rare),
        "start": metrics.errors(starts, floors=("linear", "persistence")),
        "outside": {"share": outside_share},
        "onnx": {"max_abs_diff": difference, "equivalent": int(difference <= settings.tolerance)},
        "dreams": {"share": trained.dream_share} | ({"realism": dreamlike.auc} if dreamlike else {}),
    }
    if endings:
        result["termination"] = {"auc": endings.auc, "brier": endings.brier, "share": endings.share}
    if disagreement:
        result["disagreement"] = {"rank_correlation": disagreement.rank_correlation}
    if model.interval_s:
        result["interval_s"] = model.interval_s

    # What follows from all that
    val = _windows(data, model, settings.horizon, "val")
    val_episodes = metrics.episodes(score(predictors, val), data.packed.labels) if len(val) else []
    best = metrics.best_floor({name: each["mse"] for name, each in result["baseline"].items()})
    verdict = judge(
        Evidence(
            metrics=dict(leaves(result)),
            features=by_feature,
            skill_error=float(scores.skill_error(best)[-1]),
            covered_error=float(scores.covered_error[-1]),
            tests=len(by_episode),
            vals=len(val_episodes),
            selected=trained.manifest["selected"],
            by_sign=dreamlike.by_sign if dreamlike else {},
        )
    )
    result["verdict"] = verdict.numbers

    # Plots and the clock
    with publishing(out, *(plots / f"{name}.csv" for name in PLOTS), own=[]) as (file, *curves):
        file.write_text(json.dumps(rounded(result), indent=1, sort_keys=True) + "\n", encoding="utf-8")
        judged, horizon, coverage, agents, episodes, features, of_realism, predicted, *told = curves
        write_verdict(judged, verdict)
        write_horizon(horizon, scores)
        write_coverage(coverage, scores)
        write_agents(agents, by_agent)
        write_episodes(episodes, [*val_episodes, *by_episode])
        write_features(features, by_feature)
        write_realism(of_realism, dreamlike)
        write_predicted(predicted, predictors, held_out, by_agent[0].worst)
        write_termination(told[0], endings)
        write_disagreement(told[1], disagreement)
    timing.record(clock, "inference", model.run_id, latency.measure(model, scaler, held_out, settings.latency_calls))
    print(*map(escaped, verdict.lines), sep="\n")
    print(summary(result, bundle))
    print(*told_of_itself(result), sep="\n")
    print(worst_features(by_feature))
    if outside_share:
        print(far_outside(outside_share, by_feature))
    if dreamlike:
        print(describe(dreamlike))
    return result


def summary(result: dict[str, Any], bundle: Path) -> str:
    """What a user wants to know first."""
    baseline, coverage, nats = result["baseline"], result["coverage"], result["log_likelihood"]
    floors = ", ".join(f"{name} {baseline[key]['mse']:.4f}" for key, name in FLOORS.items())
    best = best_floor({name: each["mse"] for name, each in baseline.items()})
    onnx = "equals torch" if result["onnx"]["equivalent"] else "DIFFERS FROM TORCH"
    return (
        f"error {result['mse']['mean']:.4f} on held-out episodes ({UNIT}, mean over the horizon)\n"
        f"floors: {floors}; skill over the best, {FLOORS[best]}: {result['skill']['vs_best']:.1%}\n"
        f"log-likelihood {nats:.2f} nats a feature; ridge {baseline['linear']['log_likelihood']:.2f}\n"
        f"90 % intervals hold {coverage['p90']:.1%}, {coverage['worst_feature']:.1%} of the feature farthest off; "
        f"{result['tails']['beyond_10']:.2%} of the readings are beyond {TAIL:g} std\n"
        f"ONNX {onnx} within {result['onnx']['max_abs_diff']:.0e} standard deviations\n"
        f"bundle: {bundle}"
    )


def told_of_itself(result: dict[str, Any]) -> Iterator[str]:
    """How it does from a first frame alone, and how far it knows of endings and of its own errors."""
    start, ending, doubt = (result.get(name) for name in ("start", "termination", "disagreement"))
    if start:
        floors = f"ridge {start['linear_mse']:.4f}, hold-last {start['persistence_mse']:.4f}"
        yield f"from the first frame of an episode alone: error {start['mse']:.4f}; {floors}"
    if ending:
        yield (
            f"endings: AUC {ending['auc']:.3f}, Brier score {ending['brier']:.2g}; {ending['share']:.2%} of the frames "
            "end a task"
        )
    if doubt:
        yield f"disagreement: rank correlation {doubt['rank_correlation']:.2f} with the error"


def worst_features(features: Sequence[Feature]) -> str:
    """A table of those with most of the error: they show what is hard, or of the wrong kind."""
    whole = max(sum(each.model for each in features), np.finfo(float).tiny)
    rows = [
        (
            *(each.name, f"{each.model:.3g}", f"{each.model / whole:.1%}"),
            *(f"{each.floors[each.best]:.3g} {FLOORS[each.best]}", f"{each.skill:.1%}", f"{each.covered:.1%}"),
        )
        for each in features[:SHOWN]
    ]
    header = (f"worst of {len(features)} features", "error", "of all error", "best floor", "skill over it", "held")
    return aligned(header, rows)


def far_outside(share: float, features: Sequence[Feature]) -> str:
    """How much of the test was never seen in training, and where."""
    most = max(features, key=lambda each: each.outside)
    return (
        f"{share:.2%} of the test frames are outside of the range of the train frames by more than {MARGIN:.0%} of it, "
        f"most of them in {escaped(most.name)} ({most.outside:.2%})"
    )


def _test_windows(data: PackedData, model: WorldModel, horizon: int) -> Windows:
    if horizon > model.horizon and not model.action_count and not model.context_count:
        raise ValueError(
            f"validate.horizon is {horizon}, and a bundle without actions and context predicts train.horizon frames, "
            f"{model.horizon}: lower it"
        )
    held_out = _windows(data, model, horizon, "test")
    if not len(held_out):
        raise ValueError(
            f"no observed test episode has more than {model.history} frames: log longer ones, "
            "raise prepare.test_share, or mark some with meta.split = test"
        )
    return held_out


def _windows(data: PackedData, model: WorldModel, horizon: int, split: str, starts: bool = False) -> Windows:
    return windows(data.packed, data.packed.where(split), model.history, horizon, starts)


@click.command(help="Measure a bundle on observed test episodes.")
@click.option("--bundles", type=PATH, required=True, help="Folder that export wrote.")
@click.option("--normalized", type=PATH, required=True, help="Folder of packed arrays.")
@click.option("--out", type=PATH, required=True, help="File for the metrics.")
@click.option("--plots", type=PATH, required=True, help="Folder for the CSV files of its plots.")
@click.option("--timing", type=PATH, required=True, help="File for what the clock says.")
@params_option
def command(bundles: Path, normalized: Path, out: Path, plots: Path, timing: Path, params_file: Path) -> None:
    settings = params.load(params_file, params.ValidateStage)
    inputs = {"bundles": bundles, "normalized": normalized}
    with begin("validate", settings, inputs, LIBRARIES).record(params_file):
        validate(bundles, normalized, out, plots, timing, settings.validate)
