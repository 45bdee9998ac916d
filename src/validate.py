"""bundle, packed arrays -> artifacts/metrics.json, plots of errors, what the clock says of a call.

Runs the ONNX files as `control` does, on observed test episodes, beside the floors. It measures and never judges.
Of val episodes, which weights were chosen on, it only lists errors (episodes.csv).
"""

import worldmodel.runtime.instructions  # noqa: F401  (before NumPy, which goes by it)

# isort: split
import argparse
import json
from pathlib import Path
from typing import Any

from worldmodel.client import WorldModel
from worldmodel.config import params
from worldmodel.data.packing import PackedData, read_packed
from worldmodel.data.scaler import Scaler
from worldmodel.data.windows import Windows, windows
from worldmodel.learning.floors import train_ridge
from worldmodel.learning.trained import read_compute, read_trained
from worldmodel.measuring import curves, equivalence, latency, metrics, rarity
from worldmodel.measuring.realism import realism, told
from worldmodel.measuring.scoring import Predictors, score
from worldmodel.runtime import numerics, stage, timing, work
from worldmodel.runtime.atomic import replacing
from worldmodel.runtime.tables import rounded

LIBRARIES = ("numpy", "onnx", "onnxruntime", "torch")


def validate(
    bundles: Path, normalized: Path, out: Path, plots: Path, clock: Path, settings: params.Validate
) -> dict[str, Any]:
    """Measure the bundle and write metrics, plots and timing; returns the metrics.

    Raises ValueError where the inputs do not belong together or no test episode is long enough.
    """
    model = WorldModel.load(bundles)
    bundle = bundles / model.run_id
    numerics.settle(read_compute(bundle))
    trained, scaler, data = read_trained(bundle), Scaler.read(bundle / "normalizer.json"), read_packed(normalized)
    data.require_scales(scaler, bundle / "normalizer.json")
    held_out = _test_windows(data, model, settings.horizon)

    # Errors of model and floors on held-out windows
    predictors = Predictors(model, scaler, train_ridge(data.packed))
    scores = score(predictors, held_out)
    by_episode = metrics.episodes(scores, data.packed.labels)
    by_agent = metrics.agents(by_episode)
    difference = equivalence.largest_difference(model, trained.model, scaler, held_out)
    rare = rarity.rarest(_windows(data, model, settings.horizon, "train"), held_out)
    dreamlike = realism(data.packed, model.history, model.horizon)
    found = metrics.quality(scores, by_agent) | {
        "rare": metrics.errors(scores, rare),
        "onnx": {"max_abs_diff": difference, "equivalent": int(difference <= settings.tolerance)},
        "dreams": {"share": trained.dream_share} | ({"realism": dreamlike.auc} if dreamlike else {}),
    }
    with replacing(out) as temporary:
        temporary.write_text(json.dumps(rounded(found), indent=1, sort_keys=True) + "\n", encoding="utf-8")

    # Plots and the clock
    curves.write_horizon(plots / "horizon.csv", scores)
    curves.write_coverage(plots / "coverage.csv", scores)
    curves.write_agents(plots / "agents.csv", by_agent)
    val = _windows(data, model, settings.horizon, "val")
    also = metrics.episodes(score(predictors, val), data.packed.labels) if len(val) else []
    curves.write_episodes(plots / "episodes.csv", [*also, *by_episode])
    curves.write_realism(plots / "realism.csv", dreamlike)
    curves.write_predicted(plots / "predicted.csv", predictors, held_out, by_agent[0].worst)
    timing.record(clock, "inference", model.run_id, latency.measure(model, scaler, held_out, settings.latency_calls))
    print(summary(found, bundle))
    if dreamlike:
        print(told(dreamlike))
    return found


def summary(found: dict[str, Any], bundle: Path) -> str:
    """What a user wants to know first."""
    error, floors, skill = found["mse"]["mean"], found["baseline"], found["skill"]
    onnx = "equals torch" if found["onnx"]["equivalent"] else "DIFFERS FROM TORCH"
    return (
        f"error {error:.4f} on held-out episodes (standardized units squared, mean over the horizon)\n"
        f"ridge {floors['linear']['mse']:.4f}: the model explains {skill['vs_linear']:.1%} of its error\n"
        f"hold-last {floors['persistence']['mse']:.4f}: {skill['vs_persistence']:.1%}\n"
        f"90 % intervals hold {found['coverage']['p90']:.1%}\n"
        f"ONNX {onnx} within {found['onnx']['max_abs_diff']:.0e}\n"
        f"bundle: {bundle}"
    )


def _test_windows(data: PackedData, model: WorldModel, horizon: int) -> Windows:
    if horizon > model.horizon:
        raise ValueError(f"validate.horizon is {horizon}, the bundle predicts {model.horizon} frames (train.horizon)")
    held_out = _windows(data, model, horizon, "test")
    if not len(held_out):
        raise ValueError(
            f"no observed test episode has more than {model.history} frames: log longer ones, "
            "raise prepare.test_share, or mark some with meta.split = test"
        )
    return held_out


def _windows(data: PackedData, model: WorldModel, horizon: int, split: str) -> Windows:
    return windows(data.packed, data.packed.where(split), model.history, horizon)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a bundle on observed test episodes.")
    parser.add_argument("--bundles", type=Path, required=True, help="folder that export wrote")
    parser.add_argument("--normalized", type=Path, required=True, help="folder of packed arrays")
    parser.add_argument("--out", type=Path, required=True, help="file for the metrics")
    parser.add_argument("--plots", type=Path, required=True, help="folder for the CSV files of its plots")
    parser.add_argument("--timing", type=Path, required=True, help="file for what the clock says")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    given = parser.parse_args()
    settings = params.load(given.params, params.ValidateStage)
    inputs = {"bundles": given.bundles, "normalized": given.normalized}
    with work.begin(Path(__file__), settings, inputs, LIBRARIES).watched(given.params):
        validate(given.bundles, given.normalized, given.out, given.plots, given.timing, settings.validate)


if __name__ == "__main__":
    stage.run(main)
