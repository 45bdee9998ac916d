import csv

import numpy as np
import pytest

from test_metrics import LABELS, UNEVEN, scores
from test_scoring import predictors  # noqa: F401
from worldmodel import curves, metrics, scoring
from worldmodel.realism import Realism


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
    ]


def test_frames_that_no_episode_reaches_have_no_row(tmp_path):
    curves.write_horizon(tmp_path / "horizon.csv", scores([[1.0, 2.0, 7.0]], weight=[[1, 1, 0]]))
    assert {row["frame"] for row in rows(tmp_path / "horizon.csv")} == {"1", "2"}


def test_agents_have_one_row_each_worst_first(tmp_path):
    curves.write_agents(tmp_path / "agents.csv", metrics.agents(UNEVEN, LABELS))
    found = rows(tmp_path / "agents.csv")
    assert [tuple(row.values()) for row in found] == [
        ("b", "2", "6", "2", "4", "two", "10"),
        ("a", "1", "3", "2", "4", "one", "3"),
    ]
    floors = ["model", "ridge", "hold-last"]
    assert list(found[0]) == ["agent", "episodes", *floors, "worst_episode", "worst_episode_model"]


@pytest.mark.parametrize(
    ("given", "chosen"), [("a", "a"), ("ab", "ab"), ("abc", "abc"), ("abcd", "acd"), ("abcde", "ace")]
)
def test_the_hardest_a_middling_and_the_easiest_are_chosen(given, chosen):
    assert curves._hard_middling_easy(list(given)) == list(chosen)


def test_trajectories_are_what_was_logged_and_what_the_model_says(variant, predictors, tmp_path):  # noqa: F811
    packed, horizon, history = variant.read_packed().packed, variant.settings.horizon, variant.settings.history
    curves.write_trajectories(
        tmp_path / "predicted.csv", predictors, packed, scoring.score(predictors, variant.held_out())
    )
    found = rows(tmp_path / "predicted.csv")
    tests = {f"{packed.labels.agents[e]} {packed.labels.names[e]}": e for e in packed.where("test")}
    assert {row["episode"] for row in found} == set(tests)
    last = (packed.lengths[0] - history) // horizon * horizon + history
    for name, episode in tests.items():
        logged = variant.scaler.features.inverse(packed.features[packed.rows(episode)])
        for feature in range(2):
            for series in ("real", "predicted"):
                part = [row for row in found if (row["episode"], row["feature"]) == (name, f"feature {feature}")]
                part = [row for row in part if row["series"] == series]
                frames = [int(row["frame"]) for row in part]
                pieces = [0 if series == "real" else (frame - history) // horizon for frame in frames]
                assert [int(row["piece"]) for row in part] == pieces
                assert frames == list(range(history, last))
                shown = np.array([float(row["value"]) for row in part])
                if series == "real":
                    np.testing.assert_allclose(shown, logged[frames, feature], rtol=1e-4, atol=1e-5)
                else:  # a linear system: every prediction is near, and none is the logged number itself
                    np.testing.assert_allclose(shown, logged[frames, feature], atol=0.3)
                    assert (shown != logged[frames, feature]).all()


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
