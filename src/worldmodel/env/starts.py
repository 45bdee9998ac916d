"""Where episodes in the model begin: frames of logged episodes, with what was seen and done before them.

T frames of an episode, H of history, F features, A actions, C context.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from worldmodel.bundle import ENCODER, SCALARS
from worldmodel.client import WorldModel
from worldmodel.core.inputs import batched, numbers, require
from worldmodel.core.typing import Doubles, Floats, Reals

Logs = Path | str | Sequence[Mapping[str, Any]]
Begin = Literal["anywhere", "beginning"]
SAMPLED = 500  # logged plans tell what is usual


class Logged(NamedTuple):
    """An episode; actions[t] led from features[t] to features[t+1]."""

    features: Reals  # [T, F]
    actions: Floats  # [T-1 or more, A]
    context: Floats | None  # [T, C]
    terminal: bool  # the last frame ended the task


class Starts:
    """Frames from which episodes of `steps` frames may begin, and the histories that end with them.

    A frame that ended its task, or that lacks a reading, begins none. Where there is context, it must be known for
    `steps` frames more, or for all of an episode that is shorter.
    """

    def __init__(self, model: WorldModel, episodes: Iterable[Logged], steps: int, begin: Begin) -> None:
        self.model, self.episodes = model, list(episodes)
        first = 0 if model.cold_starts else model.history - 1
        found = list[NDArray[np.int64]]()
        for number, episode in enumerate(self.episodes):
            length = len(episode.features)
            end = length - episode.terminal
            if model.context_count:
                end = min(end, max(length - steps, first) + 1)
            fit = first + np.flatnonzero(np.isfinite(episode.features[first:end]).all(axis=1))
            fit = fit[:1] if begin == "beginning" else fit
            found.append(np.stack([np.full(len(fit), number), fit], axis=1))
        self.frames = np.concatenate(found) if found else np.zeros((0, 2), np.int64)  # [N, 2]: episode, frame
        if not len(self.frames):
            raise ValueError(
                f"none of {len(self.episodes)} episodes has a frame to begin at, expected one with whole readings "
                f"and {first} frames before it"
            )

    def draw(self, rng: Generator) -> tuple[int, int]:
        """Episode and frame, each start as likely as any other."""
        episode, frame = self.frames[rng.integers(len(self.frames))].tolist()
        return episode, frame

    def encode(self, chosen: Sequence[tuple[int, int]]) -> tuple[Floats, Reals]:
        """z [N, Z] and features [N, F] of such starts."""
        lengths = np.array([min(frame + 1, self.model.history) for _, frame in chosen])
        z = np.empty((len(chosen), self.model.z_dim), np.float32)
        for length in np.unique(lengths).tolist():
            some = np.flatnonzero(lengths == length).tolist()
            z[some] = self._encoded([chosen[each] for each in some], length)
        return z, np.stack([self.episodes[episode].features[frame] for episode, frame in chosen])

    def _encoded(self, chosen: Sequence[tuple[int, int]], length: int) -> Floats:
        histories = [(self.episodes[episode], frame + 1 - length, frame) for episode, frame in chosen]
        features = np.stack([each.features[begin : last + 1] for each, begin, last in histories])
        actions = np.stack([each.actions[begin:last] for each, begin, last in histories])
        # A single frame is encoded with the context that it was seen in.
        context = [
            each.context[begin : max(last, begin + 1)] for each, begin, last in histories if each.context is not None
        ]
        met = np.stack(context) if context and self.model.history > 1 else None
        return self.model.encode(features, actions if length > 1 else None, met)

    def context(self, start: tuple[int, int], steps: int) -> Floats | None:
        """What is known ahead from a start on, [at most `steps`, C]."""
        episode, frame = start
        known = self.episodes[episode].context
        return None if known is None else known[frame : frame + steps]

    def usual_disagreement(self) -> float:
        """Of the last frame of logged plans, as long as the model's horizon where there are such: nine of ten stay
        below. 0 where there is none.
        """
        left = [(*start, len(self.episodes[start[0]].actions) - start[1]) for start in map(tuple, self.frames.tolist())]
        length = min(self.model.horizon, max(rest for _, _, rest in left))
        fit = [(episode, frame) for episode, frame, rest in left if rest >= length > 0]
        some = fit[:: max(1, len(fit) // SAMPLED)]
        if not some:
            return 0.0
        z, _ = self.encode(some)
        plans = np.stack([self.episodes[episode].actions[frame : frame + length] for episode, frame in some])
        known = [each for start in some if (each := self.context(start, length)) is not None]
        found = self.model.predict(z, plans, np.stack(known) if known else None).disagreement
        return 0.0 if found is None else float(np.quantile(found[:, -1], 0.9))

    def ranges(self) -> tuple[tuple[Doubles, Doubles], tuple[Doubles, Doubles]]:
        """Lowest and highest of each feature and of each action."""
        return _range([each.features for each in self.episodes]), _range([each.actions for each in self.episodes])


def _range(arrays: Sequence[Reals]) -> tuple[Doubles, Doubles]:
    low = np.fmin.reduce([np.fmin.reduce(each.astype(np.float64)) for each in arrays if len(each)])
    high = np.fmax.reduce([np.fmax.reduce(each.astype(np.float64)) for each in arrays if len(each)])
    return low, high


def logged(logs: Logs, model: WorldModel, params: Path | None) -> Iterator[Logged]:
    """The observed episodes of logs, or of arrays by name. Raises ValueError where they do not fit the model."""
    given = _read(logs, params) if isinstance(logs, Path | str) else logs
    for number, episode in enumerate(given):
        try:
            yield _fitting(episode, model)
        except ValueError as error:
            raise ValueError(f"episode {number} of the logs: {error}") from None


def _fitting(episode: Mapping[str, Any], model: WorldModel) -> Logged:
    scalar = SCALARS[model.graphs[ENCODER].types["features"]]
    features = batched(episode["features"], 3, "features", scalar)[0][0]
    length, actions, context = len(features), episode.get("actions"), episode.get("context")
    require("features", features[None], (length, model.feature_count), 1, may_miss=True)
    if actions is None:
        raise ValueError("it has no actions, and the model takes some")
    taken = _vectors(actions, model)
    if len(taken) < length - 1 or taken.shape[1:] != (model.action_count,):
        raise ValueError(f"actions are {list(taken.shape)}, expected {[length, model.action_count]}")
    known = None
    if model.context_count:
        if context is None:
            raise ValueError("it has no context, and the model takes some")
        known = batched(context, 3, "context")[0][0]
        require("context", known[None], (length, model.context_count), 1)
    return Logged(features, taken[:length], known, bool(episode.get("terminal", False)))


def _vectors(actions: ArrayLike, model: WorldModel) -> Floats:
    """[T, A], integers as one-hot."""
    array = numbers(actions, "actions")
    if model.discrete and array.ndim == 1 and array.dtype.kind in "iu":
        if array.size and not 0 <= array.min() <= array.max() < model.action_count:
            raise ValueError(f"actions hold {array.min()}..{array.max()}, expected 0..{model.action_count - 1}")
        array = np.eye(model.action_count, dtype=np.float32)[array]
    return array.astype(np.float32)


def _read(logs: Path | str, params_file: Path | None) -> Iterator[Mapping[str, Any]]:
    """Checked, cut and resampled as for the model, by its params, or by those of the project."""
    try:
        from worldmodel.core.checked import checked
        from worldmodel.core.params import IngestParams
        from worldmodel.core.project import default_params
        from worldmodel.core.yaml12 import read_yaml
        from worldmodel.episodes.schema import Episode
        from worldmodel.logs.cutting import pieces
        from worldmodel.logs.described import columns_of, fitted
        from worldmodel.logs.files import location
        from worldmodel.logs.reader import collect_logs
        from worldmodel.logs.rejects import require_few_rejects
    except ModuleNotFoundError as missing:
        raise ValueError(
            f"reading {logs} needs {missing.name}, which is not installed; pip install 'worldmodel[pipeline]', or give "
            "arrays: a list of {'features': [T, F], 'actions': [T, A]}"
        ) from None
    given = read_yaml(params_file or default_params())["prepare"]
    intake = checked(IngestParams, {key: value for key, value in given.items() if key != "format"})
    source = location(str(logs))
    found = collect_logs([source], intake.max_gap_s, Episode.whole, missing=intake.missing)
    require_few_rejects(found.rejects, found.rows, intake.max_rejected_share)
    columns = fitted(
        columns_of([source], found.named.items()), found.feature_count, found.action_space, found.context_count
    )
    for episode in pieces(found.episodes, intake, columns, Episode.whole):
        if episode.source == "observed":
            yield vars(episode)
