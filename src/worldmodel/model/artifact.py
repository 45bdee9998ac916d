"""A trained model on disk: weights.safetensors and manifest.yaml, never a pickle."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import yaml
from safetensors import SafetensorError

from worldmodel.core.atomic import replacing
from worldmodel.core.params import Compute
from worldmodel.model.shape import Shape
from worldmodel.model.world_model import WorldModel

WEIGHTS, MANIFEST = "weights.safetensors", "manifest.yaml"


@dataclass(frozen=True)
class Trained:
    model: WorldModel  # on the CPU
    manifest: dict[str, Any]

    @property
    def dream_share(self) -> float:
        """Of all windows drawn in training."""
        arguments = self.manifest["arguments"]
        return float(self.manifest["dreams_drawn"] / (arguments["steps"] * arguments["batch_size"]))


def write_trained(folder: Path, trained: Trained) -> None:
    with replacing(folder / WEIGHTS) as temporary:
        temporary.write_bytes(safetensors.torch.save(trained.model.state_dict()))
    write_manifest(folder / MANIFEST, trained.manifest)


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(yaml.safe_dump(manifest, sort_keys=True, allow_unicode=True), encoding="utf-8")


def read_compute(folder: Path) -> Compute:
    """Threads and numerics that the model in this folder was trained with, on the CPU."""
    arguments = _manifest(folder)["arguments"]
    return Compute(arguments["history"], arguments["threads"], arguments["numerics"], "cpu")


def read_trained(folder: Path) -> Trained:
    """Raises ValueError where the folder does not hold a trained model."""
    manifest = _manifest(folder)
    try:
        model = WorldModel(Shape(**manifest["shape"]))
        model.load_state_dict(safetensors.torch.load((folder / WEIGHTS).read_bytes()))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"{folder / WEIGHTS}: not the weights of this model ({error}); run `dvc repro train`"
        ) from None
    return Trained(model.eval(), manifest)


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: not readable ({error}); make it with `dvc repro train`") from None
    if not isinstance(manifest, dict) or not {"arguments", "shape", "dreams_drawn"} <= set(manifest):
        raise ValueError(f"{path}: not the manifest of a trained model; make it with `dvc repro train`")
    return manifest
