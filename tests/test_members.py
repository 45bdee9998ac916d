import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from factories import make_dreams, make_episodes, make_packed
from test_teacher import CPU, SHAPE
from worldmodel.checkpoints import checkpoint
from worldmodel.checkpoints.checkpoint import Checkpoints, Interval, Stopped, held
from worldmodel.dreams.members import EnsembleTrainer, Fold
from worldmodel.dreams.teacher import fit_teacher

FOLDS = [Fold(0, np.arange(0, 4), np.arange(4, 6)), Fold(1, np.arange(1, 5), np.array([0, 5]))]
STEPS = 6
ALWAYS = Interval(steps=1, seconds=0)


@pytest.fixture(scope="module")
def packed():
    return make_packed(make_episodes(6, 12))


def trainer_of(packed, checkpoints=None):
    params = make_dreams(teacher={"members": 2, "steps": STEPS, "transition_steps": STEPS, "dropout": 0.5}).teacher
    return EnsembleTrainer(packed, SHAPE, params, 7, CPU, checkpoints)


def fit(trainer):
    """Both members and networks, as bytes."""
    members = [trainer.fit_member(fold) for fold in FOLDS]
    networks = [trainer.fit_network(fold, each.model) for fold, each in zip(FOLDS, members, strict=True)]
    models = [*(each.model for each in members), *networks]
    assert not any(model.training for model in models)
    weights = [[tensor.numpy().tobytes() for tensor in model.state_dict().values()] for model in models]
    return weights, [(each.train_error, each.holdout_error) for each in members]


class StopsAfter(Checkpoints):
    """Asks all parts to stop once a certain part has taken so many steps."""

    name, last = "", 0

    def part(self, name):
        made = super().part(name)
        return replace_save(made, self.folder / checkpoint.STOP, self.last) if name == self.name else made


def replace_save(part, flag, last):
    save = part.save

    def saving(step, state):
        if step == last:
            flag.touch()
        save(step, state)

    part.save = saving
    return part


@pytest.mark.parametrize("name", ["member-0", "member-1", "network-0", "network-1"])
@pytest.mark.parametrize("last", [1, STEPS - 1, STEPS])
def test_models_that_were_stopped_after_any_step_come_to_the_same_bits(tmp_path, packed, monkeypatch, name, last):
    monkeypatch.setattr(checkpoint, "SHARE", float("inf"))
    stopping = StopsAfter(tmp_path, ALWAYS)
    stopping.name, stopping.last = name, last
    trainer, kind = trainer_of(packed, stopping), name.split("-")[0]
    fold = FOLDS[int(name[-1])]
    member = trainer_of(packed).fit_member(fold)
    assert (trainer.fit_member(fold) if kind == "member" else trainer.fit_network(fold, member.model)) is None
    with held(tmp_path, ALWAYS) as checkpoints:
        assert checkpoints.part(name).latest().numbers["step"] == last
        assert fit(trainer_of(packed, checkpoints)) == fit(trainer_of(packed))
    assert not tmp_path.exists()


def test_a_part_whose_holder_asks_to_stop_says_so_after_it_has_saved(tmp_path):
    part = Checkpoints(tmp_path, ALWAYS).part("member-0")
    part.folder.mkdir()
    (tmp_path / checkpoint.STOP).touch()
    with pytest.raises(Stopped):
        part.save(3, checkpoint.State({}, {"some": torch.zeros(1)}))
    assert part.latest().tensors["some"] == torch.zeros(1)


def test_a_part_whose_holder_has_died_ends_its_process(tmp_path):
    part = replace(Checkpoints(tmp_path, ALWAYS).part("member-0"), holder=2**22 + 1)
    if not (pid := os.fork()):
        part.due(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def test_two_processes_make_the_bits_of_one(packed, monkeypatch):
    params = make_dreams(teacher={"members": 2, "steps": STEPS, "transition_steps": STEPS, "points": 20}).teacher

    def predicted(jobs):
        monkeypatch.setenv("WORLDMODEL_JOBS", jobs)
        made = fit_teacher(packed, np.arange(6), SHAPE, params, 7, CPU)
        groups = [group.share.tobytes() for group in made.auxiliary]
        return groups, [p.detach().numpy().tobytes() for model in made.members for p in model.parameters()]

    assert predicted("2") == predicted("1")


def test_fitting_leaves_the_random_numbers_of_others_alone(tmp_path, packed):
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    with held(tmp_path, ALWAYS) as checkpoints:
        fit(trainer_of(packed, checkpoints))
    assert torch.rand(1) == expected
