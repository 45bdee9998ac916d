import json
import time

import numpy as np
import pytest
import torch
import yaml

from copies import tiny_params
from factories import make_episodes, make_packed, make_train, write_logs
from research.peers import compare
from research.peers.admpo import Admpo
from research.peers.fitting import errors, train_peer
from research.peers.measuring import PEERS
from research.peers.peer import new_peer
from worldmodel.arrays.mixing import Mixture
from worldmodel.arrays.windows import windows
from worldmodel.model.baselines import persistence
from worldmodel.model.optimization import learning_rate
from worldmodel.model.tensors import to_device

CPU = torch.device("cpu")
HISTORY, HORIZON = 3, 4


def linear_system(**fields):
    """Packed episodes of a linear system, the last third held out."""
    episodes = make_episodes(12, 30, **fields)
    return make_packed(episodes, ["train"] * 8 + ["val"] * 4)


def trained(kind, packed, updates, seed=0):
    episodes = packed.where("train")
    lengths = (1, 1) if kind.single_transitions else (HISTORY, HORIZON)
    observed, none = windows(packed, episodes, *lengths), windows(packed, episodes[:0], *lengths)
    mixture = Mixture(observed, none, kind.batch_size, np.zeros(updates), seed, confidence=False)
    peer = new_peer(kind, packed, episodes, seed, HISTORY, HORIZON)
    for t in range(updates):
        peer.update(to_device(mixture.batch(t), CPU), learning_rate(t, updates, 1.0))
    return peer


def held_out(packed):
    return windows(packed, packed.where("val"), HISTORY, HORIZON)


def hold(batch):
    return torch.from_numpy(persistence(batch.history[:, -1].numpy(), HORIZON))


@pytest.fixture(params=PEERS.values(), ids=PEERS)
def kind(request):
    return request.param


def test_it_learns_a_linear_system(kind):
    packed = linear_system()
    unseen = held_out(packed)
    assert errors(trained(kind, packed, 160).predict, unseen)["mean"] < 0.5 * errors(hold, unseen)["mean"]


def test_a_later_action_changes_no_earlier_prediction(kind):
    packed = linear_system()
    peer, batch = trained(kind, packed, 3), to_device(held_out(packed).take(np.arange(5)), CPU)
    other = batch.planned_actions.clone()
    other[:, 2] += 1
    with torch.no_grad():
        before, after = peer.predict(batch), peer.predict(batch._replace(planned_actions=other))
    torch.testing.assert_close(after[:, :2], before[:, :2])
    assert not torch.allclose(after[:, 2], before[:, 2], atol=1e-5)


def test_a_prediction_sees_nothing_of_what_came(kind):
    packed = linear_system()
    peer, batch = trained(kind, packed, 1), to_device(held_out(packed).take(np.arange(5)), CPU)
    with torch.no_grad():
        told = peer.predict(batch)
        untold = peer.predict(batch._replace(features=torch.full_like(batch.features, torch.nan), rewards=None))
    torch.testing.assert_close(untold, told)


def test_the_same_seed_and_updates_give_the_same_bits(kind):
    packed = linear_system()
    one, same, other = (trained(kind, packed, 3, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("fields", [{"kind": "discrete"}, {"kind": "none", "actions": 0}], ids=["discrete", "none"])
def test_it_takes_logs_of_other_actions_and_without_rewards(kind, fields):
    packed = linear_system(rewards=False, **fields)
    error = errors(trained(kind, packed, 2).predict, held_out(packed))
    assert np.isfinite(list(error.values())).all()


def test_the_command_measures_the_models_named_beside_both_floors(tmp_path, capsys):
    write_logs(tmp_path / "logs", make_episodes(24, 40, noise=0.05))
    arguments = ["--logs", str(tmp_path / "logs"), "--train-episodes", "6", "--seconds", "0.5"]
    compare.main([*arguments, "--models", "admpo,pets", "--json", str(tmp_path / "peers.json")])
    measured = json.loads((tmp_path / "peers.json").read_text(encoding="utf-8"))
    rows = measured["models"]
    assert [row["model"] for row in rows] == ["hold-last", "ridge", "admpo", "pets"]
    assert measured["train_episodes"] == 6
    assert rows[1]["test"]["mean"] < rows[0]["test"]["mean"]
    assert all(set(row["val"]) == {"mean", "h1", "h8", "h16"} for row in rows)
    assert f"| pets | {rows[-1]['test']['mean']:.4f} |" in capsys.readouterr().out


def test_peers_take_as_long_as_ours_took(tmp_path):
    write_logs(tmp_path, make_episodes(24, 40, noise=0.05))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tiny_params()), encoding="utf-8")
    arguments = ["--logs", str(tmp_path / "log.jsonl"), "--train-episodes", "6", "--models", "admpo,ours"]
    compare.main([*arguments, "--params", str(tmp_path / "params.yaml"), "--json", str(tmp_path / "peers.json")])
    rows = json.loads((tmp_path / "peers.json").read_text(encoding="utf-8"))["models"]
    assert [row["model"] for row in rows] == ["hold-last", "ridge", "ours", "admpo"]
    ours, peer = rows[2:]
    assert ours["updates"] == tiny_params()["train"]["steps"]
    assert 0 < ours["seconds"] <= peer["seconds"] < ours["seconds"] + 0.5
    assert ours["test"]["mean"] < rows[0]["test"]["mean"]


def test_without_ours_the_seconds_have_to_be_told(tmp_path, capsys):
    with pytest.raises(SystemExit):
        compare.main(["--logs", str(tmp_path), "--train-episodes", "1", "--models", "pets"])
    assert "--models has no ours, whose seconds the peers get: add it, or say --seconds" in capsys.readouterr().err


def test_a_machine_that_is_busy_elsewhere_costs_no_updates():
    class Waiting(Admpo):
        def update(self, batch, share=1.0):
            time.sleep(0.02)
            super().update(batch, share)

    settings = make_train(history=HISTORY, horizon=HORIZON)
    begin = time.perf_counter()
    trained = train_peer(Waiting, linear_system(), settings, 0.2, 0)
    assert 0.2 <= trained.seconds < 0.4
    assert time.perf_counter() - begin - trained.seconds > 0.9 * 0.02 * trained.updates


def test_an_unknown_model_is_refused_by_name(tmp_path, capsys):
    with pytest.raises(SystemExit):
        compare.main(["--logs", str(tmp_path), "--train-episodes", "1", "--models", "pets,oracle"])
    assert "unknown oracle; expected pets, rwm, admpo, rssm, tdmpc2, ours" in capsys.readouterr().err
