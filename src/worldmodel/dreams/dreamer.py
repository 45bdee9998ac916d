"""Dreams: the teacher's rollouts from real start histories under plausible actions, cut where the members disagree.

Where dreams.source is simulator or repeat, they come from simulating.py or repeating.py instead, and no teacher is
fitted. A teacher's dream is one window: H frames of real history (with a little noise) and up to `length`
frames of what might have come. Its actions are those logged after its start, with noise, or after another start of the
train split. The more the teacher is in want of data, the further they reach from the log, and the more they are the
teacher's word alone: with plenty of data they are the log over again, and a model learns no error of the teacher's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from worldmodel.arrays.packing import pack, sample_of
from worldmodel.arrays.scaler import Scaler, fit
from worldmodel.arrays.windows import Batch, Packed, windows
from worldmodel.checkpoints.checkpoint import Checkpoints
from worldmodel.core.params import Dreams, Normalize
from worldmodel.core.typing import Floats, Ints
from worldmodel.dreams.repeating import repeat_dreams
from worldmodel.dreams.simulating import dream_times, simulate_dreams, start_identity
from worldmodel.dreams.starts import CHUNK, Starts
from worldmodel.dreams.teacher import Rollout, Teacher, fit_teacher
from worldmodel.episodes.schema import ActionSpace, Episode
from worldmodel.model.shape import Shape

PATIENCE = 10  # starts tried for each dream asked for


def generate_dreams(
    train: Sequence[Episode],
    action_space: ActionSpace,
    dreams: Dreams,
    normalize: Normalize,
    history: int,
    device: torch.device,
    kept: Checkpoints | None = None,
) -> list[Episode]:
    """Dreams of a teacher fitted on observed train episodes, of the user's simulator, or logged windows; raw units.

    Raises ValueError where no episode is longer than the history, where too many of a teacher's dreams end at their
    first frame, or where the simulator is no good.
    """
    if not dreams.episodes:
        return []
    if dreams.source == "simulator":
        return simulate_dreams(train, action_space, dreams, history)
    if dreams.source == "repeat":
        return repeat_dreams(train, starts_of(pack_logs(train, action_space, normalize)[0], dreams, history), dreams)
    teacher, packed, scaler = fit_on_logs(train, action_space, dreams, normalize, history, device, kept)
    starts = starts_of(packed, dreams, history)
    return Dreamer(teacher, starts, train, action_space, scaler, dreams).dream()


def fit_on_logs(
    train: Sequence[Episode],
    action_space: ActionSpace,
    dreams: Dreams,
    normalize: Normalize,
    history: int,
    device: torch.device,
    kept: Checkpoints | None = None,
) -> tuple[Teacher, Packed, Scaler]:
    """The teacher of these train episodes, the episodes in standardized units, and their scales."""
    packed, scaler = pack_logs(train, action_space, normalize)
    shape = _member_shape(packed, dreams, history)
    teacher = fit_teacher(packed, np.arange(len(train)), shape, dreams.teacher, dreams.seed, device, kept)
    return teacher, packed, scaler


def pack_logs(train: Sequence[Episode], action_space: ActionSpace, normalize: Normalize) -> tuple[Packed, Scaler]:
    samples = [sample_of(episode.features, action_space.encode(episode.actions), episode.rewards) for episode in train]
    scaler = fit(samples, normalize.method, normalize.min_std, one_hot=action_space.kind == "discrete")
    return pack(samples, scaler), scaler


def starts_of(packed: Packed, dreams: Dreams, history: int) -> Starts:
    """Every window that a dream may begin with.

    Where the episode is long enough it has the frames that a member is unrolled over, and one more: the last kept
    frame needs an action, and the reward that it earns.
    """
    least = min(dreams.length, dreams.teacher.horizon)
    every = windows(packed, np.arange(len(packed.lengths)), history, least + 1)
    return Starts(replace(every, horizon=dreams.length + 1), least, dreams.directed_share, dreams.seed)


def _member_shape(packed: Packed, dreams: Dreams, history: int) -> Shape:
    return Shape(
        features=packed.features.shape[1],
        actions=packed.actions.shape[1],
        rewards=packed.rewards is not None,
        history=history,
        horizon=dreams.teacher.horizon,
        z_dim=dreams.teacher.z_dim,
        hidden_dim=dreams.teacher.hidden_dim,
        encoder="gru",
    )


@dataclass(frozen=True)
class Dreamer:
    teacher: Teacher
    starts: Starts
    train: Sequence[Episode]  # numbered as in starts.windows.episode
    action_space: ActionSpace
    scaler: Scaler
    params: Dreams

    def dream(self) -> list[Episode]:
        """As many dreams as asked for, numbered."""
        found: list[Episode] = []
        tried = 0
        for chunk in self._chunks():
            tried += CHUNK
            found.extend(chunk)
            if len(found) >= self.params.episodes:
                break
        else:
            raise ValueError(
                f"of {tried} dreams only {len(found)} outlived their first frame, dreams.episodes asks for "
                f"{self.params.episodes}: raise dreams.max_disagreement ({self.params.max_disagreement:g}) or "
                "dreams.teacher.steps, or log more episodes"
            )
        return [
            replace(dream, name=f"dream-{number:06d}") for number, dream in enumerate(found[: self.params.episodes])
        ]

    def _chunks(self) -> Iterator[list[Episode]]:
        for number in range(-(-self.params.episodes * PATIENCE // CHUNK)):
            rng = np.random.default_rng([self.params.seed, number])
            chosen, frames, directed = self.starts.draw(number, rng)
            batch = self.imagine(chosen, rng)
            rollout = self._anchored(chosen, self.teacher.rollout(batch))
            kept = np.minimum(self._agreed(rollout), np.minimum(frames, self._goes_on(batch)))
            yield [
                self._episode(int(chosen[row]), batch, rollout, row, int(kept[row]), bool(directed[row]))
                for row in range(CHUNK)
                if kept[row]
            ]

    def imagine(self, chosen: Ints, rng: np.random.Generator) -> Batch:
        """The starts numbered `chosen`, with noise, and with the actions of other starts for some."""
        real, reach = self.starts.windows, self.teacher.reach
        batch, other = real.take(chosen), real.take(rng.integers(len(real), size=len(chosen)))
        borrowed = rng.random(len(chosen)) < reach
        plans = np.where(borrowed[:, None, None], other.planned_actions, batch.planned_actions)
        noise = rng.standard_normal(batch.history.shape).astype(np.float32) * real.packed.features.std(axis=0)
        return replace(
            batch,
            history=batch.history + np.float32(reach * self.params.start_noise) * noise,
            planned_actions=self._disturbed(plans, reach * self.params.action_noise, rng),
        )

    def _anchored(self, chosen: Ints, dreamed: Rollout) -> Rollout:
        """The teacher's rollout, plus what it misses along the logged actions: all that where dreams keep to the log.

        A mean rollout alone is smoother than anything real. But the more data is wanting, the less do a teacher's
        errors on one start tell of those on what it dreams from there. Where the log ends, there is the rollout alone.
        """
        logged = self.starts.windows.take(chosen)
        told = self.teacher.rollout(logged)
        share = np.float32(1 - self.teacher.reach) * logged.weight
        features = dreamed.features + share[..., None] * (logged.features - told.features)
        if dreamed.rewards is None or told.rewards is None or logged.rewards is None:
            return replace(dreamed, features=features)
        rewards = dreamed.rewards + share * (logged.rewards - told.rewards)
        return replace(dreamed, features=features, rewards=rewards)

    def _disturbed(self, plans: Floats, share: float, rng: np.random.Generator) -> Floats:
        """Continuous actions get noise within the logged range; a share of discrete ones is drawn anew from the log."""
        logged = self.starts.windows.packed.actions
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

    def _goes_on(self, batch: Batch) -> Ints:
        """Frames that a dream may have, [B]: what the log goes on for, less the one for an action.

        Of a short episode, more by the teacher's reach: at least one frame, at most `length`.
        """
        logged = batch.weight.sum(axis=1).astype(np.int64) - 1
        further = np.round(self.teacher.reach * (self.params.length - logged)).astype(np.int64)
        frames: Ints = np.where(logged < self.starts.least, np.maximum(logged + further, 1), logged)
        return frames

    def _episode(self, start: int, batch: Batch, rollout: Rollout, row: int, kept: int, directed: bool) -> Episode:
        """One dream in raw units: frame H - 1 + k holds planned action k, and the reward predicted for it."""
        number, begin = self.starts.begin(start)
        source, history, scaler = self.train[number], self.starts.windows.history, self.scaler
        frames = slice(begin, begin + history)
        predicted, planned = rollout.features[row, :kept], batch.planned_actions[row, : kept + 1]
        actions = np.concatenate([batch.past_actions[row], planned])
        return Episode(
            agent_id=source.agent_id,
            name="dream",
            timestamps=dream_times(source, begin, history, kept),
            features=scaler.features.inverse(np.concatenate([batch.history[row], predicted])),
            actions=self._raw_actions(actions),
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
