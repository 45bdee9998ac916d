"""artifacts/train, artifacts/normalizer.json -> artifacts/worldmodel/<run-id>: what users take away.

The run-id is made of everything that the bundle depends on, and of no time and no host.
"""

import argparse
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import yaml

from worldmodel.bundle.card import model_card
from worldmodel.bundle.graph import encoder_graph, predictor_graph
from worldmodel.client import ENCODER, PREDICTOR
from worldmodel.config import params
from worldmodel.data.scaler import Scaler
from worldmodel.learning.trained import MANIFEST, WEIGHTS, read_trained, write_manifest
from worldmodel.runtime import stage, work
from worldmodel.runtime.atomic import replacing
from worldmodel.runtime.fingerprint import sha256

RUN_ID = re.compile(r"[0-9a-f]{12}")
LIBRARIES = ("numpy", "onnx", "onnxscript", "pyyaml", "safetensors", "torch")


def export(trained: Path, normalizer: Path, out: Path, settings: params.ExportStage) -> Path:
    """Write the bundle in place of any earlier one and return its folder.

    Raises ValueError where the weights were trained with other scales or params.
    """
    found, scaler = read_trained(trained), Scaler.read(normalizer)
    if found.manifest["arguments"] != asdict(settings.train):
        raise ValueError(f"{trained}: trained with other params than the `train` section has; run `dvc repro train`")
    if found.manifest["data"]["normalizer"] != sha256(normalizer):
        raise ValueError(f"{trained}: trained with other scales than {normalizer}; run `dvc repro train`")
    task = _task(trained, normalizer, settings)
    manifest, run_id = found.manifest | {"exported": task.depends_on}, task.run_id
    bundle = out / run_id
    kind, opset = found.manifest["action_kind"], settings.export.opset
    files = {
        ENCODER: encoder_graph(found.model, scaler, kind, opset),
        PREDICTOR: predictor_graph(found.model, scaler, kind, opset),
        WEIGHTS: (trained / WEIGHTS).read_bytes(),
        "normalizer.json": normalizer.read_bytes(),
        "params.yaml": yaml.safe_dump(asdict(settings), sort_keys=False).encode(),
        "README.md": model_card(run_id, found, settings).encode(),
    }
    _remove_earlier(out)
    for name, content in files.items():
        with replacing(bundle / name) as temporary:
            temporary.write_bytes(content)
    write_manifest(bundle / MANIFEST, {"run_id": run_id} | manifest)
    print(f"{bundle}: {', '.join(f'{name} {len(content) / 1e6:.2f} MB' for name, content in files.items())}")
    return bundle


def _task(trained: Path, normalizer: Path, settings: params.ExportStage) -> work.Work:
    return work.begin(Path(__file__), settings, {"trained": trained, "normalizer": normalizer}, LIBRARIES)


def _remove_earlier(out: Path) -> None:
    """Bundles and nothing else: the folder may hold what is not ours."""
    for earlier in out.glob("*"):
        if RUN_ID.fullmatch(earlier.name):
            shutil.rmtree(earlier)


def main() -> None:
    parser = argparse.ArgumentParser(description="Turn a trained model into a bundle with ONNX graphs.")
    parser.add_argument("--trained", type=Path, required=True, help="folder that train wrote")
    parser.add_argument("--normalizer", type=Path, required=True, help="scales that normalize wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the bundle's folder")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    given = parser.parse_args()
    settings = params.load(given.params, params.ExportStage)
    with _task(given.trained, given.normalizer, settings).watched(given.params):
        export(given.trained, given.normalizer, given.out, settings)


if __name__ == "__main__":
    stage.run(main)
