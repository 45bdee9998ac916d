"""The example that trains a policy in a model and then runs it elsewhere: here in that model once more."""

import gymnasium
import numpy as np
import pytest
from stable_baselines3 import PPO, SAC

from examples import train_in_model
from factories import make_episodes, write_logs
from tiny_bundles import write_bundle
from worldmodel.env import WorldModelEnv


@pytest.mark.parametrize(("kind", "learner", "frames"), [("continuous", SAC, 2624), ("discrete", PPO, 64)])
def test_a_policy_that_learned_in_the_model_acts_in_the_real_environment(tmp_path, kind, learner, frames, capsys):
    bundle = write_bundle(tmp_path / "bundle", action_kind=kind)
    episodes = make_episodes(3, features=2, actions=3, kind=kind, context=np.ones((12, 1), np.float32))
    logs, policy = write_logs(tmp_path, episodes), tmp_path / "policy.zip"
    gymnasium.register("Real-v0", lambda: WorldModelEnv(str(bundle), logs, steps=3))
    try:
        arguments = ["--env=Real-v0", f"--frames={frames}", "--episodes=2", f"--out={policy}"]
        train_in_model.command.main([str(bundle), str(logs), *arguments], standalone_mode=False)
    finally:
        gymnasium.registry.pop("Real-v0")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["policy", "random"]
    assert all("over 2 episodes of Real-v0" in line for line in lines)
    assert learner.load(policy).num_timesteps >= frames
