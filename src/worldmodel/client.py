"""The exported model for `control` and for validate: numpy and onnxruntime, no torch.

model = WorldModel.load("artifacts/worldmodel")
z = model.encode(features, actions)        # what the agent saw and did
future = model.predict(z, plan)            # future.features, future.std, future.reward
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import onnxruntime
from numpy.typing import ArrayLike
from onnxruntime.capi import onnxruntime_pybind11_state as onnx_errors

from worldmodel.core.inputs import batched, require, unmasked
from worldmodel.core.integrity import require_file, require_same
from worldmodel.core.onnx_weights import not_finite
from worldmodel.core.student_t import half_width
from worldmodel.core.typing import Floats, Reals

ENCODER, PREDICTOR, MANIFEST = "encoder.onnx", "predictor.onnx", "manifest.yaml"
INPUTS = {ENCODER: "features", PREDICTOR: "z"}
AXES = {"features": 3, "actions": 3, "context": 3, "z": 2}
SCALARS = {"tensor(float)": np.float32, "tensor(double)": np.float64}
OF_ONNX = (each for each in vars(onnx_errors).values() if isinstance(each, type) and issubclass(each, Exception))
UNREADABLE: tuple[type[Exception], ...] = (RuntimeError, ValueError, *OF_ONNX)
REMEDY = "make it with `dvc repro export`"


class Future(NamedTuple):
    """What a plan of K actions leads to, raw units; frame k is what actions 0..k lead to.

    A single z gives arrays without the batch axis.
    """

    features: Reals  # [batch, K, F], float64 where float32 would lose what moves
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
    context_count: int  # C, inputs known ahead beside the actions
    z_dim: int  # Z
    discrete: bool  # actions are one-hot; integers 0..A-1 are understood too
    masked: bool  # a reading may be missing: NaN, or masked in a numpy.ma array
    interval_s: float | None  # seconds between frames; None where the bundle does not say
    feature_names: tuple[str, ...]  # [F], or none
    degrees_of_freedom: float  # of the Student's t that std is of; infinite: a normal
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
        planned, metadata = _shapes(predictor), _metadata(predictor)
        return cls(
            run_id=_run_id(bundle, manifest, encoder, predictor),
            history=history,
            horizon=predictor.get_outputs()[0].shape[1],
            feature_count=features,
            action_count=planned.get("actions", [0])[-1],
            context_count=planned.get("context", [0])[-1],
            z_dim=planned["z"][1],
            discrete=metadata["action_kind"] == "discrete",
            masked=metadata.get("missing") == "mask",
            interval_s=float(metadata["interval_s"]) if "interval_s" in metadata else None,
            feature_names=tuple(json.loads(metadata.get("feature_names", "[]"))),
            degrees_of_freedom=float(metadata.get("degrees_of_freedom", math.inf)),
            encoder=encoder,
            predictor=predictor,
        )

    def encode(self, features: ArrayLike, actions: ArrayLike | None = None, context: ArrayLike | None = None) -> Floats:
        """Histories [batch, H, F], actions [batch, H-1, A] and context [batch, H-1, C] between their frames, raw units
        -> z [batch, Z].

        One history [H, F] gives one z [Z]; discrete actions may be integers, without the last axis.
        Raises ValueError for another shape, for missing or needless inputs and for numbers that are not finite.
        """
        scalar = SCALARS[self.encoder.get_inputs()[0].type]
        frames, single = batched(features, 3, "features", scalar)
        require("features", frames, (self.history, self.feature_count), None, self.masked, self.feature_names)
        inputs = {"features": frames, **self._known_ahead(actions, context, len(frames), self.history - 1)}
        z: Floats = self.encoder.run(None, {name: inputs[name] for name in _shapes(self.encoder)})[0]
        return z[0] if single else z

    def predict(self, z: ArrayLike, actions: ArrayLike | None = None, context: ArrayLike | None = None) -> Future:
        """z [batch, Z], plans of K actions [batch, K, A] and the context [batch, K, C] that each of them meets, raw
        units, 1 <= K <= horizon -> K frames.

        The first action is applied at the last frame of the history. With neither in the logs, the whole horizon.
        One z [Z] with one plan [K, A] gives one future. Raises ValueError as `encode` does.
        """
        latent, single = batched(z, 2, "z")
        require("z", latent, (self.z_dim,))
        given = actions if self.action_count or context is None else context
        length = self.horizon if given is None else self._plan_length(given, single)
        inputs = {"z": latent}
        for name, array in self._known_ahead(actions, context, len(latent), length).items():
            # A frame depends on the actions up to it alone, so a short plan may be filled up and its answer cut.
            inputs[name] = np.pad(array, ((0, 0), (0, self.horizon - length), (0, 0)))
        answers = [answer[:, :length] for answer in self.predictor.run(None, inputs)]
        features, std, *reward = [answer[0] for answer in answers] if single else answers
        return Future(features, std, reward[0] if reward else None)

    def half_width(self, share: float = 0.9) -> float:
        """Of the central interval around a prediction that holds this share of what comes, in its std."""
        return half_width(self.degrees_of_freedom, share)

    def _plan_length(self, actions: ArrayLike, single: bool) -> int:
        shape, axis = np.shape(actions), 0 if single else 1
        if len(shape) <= axis:
            expected = "a plan" if single else "one plan for each z"
            raise ValueError(f"actions has shape {list(shape)}, expected {expected}")
        length = int(shape[axis])
        if not 1 <= length <= self.horizon:
            raise ValueError(f"a plan of {length} actions, expected 1 to {self.horizon} (the model's horizon)")
        return length

    def _known_ahead(
        self, actions: ArrayLike | None, context: ArrayLike | None, batch: int, length: int
    ) -> Mapping[str, Floats]:
        """actions [batch, length, A] and context [batch, length, C], without those that the model does not take."""
        if self.discrete and actions is not None:
            actions = self._one_hot(actions, batch * length)
        found = {}
        given = (("actions", actions, self.action_count), ("context", context, self.context_count))
        for name, values, count in given:
            if count and length and values is not None:
                found[name] = batched(values, 3, name)[0]
                require(name, found[name], (length, count), batch)
            elif count and length:
                raise ValueError(f"no {name} are given, expected [{batch}, {length}, {count}]")
            elif values is not None and np.size(values):
                raise ValueError(f"{name} are given, and the model takes none here: its logs had none, or H is 1")
        return found

    def _one_hot(self, actions: ArrayLike, count: int) -> ArrayLike:
        """Of `count` integers; what else is given stays."""
        array = np.asarray(unmasked(actions))
        if not np.issubdtype(array.dtype, np.integer) or array.size != count or not count:
            return array
        if array.min() < 0 or array.max() >= self.action_count:
            raise ValueError(f"actions hold {array.min()}..{array.max()}, expected 0..{self.action_count - 1}")
        one_hot: Floats = np.eye(self.action_count, dtype=np.float32)[array]
        return one_hot


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
