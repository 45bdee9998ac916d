"""Dreams: the teacher's rollouts from real start histories under plausible actions, cut where the members disagree.

Where dreams.source is simulator, they come from worldmodel.simulating instead, and no teacher is fitted. A teacher's
dream is one window: H frames of real history (with a little noise) and up to `length` frames of what might have come:
what was logged, plus the difference that other actions make to the teacher. Its actions are those logged after its
start, or after another start of the train split, with noise. Most starts are drawn from all windows alike; directed
dreams start from the rarest, of which the log has few.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from worldmodel.model import Floats, Shape
from worldmodel.packing import pack, sample_of
from worldmodel.params import Dreams, Normalize
from worldmodel.rarity import rarest, rarest_count
from worldmodel.scaler import Scaler, fit
from worldmodel.schema import ActionSpace, Episode
from worldmodel.simulating import dream_times, simulate_dreams, start_identity
from worldmodel.teacher import Rollout, Teacher, fit_teacher
from worldmodel.windows import Batch, Ints, Packed, Windows, windows

CHUNK = 256  # dreams rolled out at once; each chunk has its own random stream
PATIENCE = 10  # starts tried for each dream asked for
BORROWED_SHARE = 0.5  # of dreams take their actions from another start


def generate_dreams(
    train: Sequence[Episode],
    action_space: ActionSpace,
    dreams: Dreams,
    normalize: Normalize,
    history: int,
    device: torch.device,
) -> list[Episode]:
    """Dreams of a teacher fitted on observed train episodes, or of the user's simulator; raw units.

    Raises ValueError where no episode is longer than the history, where too many of a teacher's dreams end at their
    first frame, or where the simulator is no good.
    """
    if not dreams.episodes:
        return []
    if dreams.source == "simulator":
        return simulate_dreams(train, action_space, dreams, history)
    samples = [sample_of(episode.features, action_space.encode(episode.actions), episode.rewards) for episode in train]
    scaler = fit(samples, normalize.method, normalize.min_std, one_hot=action_space.kind == "discrete")
    packed = pack(samples, scaler)
    shape = _member_shape(packed, dreams, history)
    everything = np.arange(len(train))
    teacher = fit_teacher(packed, everything, shape, dreams.teacher, dreams.seed, device)
    starts = windows(packed, everything, history, shape.horizon)
    dreamer = Dreamer(teacher, starts, train, action_space, scaler, dreams)
    return dreamer.dream()


def _member_shape(packed: Packed, dreams: Dreams, history: int) -> Shape:
    return Shape(
        features=packed.features.shape[1],
        actions=packed.actions.shape[1],
        rewards=packed.rewards is not None,
        history=history,
        # One frame more than is kept: the last kept frame needs an action, and the reward that it earns.
        horizon=dreams.length + 1,
        z_dim=dreams.teacher.z_dim,
        hidden_dim=dreams.teacher.hidden_dim,
        encoder="gru",
    )


@dataclass(frozen=True)
class Dreamer:
    teacher: Teacher
    starts: Windows
    train: Sequence[Episode]  # numbered as in starts.episode
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
            directed = self._directed(number)
            rank = rng.integers(rarest_count(self.starts), size=CHUNK)  # drawn by all, so that others' starts stay
            chosen = rng.integers(len(self.starts), size=CHUNK)
            if directed.any():
                chosen = np.where(directed, self._rarest[rank], chosen)
            batch = self.imagine(chosen, rng)
            rollout = self._anchored(chosen, self.teacher.rollout(batch))
            kept = self._kept(rollout)
            yield [
                self._episode(int(chosen[row]), batch, rollout, row, int(kept[row]), bool(directed[row]))
                for row in range(CHUNK)
                if kept[row]
            ]

    def _directed(self, number: int) -> NDArray[np.bool_]:
        """Which dreams of a chunk start from rare windows, [CHUNK]: evenly spread, every stretch has its share."""
        by = np.floor((number * CHUNK + np.arange(CHUNK + 1)) * self.params.directed_share + 1e-6)
        directed: NDArray[np.bool_] = np.diff(by) > 0
        return directed

    @cached_property
    def _rarest(self) -> Ints:
        return rarest(self.starts, self.starts)

    def imagine(self, chosen: Ints, rng: np.random.Generator) -> Batch:
        """The starts numbered `chosen`, with noise, and with the actions of other starts for some."""
        batch = self.starts.take(chosen)
        other = self.starts.take(rng.integers(len(self.starts), size=len(chosen)))
        borrowed = rng.random(len(chosen)) < BORROWED_SHARE
        plans = np.where(borrowed[:, None, None], other.planned_actions, batch.planned_actions)
        noise = rng.standard_normal(batch.history.shape).astype(np.float32) * self.starts.packed.features.std(axis=0)
        return replace(
            batch,
            history=batch.history + np.float32(self.params.start_noise) * noise,
            planned_actions=self._disturbed(plans, rng),
        )

    def _anchored(self, chosen: Ints, dreamed: Rollout) -> Rollout:
        """What was logged after the start, plus what the teacher makes of the changes to its history and actions.

        A mean rollout alone is smoother than anything real; where the log ends, it is all there is.
        """
        logged = self.starts.take(chosen)
        told = self.teacher.rollout(logged)
        features = dreamed.features + logged.weight[..., None] * (logged.features - told.features)
        if dreamed.rewards is None or told.rewards is None or logged.rewards is None:
            return replace(dreamed, features=features)
        rewards = dreamed.rewards + logged.weight * (logged.rewards - told.rewards)
        return replace(dreamed, features=features, rewards=rewards)

    def _disturbed(self, plans: Floats, rng: np.random.Generator) -> Floats:
        """Continuous actions get noise within the logged range; a share of discrete ones is drawn anew from the log."""
        logged = self.starts.packed.actions
        if self.action_space.kind == "discrete":
            redrawn = rng.random(plans.shape[:2]) < self.params.action_noise
            return np.where(redrawn[..., None], logged[rng.integers(len(logged), size=plans.shape[:2])], plans)
        noise = rng.standard_normal(plans.shape).astype(np.float32) * logged.std(axis=0)
        disturbed: Floats = np.clip(
            plans + np.float32(self.params.action_noise) * noise, logged.min(axis=0), logged.max(axis=0)
        )
        return disturbed

    def _kept(self, rollout: Rollout) -> Ints:
        """Predicted frames before the disagreement exceeds its limit, [B]."""
        agreed: Ints = (rollout.disagreement[:, : self.params.length] <= self.params.max_disagreement).sum(axis=1)
        return agreed

    def _episode(self, start: int, batch: Batch, rollout: Rollout, row: int, kept: int, directed: bool) -> Episode:
        """One dream in raw units: frame H - 1 + k holds planned action k, and the reward predicted for it."""
        source, history, scaler = self.train[self.starts.episode[start]], self.starts.history, self.scaler
        begin = int(self.starts.first[start] - self.starts.packed.starts[self.starts.episode[start]])
        frames = slice(begin, begin + history)
        predicted, planned = rollout.features[row, :kept], batch.planned_actions[row, : kept + 1]
        actions = np.concatenate([batch.past_actions[row], planned])
        return Episode(
            agent_id=source.agent_id,
            name="dream",
            timestamps=dream_times(source, begin, history, kept),
            features=scaler.features.inverse(np.concatenate([batch.history[row], predicted])),
            actions=self.action_space.decode(scaler.actions.inverse(actions)),
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

    def _rewards(self, source: Episode, frames: slice, rollout: Rollout, row: int, kept: int) -> Floats | None:
        if source.rewards is None or rollout.rewards is None or self.scaler.rewards is None:
            return None
        earned = self.scaler.rewards.inverse(rollout.rewards[row, : kept + 1, None])[:, 0]
        return np.concatenate([source.rewards[frames][:-1], earned])
