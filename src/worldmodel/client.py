"""The exported model for `control` and for validate: numpy and onnxruntime, no torch.

model = WorldModel.load("artifacts/worldmodel")
z = model.encode(features, actions)        # what the agent saw and did
future = model.predict(z, plan)            # future.features, future.std, future.reward
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import onnxruntime
from numpy.typing import ArrayLike

from worldmodel.core.typing import Floats

ENCODER, PREDICTOR = "encoder.onnx", "predictor.onnx"


class Future(NamedTuple):
    """Raw units. K is the length of the plan; a single z gives arrays without the batch axis."""

    features: Floats  # [batch, K, F]
    std: Floats  # [batch, K, F]
    reward: Floats | None  # [batch, K], what each planned action earns; None where the logs held no rewards


@dataclass(frozen=True)
class WorldModel:
    """encoder.onnx and predictor.onnx of one bundle, with the shapes that they declare."""

    run_id: str
    history: int
    horizon: int
    feature_count: int
    action_count: int
    z_dim: int
    discrete: bool  # actions are one-hot; integers are understood too
    encoder: onnxruntime.InferenceSession
    predictor: onnxruntime.InferenceSession

    @classmethod
    def load(cls, path: str | Path, threads: int = 1) -> Self:
        """Open a bundle, or the folder that holds just one. Raises ValueError where there is none or more than one."""
        bundle = find_bundle(Path(path))
        encoder, predictor = (_session(bundle / name, threads) for name in (ENCODER, PREDICTOR))
        _, history, features = _shapes(encoder)["features"]
        actions = _shapes(predictor).get("actions")
        return cls(
            run_id=bundle.name,
            history=history,
            horizon=predictor.get_outputs()[0].shape[1],
            feature_count=features,
            action_count=actions[2] if actions else 0,
            z_dim=_shapes(predictor)["z"][1],
            discrete=predictor.get_modelmeta().custom_metadata_map["action_kind"] == "discrete",
            encoder=encoder,
            predictor=predictor,
        )

    def encode(self, features: ArrayLike, actions: ArrayLike | None = None) -> Floats:
        """Histories [batch, H, F] and the actions between their frames [batch, H-1, A], raw units -> z [batch, Z].

        One history [H, F] gives one z [Z]; discrete actions may be integers, without the last axis.
        Raises ValueError for another shape, for missing or needless actions and for numbers that are not finite.
        """
        frames, single = _batched(features, 3, "features")
        self._expect("features", frames, (self.history, self.feature_count))
        given = {"features": frames, **self._moves(actions, len(frames), self.history - 1)}
        z: Floats = self.encoder.run(None, {name: given[name] for name in _shapes(self.encoder)})[0]
        return z[0] if single else z

    def predict(self, z: ArrayLike, actions: ArrayLike | None = None) -> Future:
        """z [batch, Z] and plans of K actions [batch, K, A], raw units, K at most the horizon -> K frames.

        Without actions in the logs, the whole horizon. One z [Z] with one plan [K, A] gives one future.
        """
        latent, single = _batched(z, 2, "z")
        self._expect("z", latent, (self.z_dim,))
        length = self.horizon if actions is None else self._plan_length(actions, single)
        given = {"z": latent, **self._moves(actions, len(latent), length)}
        if "actions" in given:
            # A frame depends on the actions up to it alone, so a short plan may be filled up and its answer cut.
            given["actions"] = np.pad(given["actions"], ((0, 0), (0, self.horizon - length), (0, 0)))
        answers = [answer[:, :length] for answer in self.predictor.run(None, given)]
        features, std, *reward = [answer[0] for answer in answers] if single else answers
        return Future(features, std, reward[0] if reward else None)

    def _plan_length(self, actions: ArrayLike, single: bool) -> int:
        shape, axis = np.shape(actions), 0 if single else 1
        if len(shape) <= axis:
            wanted = "a plan" if single else "one plan for each z"
            raise ValueError(f"actions has shape {list(shape)}, expected {wanted}")
        length = int(shape[axis])
        if not 1 <= length <= self.horizon:
            raise ValueError(f"a plan of {length} actions, expected 1 to {self.horizon} (the model's horizon)")
        return length

    def _moves(self, actions: ArrayLike | None, batch: int, length: int) -> Mapping[str, Floats]:
        """{"actions": [batch, length, A]}, or nothing where the model knows no actions."""
        if self.action_count == 0 or length == 0:
            if actions is not None and np.asarray(actions).size:
                raise ValueError("actions are given, and the model takes none here: its logs had none, or H is 1")
            return {}
        if actions is None:
            raise ValueError(f"no actions are given, expected [{batch}, {length}, {self.action_count}]")
        moves = np.asarray(actions)
        if self.discrete and np.issubdtype(moves.dtype, np.integer) and moves.size == batch * length:
            if moves.min() < 0 or moves.max() >= self.action_count:
                raise ValueError(f"actions hold {moves.min()}..{moves.max()}, expected 0..{self.action_count - 1}")
            moves = np.eye(self.action_count, dtype=np.float32)[moves]
        moves = _batched(moves, 3, "actions")[0]
        self._expect("actions", moves, (length, self.action_count), batch)
        return {"actions": moves}

    def _expect(self, name: str, found: Floats, shape: tuple[int, ...], batch: int | None = None) -> None:
        if found.shape[1:] != shape or (batch is not None and len(found) != batch):
            wanted = ", ".join(["batch" if batch is None else str(batch), *map(str, shape)])
            raise ValueError(f"{name} has shape {list(found.shape)}, expected [{wanted}] (or one without the batch)")
        if not np.isfinite(found).all():
            raise ValueError(f"{name} holds NaN or infinity, expected finite numbers in raw units")


def find_bundle(path: Path) -> Path:
    """The bundle at `path`, or the only one directly below it."""
    if (path / ENCODER).is_file():
        return path
    found = sorted(encoder.parent for encoder in path.glob(f"*/{ENCODER}"))
    if len(found) == 1:
        return found[0]
    names = ", ".join(bundle.name for bundle in found)
    raise ValueError(
        f"{path}: holds {len(found)} bundles ({names}), name one of them"
        if found
        else f"{path}: no {ENCODER} here or one folder below; make a bundle with `dvc repro export`"
    )


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _shapes(session: onnxruntime.InferenceSession) -> dict[str, list[int]]:
    return {node.name: node.shape for node in session.get_inputs()}


def _batched(values: ArrayLike, dimensions: int, name: str) -> tuple[Floats, bool]:
    """float32 with a batch axis, and whether it had to be added."""
    array = np.asarray(values, dtype=np.float32)
    if array.ndim not in (dimensions - 1, dimensions):
        raise ValueError(f"{name} has {array.ndim} axes, expected {dimensions}, or {dimensions - 1} for a single one")
    return (array, False) if array.ndim == dimensions else (array[None], True)
