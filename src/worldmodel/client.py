"""The exported model for `control` and for validate: numpy and onnxruntime, no torch.

model = WorldModel.load("artifacts/worldmodel")
z = model.encode(features, actions)        # what the agent saw and did
future = model.predict(z, plan)            # future.features, future.std, future.reward
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import onnxruntime
from numpy.typing import ArrayLike
from onnxruntime.capi import onnxruntime_pybind11_state as onnx_errors

from worldmodel.core.integrity import require_file, require_same
from worldmodel.core.onnx_weights import not_finite
from worldmodel.core.typing import Floats

ENCODER, PREDICTOR, MANIFEST = "encoder.onnx", "predictor.onnx", "manifest.yaml"
INPUTS = {ENCODER: "features", PREDICTOR: "z"}
AXES = {"features": 3, "actions": 3, "z": 2}
OF_ONNX = (each for each in vars(onnx_errors).values() if isinstance(each, type) and issubclass(each, Exception))
UNREADABLE: tuple[type[Exception], ...] = (RuntimeError, ValueError, *OF_ONNX)
REMEDY = "make it with `dvc repro export`"


class Future(NamedTuple):
    """What a plan of K actions leads to, raw units; frame k is what actions 0..k lead to.

    A single z gives arrays without the batch axis.
    """

    features: Floats  # [batch, K, F]
    std: Floats  # [batch, K, F], standard deviation of each prediction, units of its feature
    reward: Floats | None  # [batch, K], what each planned action earns; None where the logs held no rewards


@dataclass(frozen=True)
class WorldModel:
    """A bundle: encoder.onnx and predictor.onnx, with the sizes that they declare. Raw units in and out."""

    run_id: str  # of the bundle, wherever it lies; a z means nothing to the model of another one
    history: int  # H, frames that encode takes
    horizon: int  # K at most, frames
    feature_count: int  # F
    action_count: int  # A, 0 without actions
    z_dim: int  # Z
    discrete: bool  # actions are one-hot; integers 0..A-1 are understood too
    encoder: onnxruntime.InferenceSession
    predictor: onnxruntime.InferenceSession

    @classmethod
    def load(cls, path: str | Path, threads: int = 1) -> Self:
        """Open a bundle, or the folder that holds just one; `threads` a call.

        Raises ValueError where there is no bundle or more than one, and where its graphs cannot be read, belong to
        different bundles, or are not those that were exported: a manifest beside them has their hashes, and no weight
        is NaN or infinite.
        """
        bundle = find_bundle(Path(path))
        manifest = _manifest(bundle)
        encoder, predictor = (_session(bundle / name, manifest, threads) for name in (ENCODER, PREDICTOR))
        _, history, features = _shapes(encoder)["features"]
        actions = _shapes(predictor).get("actions")
        return cls(
            run_id=_run_id(bundle, manifest, encoder, predictor),
            history=history,
            horizon=predictor.get_outputs()[0].shape[1],
            feature_count=features,
            action_count=actions[2] if actions else 0,
            z_dim=_shapes(predictor)["z"][1],
            discrete=_metadata(predictor)["action_kind"] == "discrete",
            encoder=encoder,
            predictor=predictor,
        )

    def encode(self, features: ArrayLike, actions: ArrayLike | None = None) -> Floats:
        """Histories [batch, H, F] and the actions between their frames [batch, H-1, A], raw units -> z [batch, Z].

        One history [H, F] gives one z [Z]; discrete actions may be integers, without the last axis.
        Raises ValueError for another shape, for missing or needless actions and for numbers that are not finite.
        """
        frames, single = _batched(features, 3, "features")
        self._require("features", frames, (self.history, self.feature_count))
        inputs = {"features": frames, **self._action_input(actions, len(frames), self.history - 1)}
        z: Floats = self.encoder.run(None, {name: inputs[name] for name in _shapes(self.encoder)})[0]
        return z[0] if single else z

    def predict(self, z: ArrayLike, actions: ArrayLike | None = None) -> Future:
        """z [batch, Z] and plans of K actions [batch, K, A], raw units, 1 <= K <= horizon -> K frames.

        The first action is applied at the last frame of the history. Without actions in the logs, the whole horizon.
        One z [Z] with one plan [K, A] gives one future. Raises ValueError as `encode` does.
        """
        latent, single = _batched(z, 2, "z")
        self._require("z", latent, (self.z_dim,))
        length = self.horizon if actions is None else self._plan_length(actions, single)
        inputs = {"z": latent, **self._action_input(actions, len(latent), length)}
        if "actions" in inputs:
            # A frame depends on the actions up to it alone, so a short plan may be filled up and its answer cut.
            inputs["actions"] = np.pad(inputs["actions"], ((0, 0), (0, self.horizon - length), (0, 0)))
        answers = [answer[:, :length] for answer in self.predictor.run(None, inputs)]
        features, std, *reward = [answer[0] for answer in answers] if single else answers
        return Future(features, std, reward[0] if reward else None)

    def _plan_length(self, actions: ArrayLike, single: bool) -> int:
        shape, axis = np.shape(actions), 0 if single else 1
        if len(shape) <= axis:
            expected = "a plan" if single else "one plan for each z"
            raise ValueError(f"actions has shape {list(shape)}, expected {expected}")
        length = int(shape[axis])
        if not 1 <= length <= self.horizon:
            raise ValueError(f"a plan of {length} actions, expected 1 to {self.horizon} (the model's horizon)")
        return length

    def _action_input(self, actions: ArrayLike | None, batch: int, length: int) -> Mapping[str, Floats]:
        """{"actions": [batch, length, A]}, or nothing where the model takes no actions."""
        if self.action_count == 0 or length == 0:
            if actions is not None and np.asarray(actions).size:
                raise ValueError("actions are given, and the model takes none here: its logs had none, or H is 1")
            return {}
        if actions is None:
            raise ValueError(f"no actions are given, expected [{batch}, {length}, {self.action_count}]")
        array = np.asarray(actions)
        if self.discrete and np.issubdtype(array.dtype, np.integer) and array.size == batch * length:
            if array.min() < 0 or array.max() >= self.action_count:
                raise ValueError(f"actions hold {array.min()}..{array.max()}, expected 0..{self.action_count - 1}")
            array = np.eye(self.action_count, dtype=np.float32)[array]
        array = _batched(array, 3, "actions")[0]
        self._require("actions", array, (length, self.action_count), batch)
        return {"actions": array}

    def _require(self, name: str, array: Floats, shape: tuple[int, ...], batch: int | None = None) -> None:
        if array.shape[1:] != shape or (batch is not None and len(array) != batch):
            expected = ", ".join(["batch" if batch is None else str(batch), *map(str, shape)])
            raise ValueError(f"{name} has shape {list(array.shape)}, expected [{expected}] (or one without the batch)")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinity, expected finite numbers in raw units")


def find_bundle(path: Path) -> Path:
    """The bundle at `path`, or the only one directly below it; links to one bundle are that bundle.

    Raises ValueError where there is none or more than one.
    """
    if (path / ENCODER).is_file():
        return path
    below = path.iterdir() if path.is_dir() else ()  # unlike glob, it tells where it may not look
    folders = sorted(folder for folder in below if (folder / ENCODER).is_file())
    bundles = {folder.resolve(): folder for folder in sorted(folders, key=Path.is_symlink, reverse=True)}
    if len(bundles) == 1:
        return next(iter(bundles.values()))
    names = ", ".join(sorted(folder.name for folder in bundles.values()))
    raise ValueError(
        f"{path}: holds {len(bundles)} bundles ({names}), name one of them"
        if bundles
        else f"{path}: no {ENCODER} here or one folder below; make a bundle with `dvc repro export`"
    )


def _manifest(bundle: Path) -> str:
    """Empty where there is none: two graphs are enough."""
    path = bundle / MANIFEST
    return path.read_bytes().decode("utf-8", "replace") if path.is_file() else ""


def _written(manifest: str, key: str) -> str | None:
    """Text under a key, with the spaces before it."""
    found = re.search(rf"^{re.escape(key)}: '?(\w+)'?$", manifest, re.MULTILINE)
    return found[1] if found else None


def _session(path: Path, manifest: str, threads: int) -> onnxruntime.InferenceSession:
    require_file(path, REMEDY)
    content = path.read_bytes()
    digest = _written(manifest, f"  {path.name}")
    if digest or re.search("^files:", manifest, re.MULTILINE):
        require_same(path, hashlib.sha256(content).hexdigest(), digest or "unknown", REMEDY)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"], enable_fallback=0)
        broken = not_finite(content)
    except UNREADABLE as error:
        raise ValueError(f"{path}: no readable ONNX graph ({' '.join(str(error).split())[:300]}); {REMEDY}") from None
    if broken:
        raise ValueError(f"{path}: {broken} holds NaN or infinity; {REMEDY}")
    shapes = _shapes(session)
    sound = INPUTS[path.name] in shapes and all(len(shape) == AXES.get(name) for name, shape in shapes.items())
    if not sound or "action_kind" not in _metadata(session):
        raise ValueError(
            f"{path}: inputs are {', '.join(_shapes(session))} and metadata {', '.join(_metadata(session)) or 'none'}, "
            f"expected `{INPUTS[path.name]}` and `action_kind`; {REMEDY}"
        )
    return session


def _run_id(bundle: Path, manifest: str, *sessions: onnxruntime.InferenceSession) -> str:
    """What the graphs say; the manifest, where they are of an earlier format that does not."""
    encoder, predictor = (_metadata(session).get("run_id") for session in sessions)
    if encoder != predictor:
        raise ValueError(
            f"{bundle}: {ENCODER} is of bundle {encoder or 'unknown'}, {PREDICTOR} of bundle {predictor or 'unknown'}; "
            "take both from one bundle"
        )
    run_id = encoder or _written(manifest, "run_id")
    if not run_id:
        raise ValueError(f"{bundle}: no run_id in the graphs' metadata or in {MANIFEST}; run `dvc repro export`")
    return run_id


def _metadata(session: onnxruntime.InferenceSession) -> dict[str, str]:
    metadata: dict[str, str] = session.get_modelmeta().custom_metadata_map
    return metadata


def _shapes(session: onnxruntime.InferenceSession) -> dict[str, list[int]]:
    return {node.name: node.shape for node in session.get_inputs()}


def _batched(values: ArrayLike, dimensions: int, name: str) -> tuple[Floats, bool]:
    """float32 with a batch axis, and whether it had to be added."""
    array = np.asarray(values, dtype=np.float32)
    if array.ndim not in (dimensions - 1, dimensions):
        raise ValueError(f"{name} has {array.ndim} axes, expected {dimensions}, or {dimensions - 1} for a single one")
    return (array, False) if array.ndim == dimensions else (array[None], True)
