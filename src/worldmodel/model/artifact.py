"""A trained model on disk: weights.safetensors and manifest.yaml, never a pickle."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import yaml
from safetensors import SafetensorError

from worldmodel.core.params import Compute
from worldmodel.core.yaml12 import NO_TEXT, read_yaml
from worldmodel.model.shape import Shape
from worldmodel.model.world_model import WorldModel

WEIGHTS, MANIFEST = "weights.safetensors", "manifest.yaml"
OWN = (WEIGHTS, MANIFEST)  # files of the folder


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
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_bytes(safetensors.torch.save(trained.model.state_dict()))
    write_manifest(folder / MANIFEST, trained.manifest)


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    path.write_text(yaml_text(manifest, allow_unicode=True), encoding="utf-8")


def yaml_text(values: dict[str, Any], sort_keys: bool = True, allow_unicode: bool = False) -> str:
    """What every reader of YAML reads the same: text such as 12e34, a number to YAML 1.2 alone, is in quotes."""
    text: str = yaml.dump(values, Dumper=_Dumper, sort_keys=sort_keys, allow_unicode=allow_unicode)
    return text


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


for _pattern in NO_TEXT:
    _Dumper.add_implicit_resolver("no text", _pattern, None)


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
        manifest = read_yaml(path)
    except ValueError as error:
        raise ValueError(f"{error}; make it with `dvc repro train`") from None
    if not {"arguments", "shape", "dreams_drawn"} <= set(manifest):
        raise ValueError(f"{path}: not the manifest of a trained model; make it with `dvc repro train`")
    return manifest
