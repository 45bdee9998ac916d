import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factories import make_episodes
from worldmodel.episodes.frame import Frame
from worldmodel.episodes.schema import ActionSpace, identity_of, origin_of

GOOD = {"agent_id": "a", "timestamp": 1690000000, "features": [0.1, 2]}


def nested(levels):
    return json.loads("[" * levels + "]" * levels)


thorough = settings(deadline=None, derandomize=True, max_examples=60)
float32s = st.floats(width=32, allow_nan=False, allow_infinity=False)
vectors = st.lists(float32s, min_size=1, max_size=4)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), min_size=1, max_size=8)
json_frames = st.fixed_dictionaries(
    {"agent_id": texts, "timestamp": st.floats(allow_nan=False, allow_infinity=False), "features": vectors},
    optional={
        "action": st.integers(0, 4095) | vectors,
        "reward": float32s,
        "meta": st.fixed_dictionaries({}, optional={"episode": st.integers() | texts, "env": texts}),
    },
)


@thorough
@given(json_frames)
def test_a_frame_survives_json_exactly(found):
    frame = Frame.parse(found)
    assert Frame.parse(json.loads(json.dumps(frame.to_json()))) == frame


def test_json_of_a_frame_has_the_shortest_digits_that_name_the_float32():
    frame = Frame.parse(GOOD | {"action": [0.1], "reward": 1e-45})
    assert json.dumps(frame.to_json()["features"] + frame.to_json()["action"]) == "[0.1, 2.0, 0.1]"
    assert frame.to_json()["reward"] == 1e-45


def test_json_of_a_frame_has_one_order_and_no_key_without_a_value():
    full = Frame.parse({"meta": {"x": 1}, "reward": 0, "action": 3, **GOOD})
    assert list(full.to_json()) == ["agent_id", "timestamp", "features", "action", "reward", "meta"]
    assert list(Frame.parse(GOOD).to_json()) == ["agent_id", "timestamp", "features"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"agent_id": ""}, 'agent_id: found "", expected non-empty text'),
        ({"agent_id": 7}, "agent_id: found 7, expected non-empty text"),
        ({"agent_id": "a\nb"}, r'agent_id: found "a\nb", expected non-empty text of at most 256 characters, none of'),
        (
            {"agent_id": "a" * 10_000},
            f'agent_id: found "{"a" * 56}..., expected non-empty text of at most 256 characters',
        ),
        ({"x\n" * 40: 1}, f'"{"x" + chr(92) + "n"}'),
        ({"meta": {"a": nested(32)}}, "meta: nested too deeply, expected at most 32 levels"),
        ({"agent_id": "\ud800"}, r'agent_id: found "\ud800", expected non-empty text'),
        ({"timestamp": "1690000000"}, 'timestamp: found "1690000000", expected finite seconds'),
        ({"timestamp": True}, "timestamp: found true, expected finite seconds"),
        ({"timestamp": float("inf")}, "timestamp: found Infinity, expected finite seconds"),
        ({"timestamp": 10**400}, "timestamp: found 1000"),
        ({"features": []}, "features: found a list of 0, expected a non-empty list"),
        ({"features": 0.5}, "features: found 0.5, expected a non-empty list"),
        ({"features": [0.1, float("inf")]}, "features[1]: found Infinity, expected a finite float32 number"),
        ({"context": [None]}, "context[0]: found null, expected a finite float32 number"),
        ({"action": [float("nan")]}, "action[0]: found NaN, expected a finite float32 number"),
        ({"reward": float("nan")}, "reward: found NaN, expected a finite float32 number"),
        ({"meta": {"x": [{"y": float("nan")}]}}, "meta: found NaN, expected finite numbers"),
        ({"features": [True]}, "features[0]: found true, expected a finite float32 number"),
        ({"features": ["0.5"]}, 'features[0]: found "0.5", expected a finite float32 number'),
        ({"features": [[0.1]]}, "features[0]: found a list of 1, expected a finite float32 number"),
        ({"features": [1e39]}, "features[0]: found 1e+39, expected a finite float32 number"),
        ({"features": {"x": 1}}, "features: found an object, expected a non-empty list"),
        ({"action": -1}, "action: found -1, expected an integer from 0 to 4095"),
        ({"action": 4096}, "action: found 4096, expected an integer from 0 to 4095"),
        ({"action": 1.5}, "action: found 1.5, expected an integer"),
        ({"action": True}, "action: found true, expected an integer"),
        ({"action": None}, "action: found null, expected an integer"),
        ({"action": []}, "action: found a list of 0, expected an integer"),
        ({"action": [1, "2"]}, 'action[1]: found "2", expected a finite float32 number'),
        ({"reward": None}, "reward: found null, expected a finite float32 number, or no such key"),
        ({"reward": -1e39}, "reward: found -1e+39, expected a finite float32 number"),
        ({"meta": None}, "meta: found null, expected an object"),
        ({"meta": {"episode": 1.5}}, "meta.episode: found 1.5, expected an integer or non-empty text of at most 256"),
        (
            {"meta": {"episode": False}},
            "meta.episode: found false, expected an integer or non-empty text of at most 256",
        ),
        ({"meta": {"episode_segment": -1}}, "meta.episode_segment: found -1, expected an integer >= 0"),
        ({"meta": {"source": "Dream"}}, 'meta.source: found "Dream", expected observed or dream'),
        ({"meta": {"split": "eval"}}, 'meta.split: found "eval", expected train, val or test'),
        ({"meta": {"terminal": 1}}, "meta.terminal: found 1, expected true or false"),
        ({"meta": {"source": "dream", "split": "test"}}, 'meta.split: found "test", expected train'),
        ({"actions": 3}, "actions: unknown field, expected only agent_id, timestamp, features"),
    ],
)
def test_a_bad_frame_is_refused_by_field_found_and_expected(change, reason):
    with pytest.raises(ValueError, match="^" + re.escape(reason)):
        Frame.parse(GOOD | change)


def test_what_is_odd_but_harmless_is_accepted():
    for key, value in (
        *[("agent_id", name) for name in ("../../a", "/etc/a b", "a" * 256)],
        ("meta", {"a": nested(31)}),
    ):
        assert getattr(Frame.parse(GOOD | {key: value}), key) == value


def test_a_frame_without_a_needed_field_is_refused():
    for field in GOOD:
        with pytest.raises(ValueError, match=f"^{field}: missing, expected"):
            Frame.parse({key: value for key, value in GOOD.items() if key != field})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"features": np.zeros((5, 2), np.float16)}, r"features is float16 \[5, 2\], expected float32"),
        (
            {"features": np.zeros((4, 2), np.float32)},
            r"features is float32 \[4, 2\], expected float32 \[5, 1 or more\]",
        ),
        ({"features": np.full((5, 2), np.inf, np.float32)}, "features holds infinity"),
        ({"rewards": np.full(5, np.nan, np.float32)}, "rewards holds NaN or infinity"),
        ({"actions": np.zeros(5, np.int32)}, r"actions is int32 \[5\], expected int64 \[5\]"),
        ({"actions": -np.ones(5, np.int64)}, "actions hold -1, expected integers >= 0"),
        ({"rewards": np.zeros((5, 1), np.float32)}, r"rewards is float32 \[5, 1\], expected float32 \[5\]"),
        ({"timestamps": np.zeros(5)}, "timestamps stand still or run backwards"),
        ({"confidence": np.ones(5, np.float32)}, "an observed episode has provenance or confidence"),
        ({"provenance": {"teacher": "t"}}, "an observed episode has provenance or confidence"),
        ({"source": "dream", "split": "test"}, "split is test, expected train"),
        ({"source": "dream", "confidence": np.full(5, 2, np.float32)}, "confidence leaves 0..1"),
        ({"source": "dream", "provenance": {"split": "train"}}, "keys that no frame has"),
    ],
)
def test_an_episode_refuses_arrays_that_do_not_fit(change, reason):
    good = make_episodes(1, 5)[0]
    with pytest.raises(ValueError, match="episode 'observed-0' of agent 'agent-0': .*" + reason):
        replace(good, **change)


def test_pieces_of_an_episode_share_its_identity():
    first, second = make_episodes(1, 3)[0], make_episodes(1, 3, segment=1)[0]
    assert first.identity == second.identity == '["agent-0","observed-0"]'
    assert identity_of("a", "b,c") != identity_of("a,b", "c")


def test_actions_are_encoded_one_hot_as_they_are_or_not_at_all():
    one_hot = ActionSpace("discrete", 3).encode(np.array([2, 0], np.int64))
    assert one_hot.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert one_hot.dtype == np.float32
    vectors = np.array([[0.5, -1]], np.float32)
    assert np.array_equal(ActionSpace("continuous", 2).encode(vectors), vectors)
    assert ActionSpace("none", 0).encode(None) is None


def test_actions_of_another_space_are_refused():
    for space, actions in (
        (ActionSpace("none", 0), np.zeros(2, np.int64)),
        *((ActionSpace("discrete", 3), actions) for actions in (None, np.array([3]), np.array([-1]))),
        (ActionSpace("continuous", 3), np.zeros((2, 2), np.float32)),
    ):
        with pytest.raises(ValueError, match=f"expected {space.kind} actions of size {space.size}"):
            space.encode(actions)


def test_decoding_is_the_inverse_of_encoding():
    for kind in ("discrete", "continuous"):
        space, actions = ActionSpace(kind, 3), make_episodes(1, 7, kind=kind)[0].actions
        decoded = space.decode(space.encode(actions))
        assert decoded.dtype == actions.dtype
        assert np.array_equal(decoded, actions)


def test_an_observed_episode_begins_in_itself_and_a_dream_where_it_says():
    assert origin_of("a", "b", 2, "observed", None) == ('["a","b",2]', 0)
    for start, origin in (
        (None, ("", 0)),
        ({"agent_id": "c", "episode": 7}, ('["c","7",0]', 0)),
        ({"agent_id": "c", "episode": "d", "segment": 1, "frame": 5}, ('["c","d",1]', 5)),
    ):
        assert origin_of("a", "b", 2, "dream", start) == origin
