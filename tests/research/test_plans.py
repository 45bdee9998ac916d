from contextlib import closing

import numpy as np
import pytest
from gymnasium.spaces import Discrete

from examples.collect_gymnasium import Recording, make
from research.plans import Executed, Simulator, acted

PENDULUM, CARTPOLE = (Recording(name, 8, 40, 3, 4, {}) for name in ("Pendulum-v1", "CartPole-v1"))


@pytest.mark.parametrize("recording", [PENDULUM, CARTPOLE])
def test_a_plan_is_executed_from_the_frame_that_the_agent_had_reached(recording):
    endings = []
    with closing(make(recording)) as env:
        simulator = Simulator(env, recording)
        for start in simulator.starts(4, 3, 20):
            assert start.episode >= recording.episodes  # none of the logs'
            other = simulator.execute(start, 1 - start.onwards(20))
            frames, ended = simulator.execute(start, start.onwards(20))
            np.testing.assert_array_equal(frames, start.frames[start.reached + 1 :][:20])
            assert not np.array_equal(frames, other.frames)
            endings += [*ended, *other.ended]
    assert any(endings) == (recording is CARTPOLE)


def test_the_frame_that_ends_a_task_counts_and_none_after_it():
    ended = np.array([False, False, True, True])
    assert Executed(np.zeros((4, 1)), ended).valid.tolist() == [True, True, True, False]


def test_commands_span_the_actions_of_the_environment():
    with closing(make(PENDULUM)) as env:
        np.testing.assert_allclose(acted(env.action_space, np.array([[-1.0], [0.5], [1.0]])), [[-2], [1], [2]])
    assert acted(Discrete(3), np.array([[0.1, 0.9, 0.0]])).tolist() == [[0, 1, 0]]


def test_episodes_that_are_too_short_for_a_history_are_named():
    said = "CartPole-v1: 0 of 40 episodes last more than 40"
    with closing(make(CARTPOLE)) as env, pytest.raises(ValueError, match=said):
        Simulator(env, CARTPOLE).starts(2, 40, 1)
