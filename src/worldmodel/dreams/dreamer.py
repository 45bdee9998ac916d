"""Dreams: the teacher's rollouts from real start histories under plausible actions, cut where the members disagree.

Where dreams.source is simulator or repeat, they come from simulating.py or repeating.py instead, and no teacher is
fitted. A teacher's dream is one window: H frames of real history (with a little noise) and up to `length` frames of
what might have come; it ends with the task, where that has ended as likely as not. Its actions are those logged after
its start, with noise, or after another start of the train split. The larger the teacher's generalization gap, the
further dreams leave the log, and the more they are what the teacher alone predicts: with plenty of data they repeat the
log, and a model learns no error of the teacher's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from worldmodel.arrays.moments import moments
from worldmodel.arrays.packing import encoded, labels_of, pack
from worldmodel.arrays.scaler import Scaler, fit
from worldmodel.arrays.windows import Batch, Packed, windows
from worldmodel.checkpoints.checkpoint import Checkpoints
from worldmodel.core.jobs import run_all, workers
from worldmodel.core.params import Dreams, Normalize
from worldmodel.core.typing import Floats, Ints
from worldmodel.dreams.footprint import require_for_dreams
from worldmodel.dreams.repeating import repeat_dreams
from worldmodel.dreams.simulating import dream_times, simulate_dreams, start_identity
from worldmodel.dreams.starts import CHUNK, StartSampler
from worldmodel.dreams.teacher import Rollout, Teacher, fit_teacher
from worldmodel.episodes.columns import Columns
from worldmodel.episodes.schema import ActionSpace, Episode
from worldmodel.model.linear_start import roomy
from worldmodel.model.shape import Shape
from worldmodel.numerics.setup import configure_as

PATIENCE = 10  # starts tried for each dream asked for


def generate_dreams(
    train: Sequence[Episode],
    action_space: ActionSpace,
    dreams: Dreams,
    normalize: Normalize,
    history: int,
    device: torch.device,
    checkpoints: Checkpoints | None = None,
    columns: Columns | None = None,
) -> list[Episode]:
    """Dreams of a teacher fitted on observed train episodes, of the user's simulator, or logged windows; raw units.

    Raises ValueError where no episode is longer than the history, where too many of a teacher's dreams end at their
    first frame, or where the simulator is no good.
    """
    if not dreams.episodes:
        return []
    if train:
        first, none = train[0], np.empty((0, 0))
        ahead = action_space.size + (none if first.context is None else first.context).shape[1]
        shape = _member_shape(first.features.shape[1], ahead, first.rewards is not None, dreams, history)
        require_for_dreams(shape, dreams, sum(episode.length for episode in train), device)
    if dreams.source == "simulator":
        return simulate_dreams(train, action_space, dreams, history)
    if dreams.source == "repeat":
        packed, _ = pack_logs(train, action_space, normalize, columns)
        return repeat_dreams(train, starts_of(packed, dreams, history), dreams)
    teacher, packed, scaler = fit_on_logs(train, action_space, dreams, normalize, history, device, checkpoints, columns)
    starts = starts_of(packed, dreams, history)
    return Dreamer(teacher, starts, train, action_space, scaler, dreams).dream()


def fit_on_logs(
    train: Sequence[Episode],
    action_space: ActionSpace,
    dreams: Dreams,
    normalize: Normalize,
    history: int,
    device: torch.device,
    checkpoints: Checkpoints | None = None,
    columns: Columns | None = None,
) -> tuple[Teacher, Packed, Scaler]:
    """The teacher of these train episodes, the episodes in standardized units, and their scales."""
    packed, scaler = pack_logs(train, action_space, normalize, columns)
    width, ahead = packed.features.shape[1], packed.actions.shape[1]
    shape = _member_shape(width, ahead, packed.rewards is not None, dreams, history)
    z_dim = roomy(shape.z_dim, packed.each(packed.features, np.arange(len(train))))
    ends = packed.ends(packed.where("train"))
    shape = replace(shape, context=packed.context_count, masked=packed.missing, z_dim=z_dim, terminals=ends)
    teacher = fit_teacher(packed, np.arange(len(train)), shape, dreams.teacher, dreams.seed, device, checkpoints)
    return teacher, packed, scaler


def pack_logs(
    train: Sequence[Episode],
    action_space: ActionSpace,
    normalize: Normalize,
    columns: Columns | None = None,
    dreamed: Sequence[Episode] = (),
) -> tuple[Packed, Scaler]:
    """Train episodes, then their dreams; scales are fitted on the former."""
    episodes, one_hot = [*train, *dreamed], action_space.kind == "discrete"
    tables = [encoded(episode.table(), action_space) for episode in episodes]
    scaler = fit(tables[: len(train)], normalize.method, normalize.min_std, one_hot, columns)
    return pack(tables, scaler, labels_of(episodes, ["train"] * len(episodes))), scaler


def starts_of(packed: Packed, dreams: Dreams, history: int) -> StartSampler:
    """Every window that a dream may begin with.

    Where the episode is long enough it has the frames that a member is unrolled over, and one more: the last kept
    frame needs an action, and the reward that it earns, where it did not end the task.
    """
    least = min(dreams.length, dreams.teacher.horizon)
    every = windows(packed, np.arange(len(packed.lengths)), history, least + 1)
    if packed.terminal is not None:
        begin, last = packed.starts[every.episode], packed.starts[every.episode] + packed.lengths[every.episode]
        every = every.at(np.flatnonzero((every.first == begin) | (last - every.first >= history + least)))
    return StartSampler(replace(every, horizon=dreams.length + 1), least, dreams.directed_share, dreams.seed)


def _member_shape(features: int, actions: int, rewards: bool, dreams: Dreams, history: int) -> Shape:
    return Shape(
        features=features,
        actions=actions,
        rewards=rewards,
        history=history,
        horizon=dreams.teacher.horizon,
        z_dim=dreams.teacher.z_dim,
        hidden_dim=dreams.teacher.hidden_dim,
        encoder="gru",
    )


@dataclass(frozen=True)
class _Drawn:
    """One chunk of starts, before anything is dreamed from them."""

    windows: Ints  # their numbers, [CHUNK]
    frames: Ints  # after the history, at most, [CHUNK]
    directed: NDArray[np.bool_]  # whether drawn from the rarest, [CHUNK]
    perturbed: Batch
    logged: Batch


def _rollouts(teacher: Teacher, perturbed: Batch, logged: Batch) -> tuple[Rollout, Rollout]:
    return teacher.rollout(perturbed), teacher.rollout(logged)


@dataclass(frozen=True)
class Dreamer:
    teacher: Teacher
    starts: StartSampler
    train: Sequence[Episode]  # numbered as in starts.windows.episode
    action_space: ActionSpace
    scaler: Scaler
    params: Dreams

    def dream(self) -> list[Episode]:
        """dreams.episodes dreams, numbered."""
        dreams: list[Episode] = []
        tried = 0
        for chunk in self._chunks():
            tried += CHUNK
            dreams.extend(chunk)
            if len(dreams) >= self.params.episodes:
                break
        else:
            raise ValueError(
                f"of {tried} dreams only {len(dreams)} outlived their first frame, dreams.episodes asks for "
                f"{self.params.episodes}: raise dreams.max_disagreement ({self.params.max_disagreement:g}) or "
                "dreams.teacher.steps, or log more episodes"
            )
        return [
            replace(dream, name=f"dream-{number:06d}") for number, dream in enumerate(dreams[: self.params.episodes])
        ]

    def _chunks(self) -> Iterator[list[Episode]]:
        """Several at a time: their rollouts are independent of each other."""
        most = -(-self.params.episodes * PATIENCE // CHUNK)
        size = min(-(-self.params.episodes // CHUNK), 4 * workers())
        for begin in range(0, most, size):
            drawn = [self._drawn(number) for number in range(begin, min(begin + size, most))]
            calls = [(self.teacher, each.perturbed, each.logged) for each in drawn]
            for each, (dreamed, on_log) in zip(drawn, run_all(_rollouts, calls, configure_as()), strict=True):
                yield self._episodes(each, self._blend_with_log(each.logged, dreamed, on_log))

    def _drawn(self, number: int) -> "_Drawn":
        rng = np.random.default_rng([self.params.seed, number])
        chosen, frames, directed = self.starts.draw(number, rng)
        batch = self.perturb_starts(chosen, rng)
        return _Drawn(chosen, frames, directed, batch, self.starts.windows.take(chosen))

    def _episodes(self, drawn: "_Drawn", rollout: Rollout) -> list[Episode]:
        batch = drawn.perturbed
        most = self._max_frames(batch, self.starts.windows.at(drawn.windows).episode)
        kept, ends = np.minimum(self._agreed(rollout), np.minimum(drawn.frames, most)), _ends(rollout)
        dreamed = [(row, min(int(kept[row]), int(ends[row]))) for row in range(CHUNK) if kept[row]]
        return [
            replace(
                self._episode(int(drawn.windows[row]), batch, rollout, row, frames, bool(drawn.directed[row])),
                terminal=frames == ends[row],
            )
            for row, frames in dreamed
        ]

    def perturb_starts(self, chosen: Ints, rng: np.random.Generator) -> Batch:
        """The starts numbered `chosen`, with noise, and with the actions of other starts for some."""
        real, exploration = self.starts.windows, self.teacher.exploration
        batch, other = real.take(chosen), real.take(rng.integers(len(real), size=len(chosen)))
        borrowed = rng.random(len(chosen)) < exploration
        taken = slice(real.packed.action_count)  # what comes after is context, which is the start's own
        plans = np.where(borrowed[:, None, None], other.planned_actions[..., taken], batch.planned_actions[..., taken])
        noise = rng.standard_normal(batch.history.shape).astype(np.float32) * self._spread
        disturbed = self._disturbed(plans, exploration * self.params.action_noise, rng)
        context = batch.planned_actions[..., taken.stop :]
        return replace(
            batch,
            history=batch.history + np.float32(exploration * self.params.start_noise) * noise,
            planned_actions=np.concatenate([disturbed, context], axis=-1) if context.size else disturbed,
        )

    @cached_property
    def _spread(self) -> Floats:
        """[G] of the logged features, standardized units."""
        packed = self.starts.windows.packed
        known = moments(lambda: [packed.features]) if packed.missing else None
        spread: Floats = known.std.astype(np.float32) if known else packed.features.std(axis=0)
        return spread

    def _blend_with_log(self, logged: Batch, dreamed: Rollout, on_log: Rollout) -> Rollout:
        """The teacher's rollout, plus what it misses along the logged actions: all that where dreams keep to the log.

        A mean rollout alone is smoother than anything real. But the larger the generalization gap, the less do a
        teacher's errors on one start tell of those on what it dreams from there. Where the log ends, or misses a
        reading, there is the rollout alone.
        """
        share = np.float32(1 - self.teacher.exploration) * logged.weight
        there = share[..., None] if logged.present is None else share[..., None] * logged.present

        def blended(own: Floats | None, on_log: Floats | None, real: Floats | None) -> Floats | None:
            return own if own is None or on_log is None or real is None else own + share * (real - on_log)

        return replace(
            dreamed,
            features=dreamed.features + there * (logged.features - on_log.features),
            rewards=blended(dreamed.rewards, on_log.rewards, logged.rewards),
            ending=blended(dreamed.ending, on_log.ending, logged.ended),
        )

    def _disturbed(self, plans: Floats, share: float, rng: np.random.Generator) -> Floats:
        """Continuous actions get noise within the logged range; a share of discrete ones is drawn anew from the log."""
        logged = self.starts.windows.packed.actions[:, : plans.shape[-1]]
        if self.action_space.kind == "discrete":
            redrawn = rng.random(plans.shape[:2]) < share
            return np.where(redrawn[..., None], logged[rng.integers(len(logged), size=plans.shape[:2])], plans)
        noise = rng.standard_normal(plans.shape).astype(np.float32) * logged.std(axis=0)
        disturbed: Floats = np.clip(plans + np.float32(share) * noise, logged.min(axis=0), logged.max(axis=0))
        return disturbed

    def _agreed(self, rollout: Rollout) -> Ints:
        """Predicted frames before the disagreement exceeds its limit, [B]."""
        agreed: Ints = (rollout.disagreement[:, : self.params.length] <= self.params.max_disagreement).sum(axis=1)
        return agreed

    def _max_frames(self, batch: Batch, episodes: Ints) -> Ints:
        """Frames that a dream may have, [B]: what the log goes on for, less the one for an action, which none follows
        that ended the task.

        Of a short episode, more by the teacher's exploration: at least one frame, at most `length`. But nothing
        follows the end of a task, and no frame is dreamed whose context is not known.
        """
        whole = batch.weight.sum(axis=1).astype(np.int64)
        logged = whole - 1 if batch.ended is None else whole - 1 + batch.ended.sum(axis=1).astype(np.int64)
        further = np.round(self.teacher.exploration * (self.params.length - logged)).astype(np.int64)
        frames: Ints = np.where(logged < self.starts.least, np.maximum(logged + further, 1), logged)
        bound = np.array([each.terminal or each.context is not None for each in self.train])[episodes]
        return np.where(bound, np.minimum(frames, whole), frames)

    def _episode(self, start: int, batch: Batch, rollout: Rollout, row: int, kept: int, directed: bool) -> Episode:
        """One dream in raw units: frame H - 1 + k holds planned action k, and the reward predicted for it."""
        number, begin = self.starts.begin(start)
        source, history, scaler = self.train[number], self.starts.windows.history, self.scaler
        frames = slice(begin, begin + history)
        predicted, planned = rollout.features[row, :kept], batch.planned_actions[row, : kept + 1]
        actions = np.concatenate([batch.past_actions[row], planned])[:, : self.starts.windows.packed.action_count]
        past = batch.history[row] if batch.known is None else np.where(batch.known[row] > 0, batch.history[row], np.nan)
        return Episode(
            agent_id=source.agent_id,
            name="dream",
            timestamps=dream_times(source, begin, history, kept),
            features=scaler.features.inverse(np.concatenate([past, predicted])),
            actions=self._raw_actions(actions),
            context=None if source.context is None else source.context[begin : begin + history + kept],
            rewards=self._rewards(source, frames, rollout, row, kept),
            confidence=np.concatenate([np.ones(history), np.exp(-rollout.disagreement[row, :kept])]).astype(np.float32),
            source="dream",
            provenance={
                "teacher": f"{len(self.teacher.members)} world models of {self.params.teacher.steps} steps",
                "seed": self.params.seed,
                "start": start_identity(source, begin),
                "directed": directed,
            },
        )

    def _raw_actions(self, actions: Floats) -> NDArray[np.int64] | Floats | None:
        """[T, A] as a log holds them: continuous ones within what was logged, which rounding may have left."""
        raw = self.scaler.actions.inverse(actions)
        return self.action_space.decode(np.clip(raw, *self._logged_range) if self._logged_range else raw)

    @cached_property
    def _logged_range(self) -> tuple[Floats, Floats] | None:
        """Least and largest continuous actions, raw, [A] each."""
        logged = [episode.actions for episode in self.train if episode.actions is not None]
        if self.action_space.kind != "continuous":
            return None
        return np.min([each.min(axis=0) for each in logged], axis=0), np.max([e.max(axis=0) for e in logged], axis=0)

    def _rewards(self, source: Episode, frames: slice, rollout: Rollout, row: int, kept: int) -> Floats | None:
        if source.rewards is None or rollout.rewards is None or self.scaler.rewards is None:
            return None
        earned = self.scaler.rewards.inverse(rollout.rewards[row, : kept + 1, None])[:, 0]
        return np.concatenate([source.rewards[frames][:-1], earned])


def _ends(rollout: Rollout) -> Ints:
    """Frames up to the first by which the task has ended as likely as not, [B]; more than there are where none is."""
    none = np.zeros(rollout.disagreement.shape, np.float32)
    ended = 1 - np.cumprod(1 - np.clip(none if rollout.ending is None else rollout.ending, 0, 1), axis=1) >= 0.5
    ends: Ints = np.where(ended.any(axis=1), ended.argmax(axis=1), ended.shape[1]) + 1
    return ends
