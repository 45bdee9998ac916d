"""Files of other formats, written by their own libraries or as they document it, come back bit for bit."""

import json
import re
import shutil
import struct
from dataclasses import replace

import fsspec
import gymnasium as gym
import h5py
import minari
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from mcap.writer import Writer
from mcap_protobuf.writer import Writer as ProtobufWriter
from mcap_ros2.writer import Writer as Ros2Writer
from pyulog import ULog

from commands import call
from factories import write_logs
from worldmodel.episodes.columns import Column, Columns
from worldmodel.logs.reader import read_logs
from worldmodel.readers.field_map import FieldMap
from worldmodel.readers.source import FORMATS, open_source

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")  # who recorded it is no matter here
RNG = np.random.default_rng(0)
LENGTHS = (5, 3, 4)
X = [RNG.normal(size=(length, 3)).astype(np.float32) for length in LENGTHS]
A = [RNG.normal(size=(length, 2)).astype(np.float32) for length in LENGTHS]
R = [RNG.normal(size=length).astype(np.float32) for length in LENGTHS]
ENDS = (True, False, True)  # whether the task ended


def minari_folder(folder, observe=lambda x: x, space=None, act=lambda a: a, actions=None):
    """Written by minari; T actions lead through T+1 observations."""
    buffers = []
    for x, a, r, end in zip(X, A, R, ENDS, strict=True):
        last = np.arange(len(r) - 1) == len(r) - 2
        done = {"terminations": last & end, "truncations": last & (not end)}
        buffers.append(
            minari.data_collector.EpisodeBuffer(
                observations=observe(x), actions=act(a[:-1]), rewards=r[:-1].astype(np.float64), **done
            )
        )
    minari.create_dataset_from_buffers(
        f"{folder.name}-v0",
        buffers,
        observation_space=space or gym.spaces.Box(-9, 9, (3,), np.float32),
        action_space=actions or gym.spaces.Box(-9, 9, (2,), np.float32),
    )
    return folder.parent / f"{folder.name}-v0"


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Format -> a source that holds the episodes above."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    write = {
        "lerobot": lambda: lerobot(tmp_path / "v3", True),
        "minari": lambda: minari_folder(tmp_path / "arm"),
        "robomimic": lambda: robomimic(tmp_path / "low_dim.hdf5"),
        "d4rl": lambda: d4rl(tmp_path / "hopper.hdf5"),
        "parquet": lambda: parquet(tmp_path / "log.parquet"),
        "csv": lambda: csv(tmp_path / "log.csv"),
        "mcap": lambda: mcap(tmp_path / "drive.mcap"),
        "ulog": lambda: ulog(tmp_path / "flight.ulg"),
    }
    return lambda form: write[form]()


def robomimic(path, rate=20):
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "env_kwargs": {"control_freq": rate}})
        for number, (x, a, r, end) in enumerate(zip(X, A, R, ENDS, strict=True)):
            demo = data.create_group(f"demo_{number * 9}")  # demo_9 comes before demo_18
            demo["obs/object"], demo["obs/eef"] = x[:, 1:].astype(np.float64), x[:, :1]
            demo["obs/agentview_image"] = np.zeros((len(x), 4, 4, 3), np.uint8)
            demo["actions"], demo["rewards"] = a.astype(np.float64), r
            demo["dones"] = (np.arange(len(x)) == len(x) - 1) & end
    return path


def d4rl(path, **changes):
    ends = np.concatenate([np.arange(length) == length - 1 for length in LENGTHS])
    task = np.repeat(ENDS, LENGTHS)
    with h5py.File(path, "w") as file:
        whole = {"observations": np.concatenate(X), "actions": np.concatenate(A), "rewards": np.concatenate(R)}
        whole |= {"terminals": ends & task, "timeouts": ends & ~task, "infos/qpos": np.zeros((12, 2))}
        for name, array in (whole | changes).items():
            file[name] = array
    return path


def table():
    columns = {
        "run": np.repeat(["a", "b", "c"], LENGTHS),
        "t": np.concatenate([10 + np.arange(length) / 8 for length in LENGTHS]),
        **{name: np.concatenate(X)[:, index] for index, name in enumerate("xyz")},
        **{name: np.concatenate(A)[:, index] for index, name in enumerate("uv")},
        "gain": np.concatenate(R),
        "over": np.concatenate([(np.arange(len(x)) == len(x) - 1) & end for x, end in zip(X, ENDS, strict=True)]),
        "cut": np.concatenate([(np.arange(len(x)) == len(x) - 1) & (not end) for x, end in zip(X, ENDS, strict=True)]),
        "note": ["free"] * 12,
    }
    return pa.table(columns)


TABLE_MAP = FieldMap(
    ("x", "y", "z"), ("u", "v"), reward="gain", terminal="over", truncated="cut", timestamp="t", episode="run"
)


def parquet(path):
    pq.write_table(table(), path, row_group_size=4)
    return path


def csv(path):
    pyarrow.csv.write_csv(table(), path)
    return path


def lerobot(folder, many_in_one, action=None):
    """v3.0 holds many episodes in a file, v2.1 one; each row holds lists."""
    (folder / "meta").mkdir(parents=True)
    names = {"observation.state": {"motors": ["x", "y", "z"]}, "action": ["u", "v"]}
    features = {
        "observation.state": {"dtype": "float32", "shape": [3], "names": names["observation.state"]},
        "observation.images.top": {"dtype": "video", "shape": [4, 4, 3], "names": None},
        "action": {"dtype": "float32", "shape": [2], "names": names["action"]},
        "next.reward": {"dtype": "float32", "shape": [1], "names": None},
        "next.done": {"dtype": "bool", "shape": [1], "names": None},
    }
    if action is not None:
        features["action"] = {"dtype": "int64", "shape": [1], "names": None}
    version = "v3.0" if many_in_one else "v2.1"
    (folder / "meta/info.json").write_text(json.dumps({"codebase_version": version, "fps": 8, "features": features}))
    tables = []
    for number, (x, a, r, end) in enumerate(zip(X, A, R, ENDS, strict=True)):
        columns = {
            "observation.state": pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 3),
            "action": pa.FixedSizeListArray.from_arrays(pa.array(a.ravel()), 2)
            if action is None
            else pa.array(np.full(len(x), action)),
            "next.reward": r,
            "next.done": (np.arange(len(x)) == len(x) - 1) & end,
            "timestamp": (np.arange(len(x)) / 8).astype(np.float32),
            "episode_index": np.full(len(x), number),
        }
        tables.append(pa.table(columns))
    data = folder / "data/chunk-000"
    data.mkdir(parents=True)
    if many_in_one:
        pq.write_table(pa.concat_tables(tables), data / "file-000.parquet")
    else:
        for number, each in enumerate(tables):
            pq.write_table(each, data / f"episode_{number:06d}.parquet")
    return folder


STEP = 50_000_000  # nanoseconds


def mcap(path):
    """JSON messages of the first episode, the command 10 ms before the state that it acts in."""
    with path.open("wb") as stream:
        writer = Writer(stream)
        writer.start()
        schema = writer.register_schema("any", "jsonschema", b"{}")
        channels = {topic: writer.register_channel(topic, "json", schema) for topic in ("/state", "/cmd.vel")}
        for t in range(LENGTHS[0]):
            messages = {"/cmd.vel": {"twist": {"u": float(A[0][t, 0]), "v": float(A[0][t, 1])}}}
            messages["/state"] = {"x": X[0][t].tolist()}
            for topic, message in messages.items():
                time = t * STEP + (STEP if topic == "/state" else STEP - 10_000_000)
                writer.add_message(channels[topic], time, json.dumps(message).encode(), time)
        writer.finish()
    return path


MCAP_MAP = FieldMap(("/state.x[0]", "/state.x[1]", "/state.x[2]"), ("/cmd.vel.twist.u", "/cmd.vel.twist.v"), rate=20)


def ulog(path):
    """As PX4 writes it: definitions, subscriptions, data. The state is sent at 20/s, the command a bit before."""
    message = lambda kind, data: struct.pack("<HB", len(data), ord(kind)) + data  # noqa: E731
    parts = [b"ULog\x01\x12\x35\x01", struct.pack("<Q", 0), message("B", bytes(40))]
    parts += [
        message("F", b"state:uint64_t timestamp;float[3] x;"),
        message("F", b"command:uint64_t timestamp;float u;"),
    ]
    parts += [message("A", struct.pack("<BH", 0, 1) + b"state"), message("A", struct.pack("<BH", 1, 2) + b"command")]
    for t in range(LENGTHS[0]):
        time = (t + 1) * STEP // 1000
        parts.append(message("D", struct.pack("<HQf", 2, time - 10_000, A[0][t, 0])))
        parts.append(message("D", struct.pack("<HQ3f", 1, time, *X[0][t])))
    path.write_bytes(b"".join(parts))
    whole = path.with_name("rewritten.ulg")
    ULog(str(path)).write_ulog(str(whole))  # by the library itself
    path.write_bytes(whole.read_bytes())
    return path


ULOG_MAP = FieldMap(("state.x[0]", "state.x[1]", "state.x[2]"), ("command#1.u",), rate=20)

MAPS = {"parquet": TABLE_MAP, "csv": TABLE_MAP, "mcap": MCAP_MAP, "ulog": ULOG_MAP}
ONE = ("mcap", "ulog")  # the first episode alone, without reward and end


def same(found, expected):
    return found.dtype == expected.dtype and np.array_equal(found, expected)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_comes_back_bit_for_bit_with_each_action_in_the_frame_it_acts_in(written, form):
    path = written(form)
    source = open_source(path, MAPS.get(form))
    episodes = list(source)
    assert len(episodes) == (1 if form in ONE else 3)
    for number, episode in enumerate(episodes):
        x, a, r = X[number], A[number][:, : 1 if form == "ulog" else 2], R[number]
        if form == "robomimic":
            x = x[:, [0, 1, 2]]  # eef, object
        if form == "minari":
            a, r = np.concatenate([a[:-1], a[-2:-1]]), np.append(r[:-1], np.float32(0))
        found = episode.features if form != "csv" else episode.features.astype(np.float32)  # of decimal text
        assert same(found, x.astype(found.dtype)), form
        assert same(episode.actions, a), form
        if form not in ONE:
            assert same(episode.rewards, r)
            assert episode.terminal == ENDS[number]
            assert episode.truncated == (not ENDS[number] and form in ("minari", "d4rl", "parquet", "csv"))
        assert np.allclose(np.diff(episode.timestamps), {"minari": 1, "d4rl": 1, "robomimic": 0.05}.get(
            form, 0.05 if form in ONE else 0.125
        ))  # fmt: skip
    assert len(source.columns.features) == 3
    assert len(source.columns.actions) == episodes[0].actions.shape[1]


def names_of(source):
    """After its first episode."""
    next(iter(source))
    return [[each.name for each in getattr(source.columns, part)] for part in ("features", "actions")]


def test_names_that_a_format_knows(written, tmp_path):
    known = {
        "lerobot": (["x", "y", "z"], ["u", "v"], {"observation.images.top"}),
        "robomimic": (["eef", "object.0", "object.1"], ["actions.0", "actions.1"], {"obs/agentview_image"}),
        "csv": (["x", "y", "z"], ["u", "v"], {"note"}),
        "mcap": (list(MCAP_MAP.features), list(MCAP_MAP.actions), set()),
    }
    for form, expected in known.items():
        source = open_source(written(form), MAPS.get(form))
        assert (*names_of(source), set(source.left_out)) == expected


def test_nested_observations_are_flattened_by_sorted_name_and_choices_stay_integers(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    box = gym.spaces.Box(-9, 9, (2,), np.float32)
    inner = gym.spaces.Dict({"b": box, "a": gym.spaces.Box(-9, 9, (1,), np.float32)})
    space = gym.spaces.Dict({"z": gym.spaces.Discrete(4), "pose": inner})
    path = minari_folder(
        tmp_path / "nested",
        lambda x: {"z": np.arange(len(x)) % 4, "pose": {"b": x[:, 1:], "a": x[:, :1]}},
        space,
        lambda a: (a[:, 0] > 0).astype(np.int64),
        gym.spaces.Discrete(2),
    )
    for source in (open_source(path), open_source(path / "data/main_data.hdf5")):
        for number, episode in enumerate(source):
            z = (np.arange(len(X[number])) % 4).astype(np.float32)[:, None]
            assert same(episode.features, np.concatenate([X[number], z], axis=1).astype(np.float64))
            assert same(episode.actions[:-1], (A[number][:-1, 0] > 0).astype(np.int64))
            assert episode.agent_id == "nested-v0"
        assert names_of(source)[0] == ["a", "b.0", "b.1", "z"]


def test_lerobot_in_one_file_an_episode_and_with_choices(tmp_path):
    found = [list(open_source(lerobot(tmp_path / name, name == "v3"))) for name in ("v3", "v2")]
    for one, other in zip(*found, strict=True):
        assert same(one.features, other.features)
        assert one.name == other.name
    choices = list(open_source(lerobot(tmp_path / "choices", True, action=3)))
    assert same(choices[0].actions, np.full(5, 3))


def test_tables_group_interleaved_agents_and_begin_anew_where_time_runs_backwards(tmp_path):
    path = tmp_path / "log.csv"
    rows = ["a,0,1.5,0", "b,5,2.5,1", "a,1,3.5,2", "b,6,4.5,0", "a,0.5,5.5,1", "a,2,6.5,0"]
    path.write_text("\n".join(["agent_id,timestamp,features.0,action", *rows]))
    found = {(each.agent_id, each.name): each for each in open_source(path)}
    assert {key: each.features[:, 0].tolist() for key, each in found.items()} == {
        ("a", "0"): [1.5, 3.5],
        ("a", "1"): [5.5, 6.5],
        ("b", "0"): [2.5, 4.5],
    }
    assert same(found["b", "0"].actions, np.array([1, 0]))


def test_batches_and_files_do_not_cut_episodes(tmp_path, monkeypatch):
    length = 200_000  # more than one batch of Parquet, block of CSV
    x = np.arange(length) / 4
    whole = pa.table({"timestamp": x, "features": pa.FixedSizeListArray.from_arrays(pa.array(np.repeat(x, 2)), 2)})
    pq.write_table(whole, tmp_path / "a.parquet")
    pyarrow.csv.write_csv(pa.table({"timestamp": x, "features.0": x, "features.1": x}), tmp_path / "b.csv")
    for name in ("a.parquet", "b.csv"):
        (episode,) = open_source(tmp_path / name)
        assert same(episode.features, np.stack([x, x], 1))


def test_an_end_that_is_left_blank_is_none(tmp_path):
    rows = "".join(f"{t},{t},{'true' if t == 3 else ''}\n" for t in range(6))
    (tmp_path / "a.csv").write_text(f"timestamp,features,terminal\n{rows}")
    pq.write_table(
        pa.table({"timestamp": range(6), "features": range(6), "terminal": [None, None, None, True, None, None]}),
        tmp_path / "a.parquet",
    )
    for name in ("a.csv", "a.parquet"):
        found = [(each.length, each.terminal) for each in open_source(tmp_path / name)]
        assert found == [(4, True), (2, False)]


def test_dates_and_units_of_time(tmp_path):
    rows = "2026-01-01 00:00:00.5,1\n2026-01-01 00:00:00.75,2\n"
    (tmp_path / "a.csv").write_text(f"when,x\n{rows}")
    (tmp_path / "b.csv").write_text("when,x\n1767225600500000000,1\n1767225600750000000,2\n")
    for name, unit in (("a.csv", "s"), ("b.csv", "ns")):
        (episode,) = open_source(tmp_path / name, FieldMap(("x",), timestamp="when", unit=unit))
        assert episode.timestamps.tolist() == [1767225600.5, 1767225600.75]


def test_ros_2_messages_are_held_until_the_next_one(tmp_path):
    path = tmp_path / "bag.mcap"
    with path.open("wb") as stream:
        writer = Ros2Writer(stream)
        schema = writer.register_msgdef("test/Pose", "geometry/Point p\n===\nMSG: geometry/Point\nfloat64 x\n")
        for time, x in ((0, 1.0), (25, 2.0), (50, 3.0)):
            writer.write_message("/slow", schema, {"p": {"x": x}}, log_time=time * 1_000_000)
        for time in range(10, 60, 10):
            writer.write_message("/fast", schema, {"p": {"x": time / 10}}, log_time=time * 1_000_000)
        writer.finish()
    (episode,) = open_source(path, FieldMap(("/slow.p.x", "/fast.p.x"), rate=100))
    assert episode.features.tolist() == [[1, 1], [1, 2], [2, 3], [2, 4], [3, 5]]
    assert episode.timestamps.tolist() == [0.01, 0.02, 0.03, 0.04, 0.05]


CDR = """\
byte KIND=3
std_msgs/Header header
string<=20 note "none"
bool on
Spot[2] spots   # two of them
float32[] ranges
int16[3] counts
uint64 last
===
MSG: std_msgs/Header
builtin_interfaces/Time stamp
string frame_id
===
MSG: test/Spot
string label
float64 x
"""


def test_numbers_behind_texts_and_lists_of_any_length_are_those_that_the_library_decodes(tmp_path):
    path, paths = tmp_path / "bag.mcap", ("header.stamp.sec", "on", "spots[1].x", "ranges[1]", "counts[2]", "last")
    expected = []
    with path.open("wb") as stream:
        writer = Ros2Writer(stream, chunk_size=700)
        schema = writer.register_msgdef("test/State", CDR)
        for t in range(50):
            text, spots = RNG.choice(["", "a", "left", "right"], 3).tolist(), RNG.normal(size=2).tolist()
            ranges, counts = RNG.normal(size=2 + RNG.integers(3)).astype(np.float32), RNG.integers(-9, 9, 3)
            message = {"header": {"stamp": {"sec": t, "nanosec": 5}, "frame_id": text[0]}, "note": text[1], "on": t % 2}
            message |= {"spots": [{"label": text[2], "x": x} for x in spots], "ranges": ranges.tolist()}
            writer.write_message("/s", schema, message | {"counts": counts.tolist(), "last": 2**40 + t}, t * STEP)
            expected.append([t, t % 2, spots[1], ranges[1], counts[2], 2**40 + t])
        writer.finish()
    (episode,) = open_source(path, FieldMap(tuple(f"/s.{each}" for each in paths), rate=20))
    assert same(episode.features, np.array(expected, np.float64))
    with pytest.raises(ValueError, match=r"/s\.ranges\[9\], message at \d+ ns: no such number \(ranges holds"):
        list(open_source(path, FieldMap(("/s.ranges[9]",), rate=20)))


def test_json_and_protobuf_messages_give_numbers_of_any_depth_and_null_is_missing(tmp_path):
    path = tmp_path / "log.mcap"
    with path.open("wb") as stream:
        writer = ProtobufWriter(stream)
        for t in range(3):
            writer.write_message("/clock", Timestamp(seconds=t, nanos=t + 7), t * STEP, t * STEP)
        schema = writer._writer.register_schema("any", "jsonschema", b"{}")
        channel = writer._writer.register_channel("/j", "json", schema)
        for t, value in enumerate((1.5, None, True)):
            message = {"skipped": {"a": ["b"]}, "a-b": {"c": [0, {"d": [[t, value]]}]}, "e": t}
            writer._writer.add_message(channel, t * STEP, json.dumps(message, indent=t).encode(), t * STEP)
        writer.finish()
    fields = FieldMap(("/clock.nanos", "/j.a-b.c[1].d[0][1]"), "/j.e", ("/clock.seconds",), rate=20)
    (episode,) = open_source(path, fields)
    assert np.array_equal(episode.features, [[7, 1.5], [8, np.nan], [9, 1]], equal_nan=True)
    assert same(episode.actions, np.arange(3))
    assert episode.context.tolist() == [[0], [1], [2]]
    with pytest.raises(ValueError, match=r"/j\.a-b\.c, message at 0 ns: no such number"):
        list(open_source(path, FieldMap(("/j.a-b.c",), rate=20)))


def test_a_broken_file_of_each_format_is_one_line_that_names_it(written):
    for form in FORMATS:
        path = written(form)
        files = [path] if path.is_file() else [each for each in path.rglob("*") if each.suffix in (".hdf5", ".parquet")]
        whole = files[-1].read_bytes()
        for data in (whole[: len(whole) * 2 // 3], whole[:7], b"", b"<html>no log</html>\n" * 9):
            files[-1].write_bytes(data)
            with pytest.raises(ValueError, match=re.escape(str(path))) as found:
                list(open_source(path, MAPS.get(form), form))
            assert str(found.value).startswith(str(path)), (form, str(found.value))


def test_missing_readings_stay_missing_and_what_else_is_no_number_is_named_with_its_place(tmp_path):
    broken = np.concatenate(X).astype(np.float64)
    broken[6:, 1] = np.nan
    broken[0] = 4_500_000 + np.pi  # what float32 would round
    found = np.concatenate([each.features for each in open_source(d4rl(tmp_path / "a.h5", observations=broken))])
    assert np.array_equal(found, broken, equal_nan=True)
    broken[9, 2] = np.inf
    with pytest.raises(ValueError, match=r"a\.h5: episode 2, row 9: observations\.2 is inf, expected a finite float32"):
        list(open_source(d4rl(tmp_path / "a.h5", observations=broken)))
    (tmp_path / "a.csv").write_text("timestamp,features.0,features.1,action,reward\n0,1,,1,.5\n1,,,0,.5\n2,3,,,\n")
    (episode,) = open_source(tmp_path / "a.csv")
    assert np.array_equal(episode.features, [[1, np.nan], [np.nan, np.nan], [3, np.nan]], equal_nan=True)
    assert same(episode.actions, np.array([1, 0, 0]))  # the last one leads nowhere
    assert episode.rewards.tolist() == [0.5, 0.5, 0]
    for rows, expected in {
        "0,1,1\n1,2,\n2,3,0\n": r"a\.csv: episode 0, row 1: action is missing; mend it",
        "0,1,1\n,2,0\n": r"a\.csv: episode 0, row 1: timestamps is missing",
    }.items():
        (tmp_path / "a.csv").write_text(f"timestamp,features.0,action\n{rows}")
        with pytest.raises(ValueError, match=expected):
            list(open_source(tmp_path / "a.csv"))


def test_what_is_known_ahead_stays_beside_the_action_and_a_map_tells_units_and_kinds(tmp_path):
    rows = "".join(f"{t / 4},{t},{t + 20},{350 + t % 9},{t % 2}\n" for t in range(6))
    (tmp_path / "a.csv").write_text(f"t,x,hour,heading,go\n{rows}")
    columns = {"heading": Column(unit="degrees", kind="angle")}
    fields = FieldMap(("x", "heading"), "go", ("hour",), timestamp="t", columns=columns)
    source = open_source(tmp_path / "a.csv", fields)
    (episode,) = source
    assert same(episode.context, np.arange(20, 26, dtype=np.float32)[:, None])
    assert source.columns == Columns(
        (Column("x"), Column("heading", "degrees", "angle")), (Column("go"),), (Column("hour"),)
    )
    unknown = FieldMap(("x",), timestamp="t", columns={"hedding": Column(unit="degrees", kind="angle")})
    with pytest.raises(ValueError, match=r"a\.csv: columns: hedding is none of what is read: x"):
        list(open_source(tmp_path / "a.csv", unknown))
    (tmp_path / "b.csv").write_text("timestamp,features.0,context.0,context.1\n0,1,2,3\n1,1,2,4\n")
    assert next(iter(open_source(tmp_path / "b.csv"))).context.tolist() == [[2, 3], [2, 4]]


def test_an_end_of_every_recording_of_lerobot_is_no_end_of_the_task_unless_it_says_so(tmp_path):
    told = {
        "all": ({}, [False] * 3, [True] * 3),
        "success": ({"next.success": [False, True, True]}, [False, True, True], [True, False, False]),
        "terminated": (
            {"next.terminated": [True, False, False], "next.truncated": [False, True, False]},
            [True, False, False],
            [False, True, False],
        ),
    }
    for name, (columns, terminal, truncated) in told.items():
        folder = lerobot(tmp_path / name, True)
        info, file = folder / "meta/info.json", folder / "data/chunk-000/file-000.parquet"
        about = json.loads(info.read_text())
        about["features"] |= {column: {"dtype": "bool", "shape": [1]} for column in columns}
        info.write_text(json.dumps(about))
        whole = pq.read_table(file)
        last = np.concatenate([np.arange(length) == length - 1 for length in LENGTHS])
        for column, ends in {"next.done": [True] * 3, **columns}.items():
            if column in whole.column_names:
                whole = whole.drop_columns(column)
            whole = whole.append_column(
                column, pa.array(np.repeat(ends, LENGTHS) & (last | (column == "next.success")))
            )
        pq.write_table(whole, file)
        found = list(open_source(folder))
        assert ([each.terminal for each in found], [each.truncated for each in found]) == (terminal, truncated), name


def test_what_does_not_fit_is_named_with_its_place(tmp_path):
    lines = {
        "timestamp,features.0\n0,1\n0,2\n": r"a\.csv: episode 0, row 1: 0.0 s after 0.0 s, expected time that grows",
        "timestamp,features.0\n0,1\n1,wet\n": r"a\.csv: cannot be read .*Row #3.*wet",
        "t,x,note\n0,1,a\n": r"(?s)a\.csv: .*holds t, x, note; write a file such as\n\ntimestamp: t.*--map",
        "timestamp,episode,features.0,terminal\n0,a,1,true\n1,a,2,false\n": r"row 0: terminal is true before",
        "timestamp,features.0,action\n0,1,-1\n": r"actions hold -1, expected integers >= 0",
        "timestamp,features.0,action\n0,1,99999\n": r"action 99999, expected integers below 4096",
        "timestamp,features.0,agent_id\n0,1,\n": r"agent_id: found",
        "timestamp,features.0\n": r"a\.csv: holds no episode",
    }
    for text, expected in lines.items():
        (tmp_path / "a.csv").write_text(text)
        with pytest.raises(ValueError, match=expected):
            list(open_source(tmp_path / "a.csv"))
    with pytest.raises(ValueError, match=r"a\.csv: has no column q; it has timestamp, features.0"):
        list(open_source(tmp_path / "a.csv", FieldMap(("q",))))
    with pytest.raises(ValueError, match=r"terminals, timeouts: \[12, 12, 12, 11, 12\], expected equal"):
        list(open_source(d4rl(tmp_path / "a.hdf5", terminals=np.zeros(11, bool))))
    with pytest.raises(ValueError, match=r"unit: means nothing to d4rl, expected only columns, features, rate"):
        open_source(tmp_path / "a.hdf5", FieldMap(unit="ms"))
    (tmp_path / "a.txt").touch()
    with pytest.raises(ValueError, match=r"a\.txt: not of a known format \(lerobot, minari"):
        open_source(tmp_path / "a.txt")


def test_topics_without_a_map_or_a_message_are_listed(written):
    for form, topic in (("mcap", "/state"), ("ulog", "state")):
        path = written(form)
        for fields in (None, FieldMap((f"{topic}.x[0]",))):
            with pytest.raises(ValueError, match=rf"(?s)it holds .*{topic}.*write a file such as\n\nrate: 20"):
                list(open_source(path, fields))
        with pytest.raises(ValueError, match=r"has no topic for other.x, expected topic.field; it has .*|it holds"):
            list(open_source(path, FieldMap(("other.x",), rate=5)))
        with pytest.raises(ValueError, match=rf"{topic}.*(no such number|has no) .*"):
            list(open_source(path, FieldMap((f"{topic}.y",), rate=5)))


def test_a_library_that_is_not_installed_is_named_with_what_to_do(written, monkeypatch):
    path = written("d4rl")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ValueError, match=r"needs h5py, which is not installed; pip install 'worldmodel\[formats\]'"):
        open_source(path)


def test_sources_among_logs_are_read_as_they_are_and_what_is_wrong_in_one_is_a_row(written, tmp_path, capsys):
    logs = tmp_path / "logs"
    logs.mkdir()
    write_logs(logs, list(open_source(written("d4rl"))), "a.jsonl")
    shutil.move(written("minari"), logs / "arm")
    shutil.move(written("lerobot"), logs / "v3")
    for form in ("robomimic", "csv"):
        shutil.move(written(form), logs)
    (logs / "log.csv.yaml").write_text(
        "features: [x, y, z]\naction: [u, v]\nreward: gain\n"
        "timestamp: t\nepisode: run\nterminal: over\ntruncated: cut\n"
    )
    (logs / "features.yaml").write_text("features: [x, y, z]\nactions: [u, v]\n")  # the sources call them differently
    shutil.copy(logs / "log.csv", logs / "unmapped.csv")
    found = read_logs([logs], 60.0)
    assert not found.rejects
    names = [(each.agent_id, each.length) for each in found.episodes]
    assert [agent for agent, _ in names[::3]] == ["hopper", "arm-v0", "log", "low_dim", "v3"]
    assert found.rows == sum(length for _, length in names) == 5 * 12
    assert call("check-logs", logs, "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["unread_files"] == ["unmapped.csv"]
    (logs / "low_dim.hdf5").write_bytes((logs / "low_dim.hdf5").read_bytes()[:9000])
    (logs / "other.csv").write_text("timestamp,features.0\n0,1\n1,2\n")
    (logs / "twice.csv").write_text("timestamp,features.0\n0,1\n1,2\n")
    told = [str(reject) for reject in read_logs([logs], 60.0).rejects]
    assert [each.split(":")[0] for each in told] == ["low_dim.hdf5", "other.csv", "twice.csv"]
    assert "cannot be read (Unable to synchronously open file (truncated file" in told[0]
    assert told[1].startswith("other.csv:1: episode '0': features: found 1 numbers, expected 3 as in most rows; action")
    assert told[2] == "twice.csv:1: the same lines as other.csv, expected each log once"
    for path in (logs / "v3", logs / "log.csv"):
        assert len(read_logs([path], 60.0).episodes) == 3
    (reject,) = read_logs([logs / "unmapped.csv"], 60.0).rejects
    assert "holds run, t, x, y, z, u, v, gain, over, cut, note; write a file such as" in reject.reason


def test_sources_at_an_address_are_read_from_copies_that_do_not_stay(written, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    memory, rows = fsspec.filesystem("memory"), "".join(f"{t},{t}.5,{t},0,1,0\n" for t in range(5))
    (tmp_path / "named.csv").write_text(f"timestamp,features.0,features.1,features.2,action.0,action.1\n{rows}")
    named = "features: ['/state.x[0]', '/state.x[1]', '/state.x[2]']\naction: [/cmd.vel.twist.u, /cmd.vel.twist.v]\n"
    (tmp_path / "drive.mcap.yaml").write_text(f"rate: 20\n{named}")
    paths = [written("mcap"), tmp_path / "drive.mcap.yaml", tmp_path / "named.csv", written("csv")]
    for path in paths:
        memory.pipe(f"/lake/{path.name}", path.read_bytes())
    memory.pipe("/lake/.old/other.csv", (tmp_path / "named.csv").read_bytes())
    memory.pipe("/lake/features.yaml", b"features: [x, y, z]\nactions: [u, v]\n")
    found = read_logs(["memory://lake"], 60.0)
    assert not found.rejects
    expected = [*open_source(paths[0], MCAP_MAP), *open_source(paths[2])]
    for one, other in zip(found.episodes, expected, strict=True):
        assert replace(one, agent_id="x") == replace(other, agent_id="x")
    assert [each.agent_id for each in found.episodes] == ["drive", "named"]
    memory.pipe("/lake/named.csv", (tmp_path / "named.csv").read_bytes() + b"wet,1,2,3,4,5\n")
    (reject,) = read_logs(["memory://lake"], 60.0).rejects
    assert reject.file == "named.csv"
    assert reject.reason.startswith("cannot be read")
    assert not list((tmp_path / "temporary").iterdir())


def test_what_lies_in_a_hidden_folder_is_no_log_and_named(written, tmp_path, capsys):
    logs = tmp_path / "logs"
    logs.mkdir()
    write_logs(logs, list(open_source(written("d4rl"))), "a.jsonl")
    (logs / ".checkpoints").mkdir()
    shutil.copy(logs / "a.jsonl", logs / ".checkpoints/b.jsonl")
    assert call("check-logs", logs, "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["files"], found["unread_files"]) == (1, [".checkpoints/b.jsonl"])
