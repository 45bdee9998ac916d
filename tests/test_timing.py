import json

from worldmodel.core.timing import record


def test_one_part_is_replaced_and_the_other_stays(tmp_path):
    path = tmp_path / "artifacts" / "timing.json"
    record(path, "train", "aaa", {"ms_per_batch": 1 / 3})
    record(path, "inference", "bbb", {"latency_ms_p50": 2.0})
    record(path, "train", "ccc", {"ms_per_batch": 4.0})
    assert json.loads(path.read_text()) == {
        "train": {"of": "ccc", "ms_per_batch": 4.0},
        "inference": {"of": "bbb", "latency_ms_p50": 2.0},
    }


def test_numbers_have_six_digits_and_keys_are_sorted(tmp_path):
    path = tmp_path / "timing.json"
    record(path, "train", "aaa", {"z": 1 / 3, "a": 1.0})
    record(path, "inference", "aaa", {})
    text = path.read_text()
    assert "0.333333\n" in text
    assert text.index('"inference"') < text.index('"train"') < text.index('"z"')
    assert text.index('"a"') < text.index('"z"')


def test_a_torn_file_is_begun_anew(tmp_path):
    path = tmp_path / "timing.json"
    path.write_text('{"train": {')
    record(path, "inference", "bbb", {"latency_ms_p50": 2.0})
    assert json.loads(path.read_text()) == {"inference": {"of": "bbb", "latency_ms_p50": 2.0}}
