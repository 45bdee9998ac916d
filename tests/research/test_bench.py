import json

import numpy as np
import pytest
import torch
import yaml

from factories import make_train
from projects import Project, make_project
from research import bench
from research.bench import batch_of, evaluations, flops, other_numerics
from research.unfused import Unfused
from worldmodel.core import params
from worldmodel.model.objective import Objective, total_loss
from worldmodel.model.selection import DAMPINGS
from worldmodel.stages import train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("bench"), encoder="gru")


def trained_for_a_while(project: Project):
    """A model whose every parameter matters, and a batch with windows that end early."""
    data, settings = project.read_packed(), project.settings
    model = train.initial_model(data.packed, settings, CPU)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    batch = batch_of(data, settings, settings.batch_size, CPU)
    batch.weight[0, 1:] = 0
    return model, batch


@pytest.mark.parametrize("fields", [{}, {"z_dim": 4}, {"history": 1}], ids=["whole", "narrow", "no-past"])
@pytest.mark.parametrize("likelihood", [False, True])
def test_without_fused_kernels_loss_and_gradients_are_the_same(tmp_path, fields, likelihood):
    model, batch = trained_for_a_while(make_project(tmp_path, encoder="gru", **fields))
    unfused = Unfused(model)
    loss, _ = total_loss(model, batch, Objective(likelihood=likelihood))
    loss.backward()
    same = unfused.loss(batch, likelihood)
    same.backward()
    torch.testing.assert_close(same, loss, rtol=1e-5, atol=1e-5)
    for own, parameter in zip(unfused.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(own.grad, parameter.grad, rtol=1e-4, atol=1e-5)
    assert not {type(module) for module in unfused.modules()} & {torch.nn.GRU, torch.nn.LayerNorm, torch.nn.SiLU}


def test_it_has_weights_of_its_own(project):
    model, batch = trained_for_a_while(project)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    unfused = Unfused(model)
    unfused.update(unfused.new_optimizer(0.1), batch, False)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_all_ratios_are_measured_printed_and_written(tmp_path, project, request, monkeypatch, capsys):
    values = yaml.safe_load((request.config.rootpath / "params.yaml").read_text())
    values["train"] = vars(make_train(encoder="gru"))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(tmp_path)
    arguments = ["--normalized", str(project.normalized), "--json", "bench.json", "--rounds", "2", "--steps", "3"]
    bench.command.main(arguments, standalone_mode=False)
    written, printed = json.loads((tmp_path / "bench.json").read_text()), capsys.readouterr().out
    usual = values["train"]["batch_size"]
    names = ["whole/bare", "steps/bare", "whole/unfused", f"flops/{usual}", "flops/256", "checkpoints", "portable/fast"]
    names += ["plans/16", "plans/3", "call", "decision", "environments"]
    assert list(written["ratios"]) == names
    for name, rounds in written["ratios"].items():
        assert f"\n{name} " in printed
        assert len(rounds) == 2
        assert min(rounds) > 0


def test_the_other_numerics_have_a_process_of_their_own(project, monkeypatch):
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")  # which would hold there too, if it were passed on
    with other_numerics(project.normalized, project.settings, 2, "processor") as (seconds, processor):
        assert project.settings.numerics == "portable"
        assert processor != "DEFAULT"
        assert 0 < seconds() != seconds() > 0


@pytest.mark.parametrize(
    ("step", "checkpoint", "between"),
    [(0.01, 0.02, 5), (0.1, 0.02, 10), (0.01, 0.2, 20)],
    ids=["500 steps", "10 s", "no more than a hundredth"],
)
def test_checkpoints_cost_what_one_takes_over_what_lies_between_two(step, checkpoint, between):
    share = bench.share_in_checkpoints(np.array([step]), np.array([checkpoint]))
    assert share == pytest.approx(checkpoint / (between + checkpoint))


def test_flops_are_two_for_each_multiply_add_forward_and_for_each_gradient(project):
    data, settings = project.read_packed(), project.settings
    model = train.initial_model(data.packed, settings, CPU)
    small, large = (flops(model, batch_of(data, settings, size, CPU)) for size in (8, 16))
    assert large == 2 * small
    uses = {"encoder.gru": settings.history, "encoder.head": 1}
    matrices = ((name, each) for name, each in model.named_parameters() if each.ndim == 2)
    calls = sum(each.numel() * uses.get(name.rpartition(".")[0], settings.horizon) for name, each in matrices)
    forward = 2 * 8 * calls
    # Weights have a gradient at every use; the inputs of some are data, or detached.
    assert 2 * forward < small < 3 * forward


def test_evaluations_are_counted_as_training_takes_them(tmp_path):
    for steps in (1, 19, 45, 60):
        project = make_project(tmp_path / f"{steps}", steps=steps, batch_size=1)
        project.train()
        losses = (project.plots / "loss.csv").read_text().splitlines()
        assert evaluations(steps) == 1 + sum(",val," in line for line in losses) + len(DAMPINGS)


def test_what_cannot_be_measured_is_refused(project, tmp_path):
    for fields in ({"encoder": "mlp"}, {"kl_weight": 0.1}, {"contrastive_weight": 0.1}):
        settings = params.Train(**(vars(project.settings) | fields))
        with pytest.raises(ValueError, match=r"measure with train\.encoder: gru"):
            bench.bench(project.normalized, settings, 1, 1, tmp_path, "wall")
    with pytest.raises(ValueError, match=r"manifest.json: no such file; run `dvc repro normalize`"):
        bench.bench(tmp_path / "none", project.settings, 1, 1, tmp_path, "wall")
