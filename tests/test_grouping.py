import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lines import GAP, frame, log, named, read, reasons, times
from worldmodel.logs import blocks, grouping
from worldmodel.logs.reader import read_logs
from worldmodel.logs.rejects import by_reason
from worldmodel.logs.rows import parse_line

INNER = [{"timestamp": t, "features": [t, 0.5]} for t in (7, 8)]
CASES = {
    "both kinds of line stand in one file": (
        [named(1, "x"), {"agent_id": "a", "episode": INNER}, named(2, "x"), named(3, "y")],
        [("a", "x", 0, [1, 2]), ("a", "@7.0", 0, [7, 8]), ("a", "y", 0, [3])],
    ),
    "an episode line is one episode whatever its gaps": (
        [{"agent_id": "a", "episode": [frame(0), frame(1000)]}],
        [("a", "@0.0", 0, [0, 1000])],
    ),
    "agents interleave": (
        [frame(t, agent) for t in range(3) for agent in "ba"],
        [("b", "@0.0", 0, [0, 1, 2]), ("a", "@0.0", 0, [0, 1, 2])],
    ),
    "without a name a gap or time running backwards begins an episode": (
        [frame(t) for t in (0, 60, 121, 5, 6)],
        [("a", "@0.0", 0, [0, 60]), ("a", "@121.0", 0, [121]), ("a", "@5.0", 0, [5, 6])],
    ),
    "with a name a gap begins nothing": ([named(0, 3), named(1000, "3")], [("a", "3", 0, [0, 1000])]),
    "a terminal frame ends its episode": (
        [frame(0), frame(1, meta={"terminal": True}), frame(2), frame(3)],
        [("a", "@0.0", 0, [0, 1]), ("a", "@2.0", 0, [2, 3])],
    ),
    "a hole cuts the episode of its agent alone": (
        [named(1, "x"), named(1, "x", "b"), named(2, "x") | {"features": [1]}, named(3, "x"), named(3, "x", "b")],
        [("a", "x", 0, [1]), ("b", "x", 0, [1, 3]), ("a", "x", 1, [3])],
    ),
    "a hole of an unknown agent cuts every open episode": (
        [frame(1), frame(1, "b"), "?", "?", frame(2), frame(2, "b")],
        [(agent, "@1.0", number, [number + 1]) for number in (0, 1) for agent in "ab"],
    ),
    "a hole in an episode line cuts it": (
        [{"agent_id": "a", "episode": [frame(0), frame(1), {}, frame(3)]}],
        [("a", "@0.0", 0, [0, 1]), ("a", "@0.0", 1, [3])],
    ),
    "episodes of one agent whose frames alternate are grouped by name": (
        [*(named(t, name) for t in range(4) for name in "xyz"), named(9, "x")],
        [("a", "x", 0, [0, 1, 2, 3, 9]), *(("a", name, 0, [0, 1, 2, 3]) for name in "yz")],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_where_episodes_begin_and_end(tmp_path, case):
    lines, found = CASES[case]
    assert times(read(log(tmp_path, *lines))) == found


def test_action_t_is_read_with_features_t(tmp_path):
    episode = read(log(tmp_path, *[frame(t, action=t % 3, reward=t / 2) for t in range(5)])).episodes[0]
    assert episode.features[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert episode.actions.tolist() == [0, 1, 2, 0, 1]
    assert episode.rewards.tolist() == [0, 0.5, 1, 1.5, 2]


def test_dreams_say_where_they_come_from(tmp_path):
    first = named(0, "d", source="dream", confidence=0.5, teacher="t", seed=3)
    dream = read(log(tmp_path, first, named(1, "d", source="dream", confidence=0.25))).episodes[0]
    assert dream.source == "dream"
    assert dream.provenance == {"teacher": "t", "seed": 3}
    assert dream.confidence.tolist() == [0.5, 0.25]


def test_a_dream_marked_in_its_first_frame_alone_stays_a_dream_even_behind_a_hole(tmp_path):
    first = named(0, "d", source="dream", teacher="t")
    for lines in ([first, named(1, "d"), "?", named(2, "d")], [first | {"features": []}, named(1, "d"), named(2, "d")]):
        logs = read(log(tmp_path, *lines))
        assert {episode.source for episode in logs.episodes} == {"dream"}
        assert all(episode.provenance == {"teacher": "t"} for episode in logs.episodes)


def test_time_that_runs_backwards_within_a_named_episode_is_refused(tmp_path):
    logs = read(log(tmp_path, named(5, "x"), named(4, "x"), named(6, "x")))
    assert times(logs) == [("a", "x", 0, [5]), ("a", "x", 1, [6])]
    assert reasons(logs) == ["log.jsonl:2: timestamp: found 4.0, expected more than 5.0, the time of the frame before"]


def test_a_hole_leaves_the_split_that_the_first_frame_names_with_both_halves(tmp_path):
    for lines in (
        [named(0, "x", split="test"), "?", named(1, "x")],
        [named(0, "x", split="test"), "?", named(1, "x", split="train")],
        [named(0, "x", split="test") | {"y": 1}, named(1, "x")],
    ):
        assert {episode.split for episode in read(log(tmp_path, *lines)).episodes} == {"test"}


def test_a_dream_frame_without_proper_confidence_is_refused(tmp_path):
    first = named(0, "d", source="dream", confidence=1)
    for meta, reason in (
        ({"confidence": 2}, "meta.confidence: found 2, expected a number from 0 to 1"),
        ({}, "meta.confidence: expected in every frame of a dream, or in none"),
    ):
        logs = read(log(tmp_path, first, named(1, "d", source="dream", **meta)))
        assert reasons(logs)[0].startswith(f"log.jsonl:2: {reason}")


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.lists(st.sampled_from("ab?xyst"), min_size=1, max_size=12))
def test_no_row_is_lost_and_no_transition_crosses_a_hole(tmp_path_factory, choices):
    """Frames carry their line as time and feature: within a piece, an agent's lines must be neighbours."""
    make = {
        "a": lambda t: frame(t),
        "b": lambda t: frame(t, "b"),
        "?": lambda t: "?",
        "x": lambda t: named(t, "x"),
        "y": lambda t: frame(t, features=[None]),
        "s": lambda t: frame(0),
        "t": lambda t: named(t, "x", "b", terminal=True),
    }
    lines = [make[choice](t) for t, choice in enumerate(choices, 1)]
    logs = read(log(tmp_path_factory.mktemp("logs"), *lines))
    holes = {reject.line for reject in logs.rejects}
    owner = [(line["agent_id"], "meta" in line) if isinstance(line, dict) else None for line in lines]
    for episode in logs.episodes:
        for t, after in itertools.pairwise(episode.timestamps.astype(int)):
            if t > 0:
                between = range(t + 1, after)
                own = episode.agent_id, not episode.name.startswith("@")
                assert not [line for line in between if line in holes and owner[line - 1] in (None, own)]
    keys = [(episode.identity, episode.segment) for episode in logs.episodes]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("action", [3, [0.5, -0.5]])
@pytest.mark.parametrize("lacking", [("action",), ("action", "reward"), ("reward",)])
def test_the_last_frame_of_an_episode_may_lack_action_and_reward(tmp_path, action, lacking):
    """As Minari, RLDS and Gymnasium write: one more frame than there are actions."""
    lines = []
    for episode in ("x", "y"):
        lines += [named(t, episode) | {"action": action, "reward": 1.0} for t in range(3)]
        lines.append(named(3, episode, terminal=episode == "y") | {"action": action, "reward": 1.0})
        for field in lacking:
            del lines[-1][field]
    logs = read(log(tmp_path, *lines))
    assert reasons(logs) == []
    for episode, terminal in zip(logs.episodes, (False, True), strict=True):
        assert episode.timestamps.tolist() == [0, 1, 2, 3]
        assert episode.actions[3] == action if isinstance(action, int) else episode.actions[3].tolist() == action
        assert episode.rewards.tolist() == [1, 1, 1, 0.0 if "reward" in lacking else 1.0]
        assert episode.terminal == terminal


def test_in_the_middle_of_an_episode_a_frame_without_action_is_refused_and_cuts_it(tmp_path):
    lines = [named(t, "x") | {"action": 1} for t in range(6)]
    del lines[2]["action"]
    logs = read(log(tmp_path, *lines))
    assert reasons(logs) == ["log.jsonl:3: action: found none, expected an integer as in most rows"]
    assert times(logs) == [("a", "x", 0, [0.0, 1.0]), ("a", "x", 1, [3.0, 4.0, 5.0])]


def test_an_episode_line_may_end_without_an_action_and_a_single_frame_may_not(tmp_path):
    whole = [{"timestamp": t, "features": [0.0, 0.5], "action": [1.0]} for t in range(3)]
    last = {"timestamp": 3, "features": [0.0, 0.5]}
    logs = read(log(tmp_path, {"agent_id": "a", "episode": [*whole, last]}, {"agent_id": "b", "episode": [last]}))
    assert reasons(logs) == ["log.jsonl:2: episode[0]: action: found none, expected 1 numbers as in most rows"]
    assert [episode.length for episode in logs.episodes] == [4]


def test_a_refused_row_cuts_the_episode_that_it_names_or_all_of_its_agent(tmp_path):
    before, behind = ([named(t, name, agent) for agent in "ab" for name in "xy"] for t in (1, 3))
    for bad, cut in (
        (named(2, "x") | {"features": []}, {("a", "x")}),
        (frame(2) | {"features": []}, {("a", "x"), ("a", "y")}),
        ("?", {(agent, name) for agent in "ab" for name in "xy"}),
    ):
        found = times(read(log(tmp_path, *before, bad, *behind)))
        assert {(agent, name) for agent, name, segment, _ in found if segment} == cut, bad


def test_an_episode_that_is_silent_for_long_is_over_wherever_blocks_begin(tmp_path, monkeypatch):
    """So that memory need not hold all episodes of a file; frames of other agents do not count."""
    monkeypatch.setattr(grouping, "SILENCE", 3)
    monkeypatch.setattr(grouping, "LEAST_SILENCE", 3)
    others = [named(t, "of b", "b") for t in range(50)]
    lines = [named(1, "x"), *others[:20], named(2, "y"), named(3, "y"), named(4, "x"), *others[20:]]
    lines += [named(t, "y") for t in range(5, 9)] + [named(9, "x")]
    log(tmp_path, *lines)
    for size in (1, 300, 10**6):
        monkeypatch.setattr(blocks, "BLOCK_BYTES", size)
        found = [each for each in times(read(tmp_path)) if each[0] == "a"]
        assert found == [("a", "x", 0, [1, 4]), ("a", "y", 0, [2, 3, 5, 6, 7, 8]), ("a", "x", 1, [9])]


def test_a_truncated_frame_ends_its_episode_and_is_kept_apart_from_a_terminal_one(tmp_path):
    lines = [frame(0), frame(1, meta={"truncated": True}), frame(2), frame(3, meta={"terminal": True}), frame(4)]
    logs = read(log(tmp_path, *lines, {"agent_id": "b", "episode": [frame(t, "b") for t in (0, 1)] + [
        frame(2, "b", meta={"truncated": True})]}))  # fmt: skip
    assert [(each.terminal, each.truncated) for each in logs.episodes] == [
        (False, True), (True, False), (False, False), (False, True)
    ]  # fmt: skip


def test_context_is_that_of_all_frames_or_none_and_a_last_one_may_lack_it(tmp_path):
    lines = [named(t, "x") | {"action": 1, "context": [t, 0.1]} for t in range(4)]
    del lines[3]["action"], lines[3]["context"]
    logs = read(log(tmp_path, *lines, named(5, "y") | {"action": 0, "context": [1]}))
    assert reasons(logs) == ["log.jsonl:5: context: found 1 numbers, expected 2 numbers as in most rows"]
    (episode,) = logs.episodes
    assert episode.context.dtype == np.float32
    assert episode.context.tolist() == np.float32([[0, 0.1], [1, 0.1], [2, 0.1], [2, 0.1]]).tolist()


@pytest.mark.parametrize("inner", [False, True])
def test_a_row_that_lacks_a_reading_is_refused_by_feature_or_kept(tmp_path, inner):
    rows = [[0, 1], [None, 2], [2, float("nan")], [None, None], [4, 5]]
    lines = [named(t, "x") | {"features": row} for t, row in enumerate(rows)]
    log(tmp_path, *([{"agent_id": "a", "episode": lines}] if inner else lines))
    logs = read(tmp_path)
    end = ": missing (null), expected a number; prepare.missing: mask keeps such rows"
    assert [reject.reason.removeprefix(f"episode[{t}]: ") for t, reject in enumerate(logs.rejects, 1)] == [
        f"features[0]{end}", f"features[1]{end}", f"features[0], features[1]{end}"
    ]  # fmt: skip
    assert by_reason(logs.rejects) == [(f"features[0]{end}", 2), (f"features[1]{end}", 2)]
    assert [each for *_, each in times(logs)] == [[0], [4]]
    (masked,) = read_logs([tmp_path], GAP, missing="mask").episodes
    assert np.array_equal(masked.features, np.array(rows, np.float64), equal_nan=True)


def test_an_agent_that_is_long_silent_is_forgotten_and_begins_anew_whatever_is_read_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr(grouping, "FAR", 40)
    rows = [f'{{"agent_id": "a", "timestamp": {t}, "features": [1], "meta": {{"episode": 0}}}}' for t in range(4)]
    others = [f'{{"agent_id": "{n}", "timestamp": {t}, "features": [1]}}' for n in range(30) for t in range(3)]
    (tmp_path / "log.jsonl").write_text("\n".join([*rows[:2], *others[:39], rows[2], *others[39:], rows[3]]) + "\n")
    found = [(each.agent_id, each.segment, each.length) for each in read_logs([tmp_path], 60.0).episodes]
    assert [each for each in found if each[0] == "a"] == [("a", 0, 3), ("a", 1, 1)]
    assert len(found) == 32
    assembler = grouping.EpisodeAssembler(60.0)
    for number, row in enumerate(others, 1):
        assembler.add(parse_line(number, row.encode())[0])
        assembler._end_far(number)
    assert len(assembler._open) < 20
    assert len(list(assembler.take())) > 10
