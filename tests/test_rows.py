import pytest

from lines import frame, log, named, read, reasons


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON: Expecting property name enclosed in double quotes at column "),
        ('{"agent_id": "a", "timestamp": 1, "features": [NaN, 1]}', "features[0]: missing (null), expected a number"),
        ('{"agent_id": "a", "timestamp": 1, "features": [1, -Infinity]}', "not JSON: found -Infinity, expected finite"),
        ('{"agent_id": "a", "timestamp": NaN, "features": [1, 2]}', "timestamp: found NaN, expected finite seconds"),
        ('{"agent_id": "a", "agent_id": "b"}', "agent_id: stands twice in one object, expected once"),
        ("[" * 10**5, "not readable: nested too deeply"),
        ("3", "frame: found 3, expected an object"),
        (frame("1"), 'timestamp: found "1", expected finite seconds'),
        (frame(1, features=[1]), "features: found 1 numbers, expected 2 as in most rows"),
        (frame(1, action=1), "action: found an integer, expected none as in most rows"),
        (frame(1, reward=1), "reward: found one, expected none as in most rows"),
        (frame(1, action=[1, 2]), "action: found 2 numbers, expected none as in most rows"),
        ({"episode": [frame(1)]}, "agent_id: found null, expected non-empty text"),
        ({"agent_id": "a", "episode": []}, "episode: found a list of 0, expected a non-empty list of frames"),
        ({"agent_id": "a", "episode": [frame(1)], "id": 1}, "id: unknown field, expected only agent_id, episode"),
        ({"agent_id": "a", "episode": [frame(1, "b")]}, 'episode[0]: agent_id: found "b", expected "a"'),
        ({"agent_id": "a", "episode": [frame(1), 5]}, "episode[1]: frame: found 5, expected an object"),
        (
            {"agent_id": "a", "episode": [frame(1), frame(1)]},
            "episode[1]: timestamp: found 1.0, expected more than 1.0",
        ),
        (
            {"agent_id": "a", "episode": [named(1, "x"), named(2, "y")]},
            'episode[1]: meta.episode: found "y", expected x',
        ),
        (frame(0), "timestamp: found 0.0, expected more than 0.0, the time of the frame before"),
    ],
)
def test_a_bad_row_is_named_by_file_line_and_reason(tmp_path, line, reason):
    logs = read(log(tmp_path, "", frame(0), line, frame(2), frame(3)))
    assert len(logs.rejects) == 1
    assert reasons(logs)[0].startswith(f"log.jsonl:3: {reason}")
