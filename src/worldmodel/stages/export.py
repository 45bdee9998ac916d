"""artifacts/train, artifacts/normalizer.json -> artifacts/worldmodel/<run-id>: what users take away.

The run-id is made of everything that the bundle depends on, and of no time and no host.
"""

import hashlib
import json
import math
from dataclasses import asdict
from pathlib import Path

import click

from worldmodel.arrays.scaler import Scaler, numbers
from worldmodel.bundle import ENCODER, PREDICTOR, PRIOR, STEP, VALUE
from worldmodel.core import params
from worldmodel.core.atomic import publishing
from worldmodel.core.fingerprint import sha256
from worldmodel.core.options import PATH, params_option
from worldmodel.core.stage_run import StageRun, begin
from worldmodel.export.card import model_card
from worldmodel.export.graph import encoder_graph, policy_graphs, predictor_graph, step_graph
from worldmodel.model.artifact import MANIFEST, POLICY, WEIGHTS, Trained, read_trained, write_manifest, yaml_text

RUN_ID = "[0-9a-f]" * 12  # what else the folder holds is not ours
FORMAT = "2"  # of the bundle: 1 had no step, and one horizon alone
LIBRARIES = ("numpy", "onnx", "onnxscript", "pyyaml", "safetensors", "torch")


def export(trained: Path, normalizer: Path, out: Path, settings: params.ExportStage) -> Path:
    """Write the bundle in place of any earlier one and return its folder.

    Raises ValueError where the weights were trained with other scales or params.
    """
    result, scaler = read_trained(trained), Scaler.read(normalizer)
    if result.manifest["arguments"] != asdict(settings.train):
        raise ValueError(f"{trained}: trained with other params than the `train` section has; run `dvc repro train`")
    if result.manifest["data"]["normalizer"] != sha256(normalizer):
        raise ValueError(f"{trained}: trained with other scales than {normalizer}; run `dvc repro train`")
    run = _stage_run(trained, normalizer, settings)
    bundle, opset = out / run.run_id, settings.export.opset
    metadata = {"run_id": run.run_id} | metadata_of(result, scaler)
    files = {
        ENCODER: encoder_graph(result.model, scaler, metadata, opset),
        PREDICTOR: predictor_graph(result.model, scaler, metadata, opset, goes_on=bool(result.policy)),
        STEP: step_graph(result.model, scaler, metadata, opset),
        WEIGHTS: (trained / WEIGHTS).read_bytes(),
        "normalizer.json": normalizer.read_bytes(),
        "params.yaml": yaml_text(asdict(settings), sort_keys=False).encode(),
        "README.md": model_card(run.run_id, result, scaler, settings).encode(),
    }
    if result.policy:
        prior, value = policy_graphs(result.policy, scaler, metadata, opset)
        files |= {PRIOR: prior, VALUE: value, POLICY: (trained / POLICY).read_bytes()}
    with publishing(out, own=[RUN_ID]) as (folder,):
        (folder / run.run_id).mkdir(parents=True)
        for name, content in files.items():
            (folder / run.run_id / name).write_bytes(content)
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        about = {"run_id": run.run_id, "exported": run.depends_on, "files": digests}
        write_manifest(folder / run.run_id / MANIFEST, result.manifest | about)
    print(f"{bundle}: {', '.join(f'{name} {len(content) / 1e6:.2f} MB' for name, content in files.items())}")
    return bundle


def metadata_of(trained: Trained, scaler: Scaler) -> dict[str, str]:
    """What every graph says of itself beside the run-id, as far as it is known; ranges in raw units."""
    manifest, shape = trained.manifest, trained.model.shape
    said = {"format": FORMAT, "horizon": f"{shape.horizon}", "action_kind": manifest["action_kind"]}
    for part, each in (("feature", scaler.features), ("action", scaler.actions), ("context", scaler.context)):
        lists = {"names": each.names, "min": numbers(each.low), "max": numbers(each.high)}
        said |= {f"{part}_{name}": json.dumps(values) for name, values in lists.items() if values}
    said |= {"interval_s": repr(manifest["interval_s"])} if "interval_s" in manifest else {}
    degrees = trained.model.degrees
    heavy_tails = {"distribution": "student-t", "degrees_of_freedom": f"{degrees:g}"}
    said |= {"distribution": "normal"} if math.isinf(degrees) else heavy_tails
    if trained.policy and scaler.rewards:
        unknown = float(trained.policy.unknown) * float(scaler.rewards.spread[0])
        said |= {"discount": f"{float(trained.policy.discount):g}", "unknown_reward": f"{unknown:.6g}"}
    return said | ({"missing": "mask"} if shape.masked else {})


def _stage_run(trained: Path, normalizer: Path, settings: params.ExportStage) -> StageRun:
    return begin("export", settings, {"trained": trained, "normalizer": normalizer}, LIBRARIES)


@click.command(help="Turn a trained model into a bundle with ONNX graphs.")
@click.option("--trained", type=PATH, required=True, help="Folder that train wrote.")
@click.option("--normalizer", type=PATH, required=True, help="Scales that normalize wrote.")
@click.option("--out", type=PATH, required=True, help="Folder for the bundle's folder.")
@params_option
def command(trained: Path, normalizer: Path, out: Path, params_file: Path) -> None:
    settings = params.load(params_file, params.ExportStage)
    with _stage_run(trained, normalizer, settings).record(params_file):
        export(trained, normalizer, out, settings)
