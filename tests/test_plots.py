import csv
from dataclasses import replace

import numpy as np
import pytest
import yaml

from scratch import Scratch
from test_metrics import LABELS, UNEVEN, agents, by_feature, scores
from test_scoring import predictors  # noqa: F401
from worldmodel.arrays.affine import Affine, Coded
from worldmodel.core.student_t import half_width
from worldmodel.dreams.realism import Realism
from worldmodel.evaluation import metrics, scoring
from worldmodel.evaluation import plots as curves
from worldmodel.evaluation.reliability import Disagreement, Endings


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_horizon_has_one_row_a_frame_and_predictor(tmp_path):
    curves.write_horizon(tmp_path / "horizon.csv", UNEVEN)
    assert [tuple(row.values()) for row in rows(tmp_path / "horizon.csv")] == [
        ("1", "model", "4"),
        ("2", "model", "6"),
        ("1", "ridge", "2"),
        ("2", "ridge", "2"),
        ("1", "hold-last", "4"),
        ("2", "hold-last", "4"),
        ("1", "mean", "5"),
        ("2", "mean", "5"),
        ("1", "last change", "6"),
        ("2", "last change", "6"),
    ]


def test_agents_have_one_row_each_worst_first(tmp_path):
    curves.write_agents(tmp_path / "agents.csv", agents(UNEVEN))
    found = rows(tmp_path / "agents.csv")
    assert [tuple(row.values()) for row in found] == [
        ("b", "2", "6", "2", "4", "5", "6", "two", "10"),
        ("a", "1", "3", "2", "4", "5", "6", "one", "3"),
    ]
    floors = ["model", "ridge", "hold-last", "mean", "last change"]
    assert list(found[0]) == ["agent", "episodes", *floors, "worst_episode", "worst_episode_model"]


@pytest.mark.dvc
def test_a_name_from_a_log_is_text_in_the_page_that_dvc_draws(tmp_path):
    evil = "</script><script>alert(1)</script><DVC_METRIC_DATA>"
    named = [replace(row, agent_id=f"={evil}", worst=replace(row.worst, name=evil)) for row in agents(UNEVEN)]
    Scratch(tmp_path / "project")
    plots = tmp_path / "project/artifacts/plots"
    curves.write_agents(plots / "agents.csv", named)
    curves.write_episodes(plots / "episodes.csv", [row.worst for row in named])
    place = Scratch.at(tmp_path / "project")
    place.write(
        "dvc.yaml", yaml.safe_dump({"plots": [{f"artifacts/plots/{name}.csv": {}} for name in ("agents", "episodes")]})
    )
    place.run("dvc", "plots", "show", "--out", "page")
    page = place.read("page/index.html")
    assert "&lt;/script>" in page
    assert "<script>alert" not in page
    assert "<DVC_METRIC_DATA>" not in page
    assert rows(plots / "agents.csv")[0]["agent"].startswith("'=")


def test_features_stand_worst_first_beside_their_floors(tmp_path):
    of = {"model": [1.0, 3.0], "linear": [2.0, 4.0], "persistence": [5.0, 6.0], "mean": [7.0, 8.0]}
    of |= {"last_change": [9.0, 3.5], "log_likelihood": [np.nan, -2.0]}
    curves.write_features(tmp_path / "features.csv", by_feature([1.0, 0.5], [0.25, 0], **of))
    assert (tmp_path / "features.csv").read_text().splitlines() == [
        "feature,model,ridge,hold-last,held,mean,last change,skill,likelihood,outside",
        "f1,3,4,6,0.5,8,3.5,0.142857,-2,0",
        "f0,1,2,5,1,7,9,0.5,,0.25",
    ]


def test_coverage_has_every_frame_beside_what_was_asked_for(tmp_path):
    found = scores(np.zeros((2, 3)), covered=[[1, 1, 0.5], [0, 1, 0.5]], weight=[[1, 1, 1], [1, 0, 1]])
    curves.write_coverage(tmp_path / "coverage.csv", found)
    assert [tuple(row.values()) for row in rows(tmp_path / "coverage.csv")] == [
        ("1", "held", "0.5"),
        ("2", "held", "1"),
        ("3", "held", "0.5"),
        ("1", "asked for", "0.9"),
        ("2", "asked for", "0.9"),
        ("3", "asked for", "0.9"),
    ]


def test_episodes_stand_sorted_by_split_agent_and_name(tmp_path):
    tests = metrics.episodes(UNEVEN, LABELS)
    vals = [replace(row, split="val", model=1 / 3) for row in tests]
    curves.write_episodes(tmp_path / "episodes.csv", [*vals, *tests])
    assert (tmp_path / "episodes.csv").read_text().splitlines() == [
        "split,agent_id,episode,windows,model,linear,persistence,mean,last_change",
        "test,a,one,2,3,2,4,5,6",
        "test,b,four,1,2,2,4,5,6",
        "test,b,two,1,10,2,4,5,6",
        "val,a,one,2,0.333333,2,4,5,6",
        "val,b,four,1,0.333333,2,4,5,6",
        "val,b,two,1,0.333333,2,4,5,6",
    ]


def predicted(variant, predictors, folder):  # noqa: F811
    """The rows of the second test episode, and what was logged of it, raw units."""
    packed, held_out = variant.read_packed().packed, variant.held_out()
    episode = metrics.episodes(scoring.score(predictors, held_out), packed.labels)[1]
    curves.write_predicted(folder / "predicted.csv", predictors, held_out, episode)
    found = rows(folder / "predicted.csv")
    assert {(row["agent"], row["episode"]) for row in found} == {(episode.agent_id, episode.name)}
    return found, variant.scaler.features.inverse(packed.features[packed.rows(episode.number)])


def column(found, name):
    return np.array([float(row[name]) for row in found])


def test_real_is_what_was_logged_and_predicted_what_the_model_says_of_it(variant, predictors, tmp_path):  # noqa: F811
    found, logged = predicted(variant, predictors, tmp_path)
    history, horizon = variant.settings.history, variant.settings.horizon
    last = (len(logged) - history) // horizon * horizon + history
    held_out = variant.held_out()
    whole = held_out.at(np.flatnonzero(held_out.episode == held_out.episode[-1])).every(horizon)
    futures = predictors.future(whole.take(np.arange(len(whole))))
    for feature in range(2):
        part = [row for row in found if row["feature"] == f"feature {feature}"]
        frames = [int(row["frame"]) for row in part]
        assert frames == list(range(history, last))
        assert [int(row["piece"]) for row in part] == [(frame - history) // horizon for frame in frames]
        np.testing.assert_allclose(column(part, "real"), logged[frames, feature], rtol=1e-4, atol=1e-5)
        says = futures.features[..., feature].ravel()
        np.testing.assert_allclose(column(part, "predicted"), says, rtol=1e-4, atol=1e-5)
        half = half_width(predictors.model.degrees_of_freedom) * futures.std[..., feature].ravel()
        np.testing.assert_allclose(column(part, "low"), says - half, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(column(part, "high"), says + half, rtol=1e-4, atol=1e-4)


def test_the_worst_predicted_features_are_shown_worst_first(variant, predictors, tmp_path, monkeypatch):  # noqa: F811
    found, _ = predicted(variant, predictors, tmp_path)
    order = list(dict.fromkeys(row["feature"] for row in found))
    scale = dict(zip(("feature 0", "feature 1"), variant.scaler.features.scale, strict=True))
    errors = []
    for name in order:
        part = [row for row in found if row["feature"] == name]
        errors.append(np.square((column(part, "predicted") - column(part, "real")) / scale[name]).mean())
    assert len(errors) == 2
    assert errors[0] >= errors[1]
    monkeypatch.setattr(curves, "SHOWN", 1)
    few, _ = predicted(variant, predictors, tmp_path)
    assert list(dict.fromkeys(row["feature"] for row in few)) == order[:1]


def test_columns_have_their_name_and_unit_or_their_number():
    said = (Coded("speed", "m/s"), Coded("level"), Coded(), Coded("twin"), Coded("twin", "m"))
    five = np.ones(5, np.float32)
    expected = ["speed (m/s)", "level", "feature 2", "twin feature 3", "twin feature 4 (m)"]
    assert curves.names_of(Affine(five, five, said)) == expected
    assert curves.names_of(Affine(five, five), "action")[3] == "action 3"


def test_what_moves_far_from_0_is_shown_from_an_origin_that_is_named():
    name, origin = curves.named_from("x (m)", np.array([np.nan, 5_000_123.2, 5_000_131.9]))
    assert (name, origin) == ("x (m) minus 5000120", 5_000_120)
    for values in ([1.0, 900.0], [7e9, 7e9], [-1.0, 1e-9], [np.nan, np.nan]):
        assert curves.named_from("x", np.array(values)) == ("x", 0)


def test_scores_are_counted_in_bins_and_those_beyond_the_edge_in_the_last_one(tmp_path):
    found = Realism(0.9, {}, real=np.array([-1.01, -0.99, -1.04, -7.0]), dream=np.array([0.98, 9.0, 2.0]))
    curves.write_realism(tmp_path / "realism.csv", found)
    shown = {(row["series"], float(row["score"])): int(row["windows"]) for row in rows(tmp_path / "realism.csv")}
    assert len(shown) == 2 * curves.BINS
    assert {place: count for place, count in shown.items() if count} == {
        ("real", -1.95): 1,
        ("real", -1.05): 2,
        ("real", -0.95): 1,
        ("dreamed", 0.95): 1,
        ("dreamed", 1.95): 2,
    }


def test_what_a_bundle_says_of_itself_has_a_row_a_bin_and_a_header_where_it_says_nothing(tmp_path):
    bins = [(0.05, 0.0, 7), (0.95, 2 / 3, 3)]
    curves.write_termination(tmp_path / "termination.csv", Endings(0.9, 0.1, 0.2, bins))
    curves.write_disagreement(tmp_path / "disagreement.csv", Disagreement(0.9, bins))
    for name, header in (("termination", "predicted,observed"), ("disagreement", "disagreement,error")):
        path = tmp_path / f"{name}.csv"
        assert path.read_text().splitlines() == [f"{header},windows", "0.05,0,7", "0.95,0.666667,3"]
        getattr(curves, f"write_{name}")(path, None)
        assert path.read_text() == f"{header},windows\n"
