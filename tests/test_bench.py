import copy
import json
import math

import numpy as np
import pytest
import torch
import yaml

from factories import make_train
from projects import Project, make_project
from research import bench
from research.contestants import batch_of, flops
from research.other_numerics import other
from research.plain import PlainWorldModel, plain_name
from worldmodel.core import params
from worldmodel.model.objective import Objective, total_loss
from worldmodel.model.tensors import to_device
from worldmodel.stages import train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("bench"), encoder="gru")


def written_params(folder, request, **fields):
    """params.yaml with the small training of the tests."""
    whole = yaml.safe_load((request.config.rootpath / "params.yaml").read_text())
    whole["train"] = vars(make_train(**({"encoder": "gru"} | fields)))
    (folder / "params.yaml").write_text(yaml.safe_dump(whole))
    return folder / "params.yaml"


def trained_for_a_while(project: Project):
    """A model whose every parameter matters, and a batch with windows that end early."""
    data, settings = project.read_packed(), project.settings
    model = train.initial_model(data.packed, settings, CPU)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        model.log_std_offset += torch.randn(model.log_std_offset.shape, generator=generator)
        model.train_max /= 2
        model.sensor_max.fill_(0.8)
        model.damping += 0.5
    mixture, _ = train.training_and_val_windows(data.packed, settings)
    batch = to_device(mixture.batch(0), CPU)
    batch.weight[0, 1:] = 0
    return model, batch


@pytest.mark.parametrize("written_out", [False, True], ids=["plain", "unfused"])
@pytest.mark.parametrize("fields", [{}, {"z_dim": 2}, {"history": 1}], ids=["whole", "narrow", "no-past"])
def test_the_plain_network_predicts_what_the_world_model_predicts(tmp_path, fields, written_out):
    model, batch = trained_for_a_while(make_project(tmp_path, encoder="gru", **fields))
    expected = model(batch.history, batch.past_actions, batch.planned_actions)
    plain = PlainWorldModel.like(model, written_out)
    found = list(plain(batch.history, batch.past_actions, batch.planned_actions))
    for name, frames in zip(("features", "log_std", "rewards"), zip(*found, strict=True), strict=True):
        torch.testing.assert_close(torch.stack(frames, dim=1), getattr(expected, name), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("written_out", [False, True], ids=["plain", "unfused"])
@pytest.mark.parametrize("likelihood", [False, True])
def test_the_plain_network_has_the_loss_and_the_gradients_of_the_world_model(project, written_out, likelihood):
    model, batch = trained_for_a_while(project)
    plain = PlainWorldModel.like(model, written_out)
    loss, _ = total_loss(model, batch, Objective(likelihood=likelihood))
    loss.backward()
    same = plain.loss(batch, likelihood)
    same.backward()
    torch.testing.assert_close(same, loss, rtol=1e-5, atol=1e-5)
    gradients = {name: parameter.grad for name, parameter in plain.named_parameters()}
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients.pop(plain_name(name)), parameter.grad, rtol=1e-4, atol=1e-5)
    assert not gradients


def test_the_plain_network_has_weights_of_its_own(project):
    model, _ = trained_for_a_while(project)
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        for parameter in PlainWorldModel.like(model).parameters():
            parameter += 1
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_all_ratios_are_measured_printed_and_written(tmp_path, project, request, capsys):
    found = tmp_path / "bench.json"
    settings = written_params(tmp_path, request)
    bench.main(
        [f"--normalized={project.normalized}", f"--params={settings}", f"--json={found}", "--rounds=2", "--steps=3"]
    )
    ratios, printed = json.loads(found.read_text())["ratios"], capsys.readouterr().out
    assert set(ratios) == {
        *("whole/bare", "steps/bare", "whole/unfused", "whole/plain", "flops/64", "flops/256"),
        *("checkpoints", "portable/fast"),
    }
    for name, ratio in ratios.items():
        assert f"\n{name} " in printed
        assert len(ratio["rounds"]) == 2
        assert all(math.isfinite(value) and value > 0 for value in (ratio["median"], *ratio["quartiles"]))


def test_the_other_numerics_have_a_process_of_their_own(project, monkeypatch):
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")  # which would hold there too, if it were passed on
    with other(project.normalized, project.settings, 2, "processor") as elsewhere:
        assert project.settings.numerics == "portable"
        assert elsewhere.processor != "DEFAULT"
        assert 0 < elsewhere.seconds() != elsewhere.seconds() > 0


def test_a_process_that_ends_is_told(tmp_path, project, capfd):
    expected = "the process under the other numerics has ended; what it said stands above"
    with pytest.raises(ValueError, match=expected), other(tmp_path / "none", project.settings, 2, "wall"):
        pass
    assert "none: not packed episodes" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("step", "checkpoint", "between"),
    [(0.01, 0.02, 5), (0.1, 0.02, 10), (0.01, 0.2, 20)],
    ids=["500 steps", "10 s", "no more than a hundredth"],
)
def test_checkpoints_cost_what_one_takes_over_what_lies_between_two(step, checkpoint, between):
    found = bench.share_in_checkpoints(np.array([step]), np.array([checkpoint]))
    assert found == pytest.approx(checkpoint / (between + checkpoint))


def test_flops_are_two_for_each_multiply_add_forward_and_for_each_gradient(project):
    data, settings = project.read_packed(), project.settings
    model = train.initial_model(data.packed, settings, CPU)
    small, large = (flops(model, batch_of(data, settings, size, CPU)) for size in (8, 16))
    assert large == 2 * small
    uses = {"encoder.gru": settings.history, "encoder.head": 1}
    forward = (
        2
        * 8
        * sum(
            parameter.numel() * uses.get(name.rpartition(".")[0], settings.horizon)
            for name, parameter in model.named_parameters()
            if parameter.ndim == 2
        )
    )
    # Weights have a gradient at every use; the inputs of some are data, or detached.
    assert 2 * forward < small < 3 * forward


@pytest.mark.parametrize("steps", [1, 19, 45, 60])
def test_looks_at_val_windows_are_counted_as_training_takes_them(tmp_path, steps):
    project = make_project(tmp_path, steps=steps, batch_size=1)
    project.train()
    losses = (project.plots / "loss.csv").read_text().splitlines()
    assert bench.looks(steps) == 1 + sum(",val," in line for line in losses)


def test_missing_data_are_a_message(tmp_path, request):
    with pytest.raises(ValueError, match=r"not packed episodes .* make them with `dvc repro normalize`"):
        bench.main(["--normalized", str(tmp_path / "none"), "--params", str(written_params(tmp_path, request))])


@pytest.mark.parametrize("fields", [{"encoder": "mlp"}, {"kl_weight": 0.1}, {"contrastive_weight": 0.1}])
def test_what_the_plain_network_cannot_be_compared_with_is_refused(project, tmp_path, fields):
    settings = params.Train(**(vars(project.settings) | fields))
    with pytest.raises(ValueError, match=r"measure with train\.encoder: gru"):
        bench.bench(project.normalized, settings, rounds=1, steps=1, folder=tmp_path)


@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_rounds_and_steps_are_whole_numbers_of_at_least_one(value, capsys):
    with pytest.raises(SystemExit):
        bench.main([f"--rounds={value}"])
    assert "expected a whole number of at least 1" in capsys.readouterr().err
