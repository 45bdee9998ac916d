import json

import pytest

from copies import ROOT
from factories import STAGES
from scratch import Scratch
from worldmodel.ci.gates import GATES, Gates, judge, read_gates
from worldmodel.ci.revisions import METRICS
from worldmodel.core.fingerprint import stage_code
from worldmodel.core.yaml12 import leaves

BETTER = {"lower": ["mse"], "higher": ["likelihood", "mse.count"]}


def outcome(gate, found, base):
    (only,) = judge(Gates(BETTER, [gate]), found, base)
    return only


@pytest.mark.parametrize(
    ("gate", "found", "base", "holds", "expected"),
    [
        ({"metric": "mse.mean", "tolerance": 0.1}, 1.1, 1.0, True, "at most 1.1 (10 % above 1)"),
        ({"metric": "mse.mean", "tolerance": 0.1}, 1.11, 1.0, False, "at most 1.1 (10 % above 1)"),
        ({"metric": "likelihood", "tolerance": 0.1}, 0.95, 1.0, True, "at least 0.9 (10 % below 1)"),
        ({"metric": "likelihood", "tolerance": 0.1}, 0.89, 1.0, False, "at least 0.9 (10 % below 1)"),
        ({"metric": "likelihood", "tolerance": 0.1}, -1.05, -1.0, True, "at least -1.1 (10 % below -1)"),
        ({"metric": "other", "min": 0.5, "max": 0.9}, 0.95, None, False, "at least 0.5 and at most 0.9"),
        ({"metric": "other", "min": 0.5, "max": 0.9}, 0.9, None, True, "at least 0.5 and at most 0.9"),
        ({"metric": "mse.mean", "tolerance": 0.1, "max": 1.05}, 1.08, 1.0, False, "at most 1.05 and at most 1.1 (10 %"),
        ({"metric": "mse.mean", "tolerance": 0.1}, 9.0, None, True, "no more than 10 % worse than the base, which has"),
        ({"metric": "mse.mean", "tolerance": 0.1}, None, 1.0, False, "at most 1.1"),
    ],
)
def test_a_gate_holds_within_its_tolerance_and_its_bounds(gate, found, base, holds, expected):
    name = gate["metric"]
    said = outcome(gate, {} if found is None else {name: found}, {} if base is None else {name: base})
    assert said.holds == holds
    assert said.expected.startswith(expected)


def test_the_longest_name_says_which_way_a_metric_gets_better():
    gates = Gates(BETTER, [])
    found = [gates.direction(name) for name in ("mse", "mse.h1", "mse.count", "msed")]
    assert found == ["lower", "lower", "higher", None]


def test_the_projects_gates_speak_of_metrics_that_are_there():
    metrics = dict(leaves(json.loads((ROOT / METRICS).read_text(encoding="utf-8"))))
    assert {gate.metric for gate in read_gates(ROOT / GATES).gates} <= set(metrics)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("better: {}\ngates: [{metric: a}]", r"gates\.0 \(a\): expected a tolerance, a min or a max"),
        ("better: {}\ngates: [{metric: a, tolerance: 0.1}]", "a tolerance, and `better` does not say which way"),
        ("better: {down: [a]}\ngates: []", r"better\.down.*found 'down'.*'lower' or 'higher'"),
        ("better: {}\ngates: [{metric: a, mni: 1}]", r"gates\.0\.mni: found 1"),
        (
            "better: {}\ngates: [{metric: a, tolerance: -1}]",
            r"gates\.0\.tolerance: found -1: .* greater than or equal to 0",
        ),
        ("[", "not YAML"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path, text, said):
    path = tmp_path / "gates.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        read_gates(path)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Metrics on main, and no DVC that would be asked."""
    made = Scratch(tmp_path_factory.mktemp("gate") / "project")
    made.set_metrics(mse={"mean": 0.2}, skill=0.8)
    made.commit()
    return made


def test_make_gate_fails_and_says_which_what_was_found_and_what_was_expected(measured):
    measured.set_metrics(mse={"mean": 0.4}, skill=0.8)
    done = measured.review("gate", "--base", "main")
    assert done.returncode == 1
    assert "BROKEN  mse.mean: found 0.4, expected at most 0.3 (50 % above 0.2)" in done.stdout
    assert "holds   skill: found 0.8, expected at least 0.3" in done.stdout
    assert done.stderr == "error: gates broken: mse.mean; better the metrics, or change gates.yaml and say why\n"


def test_a_bound_holds_without_a_base_and_a_metric_that_is_gone_breaks_it(measured):
    measured.set_metrics(mse={"mean": 0.4}, skill=0.8)
    assert measured.review("gate", "--base", "").returncode == 0
    measured.set_metrics(mse={"mean": 0.2})
    done = measured.review("gate", "--base", "")
    assert done.returncode == 1
    assert "BROKEN  skill: found none, expected at least 0.3" in done.stdout


@pytest.mark.parametrize(
    ("base", "metrics", "said"),
    [
        (
            "mian",
            '{"skill": 1}',
            "error: BASE: found 'mian', expected a branch or commit, or BASE= for none; `git rev-",
        ),
        ("main", None, "error: artifacts/metrics.json: no metrics there; run `dvc repro` first"),
        ("main", "{", "error: artifacts/metrics.json: cannot be read: Expecting property name"),
    ],
)
def test_what_cannot_be_judged_is_an_error_in_one_line(measured, base, metrics, said):
    measured.write("artifacts/metrics.json", metrics or "")
    if metrics is None:
        (measured.folder / "artifacts/metrics.json").unlink()
    done = measured.review("gate", "--base", base)
    assert done.returncode == 1
    assert done.stderr.startswith(said)
    assert len(done.stderr.splitlines()) == 1


def test_what_judges_results_changes_none():
    assert not [name for stage in STAGES for name in stage_code(stage) if name.startswith("worldmodel/ci/")]
