"""A pendulum that is pushed: its episodes, a model of them that is not trained yet, and a training of a few steps."""

from dataclasses import replace

import numpy as np
import torch

from factories import make_episodes, make_packed
from worldmodel.arrays.mixing import Mixture
from worldmodel.arrays.windows import windows
from worldmodel.model.initialization import new_model
from worldmodel.model.objective import PREDICTION_ALONE
from worldmodel.model.optimization import learning_rate, new_optimizer, train_step
from worldmodel.model.shape import Shape
from worldmodel.model.tensors import to_device

CPU = torch.device("cpu")
SHAPE = Shape(features=2, actions=1, rewards=False, history=2, horizon=4, z_dim=8, hidden_dim=32, encoder="mlp")


def pendulums(count, seed, noise=0.0):
    """Episodes of a pushed pendulum, whose gravity is no linear function of its angle."""
    episodes = []
    for base in make_episodes(count, 30, features=2, actions=1, seed=seed, rewards=False):
        rng = np.random.default_rng([seed, len(episodes)])
        x = [rng.uniform(-2.5, 2.5, 2)]
        for push in base.actions[:-1, 0]:
            angle, speed = x[-1]
            speed = 0.98 * speed + 0.3 * (push - 2 * np.sin(angle))
            x.append(np.array([angle + 0.3 * speed, speed]) + noise * rng.normal(size=2))
        episodes.append(replace(base, features=np.array(x, np.float32)))
    return episodes


def setup(noise=0.0, train=24, held_out=12):
    packed = make_packed(pendulums(train, 0, noise) + pendulums(held_out, 1, noise))
    observed, unseen = np.arange(train), np.arange(train, train + held_out)
    model = new_model(SHAPE, packed, observed, seed=0, device=CPU)
    return model, windows(packed, observed, 2, 4), windows(packed, unseen, 2, 4)


def trained(model, observed, steps, rate=3e-3, objective=PREDICTION_ALONE):
    none = windows(observed.packed, np.empty(0, np.int64), 2, 4)
    mixture = Mixture(observed, none, 32, np.zeros(steps), 0, confidence=False)
    optimizer = new_optimizer(model)
    for t in range(steps):
        batch = to_device(mixture.batch(t), CPU)
        train_step(model, optimizer, batch, learning_rate(t, steps, rate), objective)
    return model


def cut(episode, length):
    return {name: getattr(episode, name)[:length] for name in ("timestamps", "features", "actions")}
