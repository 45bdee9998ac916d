import pytest

from worldmodel.evaluation import latency


def test_times_are_positive_and_in_order(variant):
    found = latency.measure(variant.client(), variant.scaler, variant.held_out(), calls=5)
    assert set(found) == {"latency_ms_p50", "latency_ms_p90", "ms_per_batch", "samples_per_s"}
    assert 0 < found["latency_ms_p50"] <= found["latency_ms_p90"]
    assert found["samples_per_s"] * found["ms_per_batch"] == pytest.approx(64e3)


def test_only_calls_after_the_warm_up_are_counted(project):
    assert len(latency._seconds(project.client(), project.scaler, project.held_out(), 1, 7)) == 7
