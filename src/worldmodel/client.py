"""The exported model for `control` and for validate: numpy and onnxruntime, no torch.

model = WorldModel.load("artifacts/worldmodel")
z = model.encode(features, actions)        # what the agent saw and did
future = model.predict(z, plan)            # future.features, future.std, future.reward
z, now = model.step(z, action)             # one frame on
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import onnxruntime
from numpy.typing import ArrayLike

from worldmodel.bundle import (
    ENCODER,
    MANIFEST,
    OUTPUTS,
    POLICY,
    PREDICTOR,
    PRIOR,
    SCALARS,
    STEP,
    VALUE,
    Range,
    find_bundle,
    open_bundle,
)
from worldmodel.core.inputs import batched, numbers, require
from worldmodel.core.student_t import half_width
from worldmodel.core.typing import Floats, Reals
from worldmodel.graphs import Graph

__all__ = ["ENCODER", "MANIFEST", "PREDICTOR", "STEP", "Frame", "Future", "WorldModel", "find_bundle"]
AGAIN = "export it again with `dvc repro export`"


class Future(NamedTuple):
    """What a plan of K actions leads to, raw units; frame k is what actions 0..k lead to.

    A single z gives arrays without the batch axis. What the bundle does not tell is None.
    """

    features: Reals  # [batch, K, F], float64 where float32 would lose what moves
    std: Floats  # [batch, K, F], standard deviation of each prediction, units of its feature
    reward: Floats | None = None  # [batch, K], what each planned action earns
    disagreement: Floats | None = None  # [batch, K], how far the model is from knowing, standardized units
    termination: Floats | None = None  # [batch, K], probability that the task ends with this frame if not before

    @property
    def alive(self) -> Floats:
        """Probability that the task has not ended before a frame, [batch, K]."""
        alive = np.ones(self.features.shape[:-1], np.float32)
        if self.termination is not None:
            np.cumprod(1 - self.termination[..., :-1], axis=-1, out=alive[..., 1:])
        return alive

    def returns(self) -> Floats:
        """Rewards up to the end of the task, summed, [batch]. Raises ValueError where the logs held none."""
        return np.asarray((self._earned() * self.alive).sum(axis=-1))

    def _earned(self) -> Floats:
        if self.reward is None:
            raise ValueError("the bundle predicts no reward, its logs held none; sum a cost of your own over features")
        return self.reward


class Frame(Future):
    """The Future of one action, without the axis K."""

    @property
    def alive(self) -> Floats:
        return np.ones(self.features.shape[:-1], np.float32)

    def returns(self) -> Floats:
        return self._earned()


@dataclass(frozen=True, eq=False)
class WorldModel:
    """A bundle: encoder, predictor and step, with the sizes that they declare. Raw units in and out.

    Copies and pickles hold the graphs; they open again wherever they get to, a forked process included.
    """

    run_id: str  # of the bundle, wherever it lies; a z means nothing to the model of another one
    history: int  # H, frames that encode takes at most
    horizon: int  # frames that it was trained to predict
    longest: int | None  # frames that it predicts at most; None: any number
    feature_count: int  # F
    action_count: int  # A, 0 without actions
    context_count: int  # C, inputs known ahead beside the actions
    z_dim: int  # Z
    discrete: bool  # actions are one-hot; integers 0..A-1 are understood too
    masked: bool  # a reading may be missing: NaN, or masked in a numpy.ma array
    cold_starts: bool  # fewer than H frames will do
    interval_s: float | None  # seconds between frames; None where the bundle does not say
    feature_names: tuple[str, ...]  # [F], or none
    degrees_of_freedom: float  # of the Student's t that std is of; infinite: a normal
    discount: float  # of a frame, for which `value` was trained
    unknown_reward: float  # what a frame counted for it that nothing is known of
    feature_range: Range | None  # lowest and highest of each in the logs, [F] each; None where the bundle does not say
    action_range: Range | None  # [A]; None too where actions are one-hot
    context_range: Range | None  # [C]
    graphs: Mapping[str, Graph]  # by the names of their files

    @classmethod
    def load(cls, path: str | Path, threads: int = 1) -> Self:
        """Open a bundle, or the folder that holds just one; `threads` a call.

        Raises ValueError where there is no bundle or more than one, and where its graphs cannot be read, belong to
        different bundles, or are not those that were exported: a manifest beside them has their hashes, and what a
        graph holds and says is checked before it is opened.
        """
        if threads < 1:
            raise ValueError(f"{threads} threads, expected 1 or more")
        graphs, told = open_bundle(find_bundle(Path(path)), threads)
        return cls(**told, graphs=graphs)

    @property
    def encoder(self) -> onnxruntime.InferenceSession:
        return self.graphs[ENCODER].session

    @property
    def predictor(self) -> onnxruntime.InferenceSession:
        return self.graphs[PREDICTOR].session

    def encode(self, features: ArrayLike, actions: ArrayLike | None = None, context: ArrayLike | None = None) -> Floats:
        """Histories [batch, T, F], actions [batch, T-1, A] and context [batch, T-1, C] between their frames, raw units
        -> z [batch, Z].

        1 <= T <= H. Fewer than H frames are a start: as if the first one had stood still before, without actions. A
        single frame needs the context that it was seen in, [batch, 1, C].
        One history [T, F] gives one z [Z]; discrete actions may be integers, without the last axis.
        Raises ValueError for another shape, for missing or needless inputs and for numbers that are not finite.
        """
        graph = self.graphs[ENCODER]
        frames, single = batched(features, 3, "features", SCALARS[graph.types["features"]])
        known = frames.shape[1] if 1 <= frames.shape[1] < self.history else self.history
        require("features", frames, (known, self.feature_count), None, self.masked, self.feature_names)
        if known < self.history and not self.cold_starts:
            raise ValueError(
                f"features has {known} frames, expected {self.history}: bundle {self.run_id} is of a format without "
                f"starts from fewer; {AGAIN}, or repeat its first frame, with actions of zero, at your own risk"
            )
        ahead = self._known_ahead(actions, context, len(frames), known - 1)
        if lacking := self.history - known:
            frames = _in_front(frames, lacking, "edge")
            if self.action_count:
                none = np.zeros((len(frames), 0, self.action_count), np.float32)
                ahead["actions"] = _in_front(ahead.get("actions", none), lacking, "constant")
            if self.context_count:
                ahead["context"] = _in_front(ahead["context"], self.history - 1 - ahead["context"].shape[1], "edge")
        z: Floats = self._answers(ENCODER, {"features": frames, **ahead})["z"]
        return z[0] if single else z

    def predict(self, z: ArrayLike, actions: ArrayLike | None = None, context: ArrayLike | None = None) -> Future:
        """z [batch, Z], plans of K actions [batch, K, A] and the context [batch, K, C] that each of them meets, raw
        units -> K frames. Errors grow beyond `horizon`, and std with them.

        The first action is applied at the last frame of the history. With neither in the logs, the whole horizon.
        One z [Z] with one plan [K, A] gives one future. Raises ValueError as `encode` does.
        """
        return self._predicted(z, actions, context)[1]

    def advance(
        self, z: ArrayLike, actions: ArrayLike | None = None, context: ArrayLike | None = None
    ) -> tuple[Floats, Future]:
        """As `predict`, with z after the last frame [batch, Z]: from there it goes on as if at one go.

        Raises ValueError as `encode` does, and where the predictor does not tell it: use `step`.
        """
        after, future = self._predicted(z, actions, context)
        if after is None:
            raise ValueError(f"the predictor of bundle {self.run_id} does not tell the z that it gets to; use step")
        return after, future

    def _predicted(
        self, z: ArrayLike, actions: ArrayLike | None, context: ArrayLike | None
    ) -> tuple[Floats | None, Future]:
        latent, single = self._latent(z)
        given = actions if self.action_count or context is None else context
        length = self.horizon if given is None else self._plan_length(given, single)
        ahead = self._known_ahead(actions, context, len(latent), length)
        if rest := max(0, (self.longest or 0) - length):
            # A frame depends on the actions up to it alone, so a short plan may be filled up and its answer cut.
            ahead = {name: np.pad(each, ((0, 0), (0, rest), (0, 0))) for name, each in ahead.items()}
        answers = self._answers(PREDICTOR, {"z": latent, **ahead}, length)
        after = answers.pop("z_next", None)
        told = {name: each[0, :length] if single else each[:, :length] for name, each in answers.items()}
        return after if after is None or not single else after[0], Future(**told)

    def step(
        self, z: ArrayLike, action: ArrayLike | None = None, context: ArrayLike | None = None
    ) -> tuple[Floats, Frame]:
        """z [batch, Z], the action [batch, A] applied now and the context [batch, C] that it meets, raw units
        -> z of the next frame [batch, Z], and that frame.

        Stepping through a plan says what `predict` says of it. One z [Z] with one action [A] gives one frame; a
        discrete action may be an integer. Raises ValueError as `encode` does.
        """
        if STEP not in self.graphs:
            raise ValueError(
                f"bundle {self.run_id} has no {STEP}: it was exported before there was one, or copied without; {AGAIN}"
            )
        latent, single = self._latent(z)
        answers = self._answers(STEP, {"z": latent, **self._known_ahead(action, context, len(latent))})
        told = {name: each[0] if single else each for name, each in answers.items()}
        following: Floats = told.pop("z_next" if "z_next" in told else "z")
        return following, Frame(**told)

    @property
    def has_policy(self) -> bool:
        """Whether a policy was trained in the model, and what it earns: `prior` and `value`."""
        return all(name in self.graphs for name in POLICY)

    def prior(self, z: ArrayLike) -> Floats:
        """What the policy that was trained in the model does at each z [batch, Z] -> [batch, A], or [A] for one z.

        Raises ValueError where the bundle has no policy.
        """
        actions: Floats = self._policy(PRIOR, z, "action")
        return actions

    def value(self, z: ArrayLike) -> Floats:
        """What that policy earns from each z [batch, Z] on, up to the end of the task, each frame's reward at
        `discount` times the one before: [batch], units of the reward. Raises ValueError as `prior` does.
        """
        value: Floats = self._policy(VALUE, z, "value")
        return value

    def _policy(self, name: str, z: ArrayLike, answer: str) -> Any:
        if not self.has_policy:
            raise ValueError(
                f"bundle {self.run_id} has no {name}: there is one where the logs hold rewards and continuous "
                "actions, and train.policy_steps is not 0"
            )
        latent, single = self._latent(z)
        found = self._answers(name, {"z": latent})[answer]
        return found[0] if single else found

    def half_width(self, share: float = 0.9) -> float:
        """Of the central interval around a prediction that holds this share of what comes, in its std."""
        return half_width(self.degrees_of_freedom, share)

    def _latent(self, z: ArrayLike) -> tuple[Floats, bool]:
        latent, single = batched(z, 2, "z")
        require("z", latent, (self.z_dim,))
        return latent, single

    def _answers(self, name: str, inputs: Mapping[str, Reals], length: int = 0) -> dict[str, Any]:
        """By name. An empty batch has empty ones: ONNX Runtime ends the process over some of these."""
        graph, (given, *_) = self.graphs[name], inputs.values()
        if len(given):
            return graph.run(inputs)
        sizes = {"Z": self.z_dim, "F": self.feature_count, "K": length}
        shapes = {each: [0, *(sizes[axis] for axis in OUTPUTS[name][each])] for each in graph.outputs}
        return {each: np.zeros(shape, SCALARS[graph.types[each]]) for each, shape in shapes.items()}

    def _plan_length(self, actions: ArrayLike, single: bool) -> int:
        shape, axis = np.shape(numbers(actions, "actions")), 0 if single else 1
        if len(shape) <= axis:
            expected = "a plan" if single else "one plan for each z"
            raise ValueError(f"actions has shape {list(shape)}, expected {expected}")
        length, longest = int(shape[axis]), self.longest
        if length < 1 or length > (longest or length):
            limit = f"1 to {longest} (the model's horizon); for more, {AGAIN}" if longest else "1 or more"
            raise ValueError(f"a plan of {length} actions, expected {limit}")
        return length

    def _known_ahead(
        self, actions: ArrayLike | None, context: ArrayLike | None, batch: int, *frames: int
    ) -> dict[str, Floats]:
        """actions [batch, frames, A] and context [batch, frames, C], without those that the model does not take.

        Without `frames` those of one step, [batch, A] and [batch, C]. 0 frames, with a history to fill up: one of
        context.
        """
        name = "actions" if frames else "action"
        if self.discrete and actions is not None:
            actions = self._one_hot(actions, (batch, *frames), name)
        met = (1,) if frames == (0,) and self.history > 1 else frames
        found = {}
        given = ((name, actions, (*frames, self.action_count)), ("context", context, (*met, self.context_count)))
        for name, values, shape in given:
            if 0 in shape:
                if values is not None and np.size(values):
                    raise ValueError(f"{name} are given, and the model takes none here: no log had any, or T is 1")
            elif values is None:
                raise ValueError(f"no {name} are given, expected {[batch, *shape]}")
            else:
                found[name] = batched(values, len(shape) + 1, name)[0]
                require(name, found[name], shape, batch)
        return found

    def _one_hot(self, actions: ArrayLike, shape: tuple[int, ...], name: str) -> ArrayLike:
        """Of integers of this shape, or without the batch axis where it is 1; what else is given stays."""
        array = numbers(actions, name)
        if array.dtype.kind not in "iu" or array.shape not in (shape, shape[1:] if shape[0] == 1 else shape):
            return array
        if array.size and (array.min() < 0 or array.max() >= self.action_count):
            raise ValueError(f"{name} hold {array.min()}..{array.max()}, expected 0..{self.action_count - 1}")
        one_hot: Floats = np.eye(self.action_count, dtype=np.float32)[array]
        return one_hot


def _in_front(array: Reals, count: int, mode: Literal["edge", "constant"]) -> Reals:
    """`count` frames more: the first one again, or zeros."""
    return np.pad(array, ((0, 0), (count, 0), (0, 0)), mode)
