"""Estimates of memory against what the system counts, and the stages that ask for more than there is."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from factories import PARAMS
from worldmodel.core import memory
from worldmodel.core.memory import Ceiling
from worldmodel.dreams.footprint import require_for_dreams
from worldmodel.model import footprint
from worldmodel.model.shape import Shape

CPU = torch.device("cpu")
SHAPE = Shape(features=8, actions=6, rewards=True, history=8, horizon=16, z_dim=64, hidden_dim=256, encoder="gru")
MB = 1e6

MEASURE = """
import json, os, sys, torch
from worldmodel.model.objective import Objective
from worldmodel.model.optimization import new_optimizer, train_step
from worldmodel.model.shape import Shape
from worldmodel.model.tensors import Tensors
from worldmodel.model.world_model import WorldModel

def trained(shape, batch, contrastive):
    model = WorldModel(shape)
    optimizer = new_optimizer(model)
    sizes = [(batch, shape.history, shape.features), (batch, shape.history - 1, shape.actions),
             (batch, shape.horizon, shape.actions), (batch, shape.horizon, shape.features), (batch, shape.horizon)]
    there = [torch.rand(size).round() for size in (sizes[0], sizes[3])] if shape.masked else []
    tensors = Tensors(*map(torch.rand, sizes), torch.ones(batch, shape.horizon), torch.ones(batch), *there)
    for step in range(2):
        train_step(model, optimizer, tensors, 1e-3, Objective(0.0, contrastive, True))
    status = open("/proc/self/status").read()  # getrusage has the peak of the process that began this one
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024

torch.set_num_threads(1)
for fields, batch, contrastive in json.loads(sys.argv[1]):
    if os.fork() == 0:  # a peak of its own
        small = Shape(**fields | {"hidden_dim": 4, "z_dim": 4, "history": 2, "horizon": 2})
        before = trained(small, 4, contrastive)
        print(trained(Shape(**fields), batch, contrastive) - before, flush=True)
        os._exit(0)
    os.wait()
"""
TRAININGS = [
    ({}, 2048, 0.0),
    ({"horizon": 64, "hidden_dim": 16}, 4096, 0.0),
    ({"encoder": "mlp", "features": 60}, 2048, 0.0),
    ({"encoder": "transformer", "history": 200}, 64, 0.0),
    ({"hidden_dim": 64, "horizon": 2}, 6000, 0.1),
    ({"hidden_dim": 3000, "horizon": 2}, 8, 0.0),
    ({"features": 30, "history": 40, "masked": True}, 1024, 0.0),
]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="no /proc that tells a peak")
def test_an_estimate_is_right_to_a_factor_of_two():
    asked = [(replace(SHAPE, **fields), *others) for fields, *others in TRAININGS]
    command = [sys.executable, "-c", MEASURE, json.dumps([(shape.to_dict(), *others) for shape, *others in asked])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for taken, (shape, batch, contrastive) in zip(map(int, done.stdout.split()), asked, strict=True):
        assert 0.7 * taken < footprint.training(shape, batch, contrastive > 0) < 2.2 * taken, shape


def test_counting_weights_makes_none_and_draws_no_random_number():
    before = torch.get_rng_state()
    assert footprint.parameters(replace(SHAPE, hidden_dim=8192, z_dim=4096)) > 10**8
    assert torch.equal(torch.get_rng_state(), before)


def limited(monkeypatch, size):
    monkeypatch.setattr(memory, "_ceilings", lambda: [Ceiling(int(size), "this machine has")])


def test_the_committed_params_need_little(monkeypatch):
    limited(monkeypatch, 2000 * MB)
    footprint.require_for_training(SHAPE, PARAMS.train, 10**6, CPU)
    footprint.require_for_validation(SHAPE, PARAMS.validate, 10**6)
    require_for_dreams(SHAPE, PARAMS.dreams, 10**6, CPU)


def training(shape=SHAPE, **fields):
    settings = replace(PARAMS.train, **fields)
    footprint.require_for_training(shape, settings, 1024, CPU)


def dreaming(teacher=None, frames=10**6, hidden_dim=256, **fields):
    dreams = replace(PARAMS.dreams, teacher=replace(PARAMS.dreams.teacher, **teacher or {}), **fields)
    require_for_dreams(replace(SHAPE, hidden_dim=hidden_dim), dreams, frames, CPU)


def test_params_that_ask_for_too_much_are_named_before_anything_is_taken(monkeypatch):
    limited(monkeypatch, 18_000 * MB)
    large = {"hidden_dim": 8192, "horizon": 1024}
    for call, first in [
        (lambda: training(batch_size=10**8), "train.batch_size 100000000, train.horizon 16"),
        (lambda: training(batch_size=10**6, contrastive_weight=0.1), "train.batch_size 1000000, train.horizon 16"),
        (lambda: training(replace(SHAPE, **large), batch_size=1, **large), "train.horizon 1024, train.hidden_dim 8192"),
        (
            lambda: footprint.require_for_validation(SHAPE, replace(PARAMS.validate, latency_calls=10**9), 100),
            "validate.latency_calls 1000000000",
        ),
        (lambda: dreaming(episodes=10**9), "dreams.episodes 1000000000, dreams.length 32"),
        (lambda: dreaming(episodes=10**9, source="repeat"), "dreams.episodes 1000000000"),
        (lambda: dreaming({"batch_size": 10**6}), "dreams.teacher.batch_size 1000000"),
        (lambda: dreaming({"members": 64}, hidden_dim=8192), "dreams.teacher.members 64"),
        (lambda: dreaming({"points": 20_000}), "dreams.teacher.points 20000"),
    ]:
        with pytest.raises(ValueError, match=rf"would take about .* most of it is for {first}.*: lower the first"):
            call()
    training(steps=10**9, batch_size=10**6)  # shard by shard
    dreaming({"points": 20_000}, frames=3000)
