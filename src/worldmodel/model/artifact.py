"""A trained model on disk: manifest.yaml, weights.safetensors and those of a policy, never a pickle."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import safetensors.torch
import yaml
from pydantic.dataclasses import dataclass as checked_dataclass
from safetensors import SafetensorError
from torch import nn

from worldmodel.core.checked import CLOSED, Float, Sha256, Text, Whole, checked
from worldmodel.core.integrity import require_file, require_sha256
from worldmodel.core.params import Compute, Train
from worldmodel.core.yaml12 import NO_TEXT, cut, read_yaml
from worldmodel.episodes.columns import Columns
from worldmodel.model.policy import Policy
from worldmodel.model.shape import Shape
from worldmodel.model.tensors import not_finite
from worldmodel.model.world_model import WorldModel

WEIGHTS, POLICY, MANIFEST = "weights.safetensors", "policy.safetensors", "manifest.yaml"
OWN = (WEIGHTS, POLICY, MANIFEST)  # files of the folder
Module = TypeVar("Module", bound=nn.Module)
TRAIN, EXPORT = "run `dvc repro train`", "run `dvc repro export`"


@dataclass(frozen=True)
class Trained:
    model: WorldModel  # on the CPU
    manifest: dict[str, Any]
    policy: Policy | None = None  # trained in the model

    @property
    def dream_share(self) -> float:
        """Of all windows drawn in training."""
        arguments = self.manifest["arguments"]
        return float(self.manifest["dreams_drawn"] / (arguments["steps"] * arguments["batch_size"]))


@checked_dataclass(frozen=True, config=CLOSED)
class _Data:
    arrays: dict[Text, Sha256]
    normalizer: Sha256


@checked_dataclass(frozen=True, config=CLOSED)
class _Selected:
    step: Whole
    val_mse: Float | None
    floors: dict[Text, Float] | None = None


@checked_dataclass(frozen=True, config=CLOSED)
class _Manifest:
    """Of a trained model; of the keys that may be missing, the last ones are a bundle's."""

    action_kind: Literal["none", "discrete", "continuous"]
    arguments: Train
    bits: dict[Text, Any]
    code: Sha256
    data: _Data
    dreams_drawn: Whole
    selected: _Selected
    shape: Shape
    versions: dict[Text, Text]
    weights: Sha256
    windows: dict[Literal["observed", "dream", "val"], Whole]
    columns: Columns | None = None
    interval_s: Float | None = None
    policy: Sha256 | None = None
    exported: dict[Text, Any] | None = None
    files: dict[Text, Sha256] | None = None
    run_id: Text | None = None


def write_trained(folder: Path, trained: Trained) -> dict[str, Any]:
    """Returns the manifest with the hash of the weights. Raises ValueError, and writes nothing, where a weight is NaN
    or infinite.
    """
    parts: dict[str, nn.Module | None] = {WEIGHTS: trained.model, POLICY: trained.policy}
    found = {name: module.state_dict() for name, module in parts.items() if module}
    for weights in found.values():
        if broken := not_finite(weights):
            raise ValueError(f"the training diverged: {broken} holds NaN or infinity; lower train.lr")
    folder.mkdir(parents=True, exist_ok=True)
    manifest = dict(trained.manifest)
    for name, weights in found.items():
        content = safetensors.torch.save(weights)
        (folder / name).write_bytes(content)
        manifest[Path(name).stem] = hashlib.sha256(content).hexdigest()
    write_manifest(folder / MANIFEST, manifest)
    return manifest


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
    arguments = _read_manifest(folder)[1].arguments
    return Compute(arguments.history, arguments.threads, arguments.numerics, "cpu")


def read_trained(folder: Path) -> Trained:
    """Raises ValueError where the folder does not hold a trained model, or another one than was written."""
    manifest, typed = _read_manifest(folder)
    remedy, shape = EXPORT if typed.run_id else TRAIN, typed.shape

    def loaded(module: Module, name: str, digest: str) -> Module:
        path = folder / name
        require_sha256(path, digest, remedy)
        try:
            module.load_state_dict(safetensors.torch.load(path.read_bytes()))
        except (RuntimeError, SafetensorError) as error:
            raise ValueError(f"{path}: not the weights of this model ({cut(str(error), 200)}); {remedy}") from None
        if broken := not_finite(module.state_dict()):
            raise ValueError(f"{path}: {broken} holds NaN or infinity; {remedy}")
        return module.eval()

    model, policy = loaded(WorldModel(shape), WEIGHTS, typed.weights), None
    if typed.policy:
        policy = loaded(Policy(shape.z_dim, shape.actions - shape.context), POLICY, typed.policy)
    return Trained(model, manifest, policy)


def require_bundle(folder: Path) -> None:
    """Raises ValueError where a file of a bundle is missing, or is not the one that export wrote."""
    files = _read_manifest(folder)[1].files
    if files is None:
        raise ValueError(f"{folder / MANIFEST}: not the manifest of a bundle, which names its files; {EXPORT}")
    for name, digest in files.items():
        require_sha256(folder / Path(name).name, digest, EXPORT)


def _read_manifest(folder: Path) -> tuple[dict[str, Any], _Manifest]:
    """As it stands there, and typed."""
    path = folder / MANIFEST
    require_file(path, TRAIN)
    try:
        manifest = read_yaml(path)
    except ValueError as error:
        raise ValueError(f"{error}; {TRAIN}") from None
    try:
        return manifest, checked(_Manifest, manifest)
    except ValueError as error:
        raise ValueError(f"{path}: not the manifest of a trained model ({error}); {TRAIN}") from None
