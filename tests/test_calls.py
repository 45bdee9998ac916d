"""encode, predict and step of a tiny bundle: starts, steps, any plan, whatever arrays; copies, pickles and forks."""

import copy
import os
import pickle
import subprocess
import sys
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import joblib
import numpy as np
import pytest

from tiny_bundles import write_bundle
from worldmodel.client import Frame, Future, WorldModel

RNG = np.random.default_rng(0)
FEATURES, PAST, MET = (RNG.normal(size=shape).astype(np.float32) for shape in ((4, 3, 2), (4, 2, 3), (4, 2, 1)))
Z, PLAN, AHEAD = (RNG.normal(size=shape).astype(np.float32) for shape in ((4, 14), (4, 7, 3), (4, 7, 1)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


@pytest.fixture(scope="module")
def model(folder):
    return WorldModel.load(folder)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """Of another action kind, or of a model that knows missing readings."""
    folder = tmp_path_factory.mktemp("kinds")
    said = {"discrete": {"action_kind": "discrete"}, "masked": {"missing": "mask"}}
    return {name: WorldModel.load(write_bundle(folder / name, **each)) for name, each in said.items()}


def assert_same(one, other):
    for left, right in zip(one, other, strict=True):
        assert (left is None) == (right is None)
        if left is not None:
            assert (left.shape, left.dtype) == (right.shape, right.dtype)
            np.testing.assert_allclose(left, right, rtol=1e-6)


def whole(features, actions, context):
    """What the tiny encoder makes of a whole history."""
    return np.concatenate([np.ravel(part) for part in (features, actions, context)]).astype(np.float32)


def test_a_start_is_a_history_in_which_the_first_frame_stood_still(model):
    (a, b), move, met, none = FEATURES[0, :2], PAST[0, 0], MET[0, 0], np.zeros(3)
    np.testing.assert_array_equal(model.encode([a, b], [move], [met]), whole([a, a, b], [none, move], [met, met]))
    np.testing.assert_array_equal(model.encode([a], None, [met]), whole([a, a, a], [none, none], [met, met]))
    for nothing in (None, [], np.empty((0, 3)), np.empty((1, 0, 3))):
        np.testing.assert_array_equal(model.encode([[a]], nothing, [[met]])[0], model.encode([a], None, [met]))
    batch = model.encode(FEATURES[:, :2], PAST[:, :1], MET[:, :1])
    assert batch.shape == (4, 14)
    np.testing.assert_array_equal(batch[0], model.encode([a, b], [move], [met]))
    np.testing.assert_array_equal(model.encode(FEATURES, PAST, MET)[1], whole(FEATURES[1], PAST[1], MET[1]))


def test_a_start_of_integers_and_one_with_missing_readings(kinds):
    a, b = [1, 2], [3, 4]
    z = kinds["discrete"].encode([a, b], [2], [[5]])
    np.testing.assert_array_equal(z, whole([a, a, b], [[0, 0, 0], [0, 0, 1]], [5, 5]))
    np.testing.assert_array_equal(kinds["discrete"].encode([[a, b]], [[2]], [[[5]]])[0], z)
    z = kinds["masked"].encode([[np.nan, 2]], None, [[5]])
    np.testing.assert_array_equal(z, whole([[np.nan, 2]] * 3, np.zeros(6), [5, 5]))
    masked = np.ma.masked_array([[-999.0, 2]], [[True, False]])
    for missing in (masked, [masked[0]], [[None, 2]], deque([deque([None, 2.0])])):
        np.testing.assert_array_equal(kinds["masked"].encode(missing, None, [[5]]), z)


@pytest.mark.parametrize(
    ("features", "actions", "context", "message"),
    [
        (FEATURES[:, :0], None, None, r"features has shape \[4, 0, 2\], expected \[batch, 3, 2\]"),
        (FEATURES[:, :1], None, None, r"no context are given, expected \[4, 1, 1\]"),
        (FEATURES[:, :1], None, MET, r"context has shape \[4, 2, 1\], expected \[4, 1, 1\]"),
        (FEATURES[:, :1], PAST, MET[:, :1], r"actions are given, and the model takes none here: .*or T is 1"),
        (FEATURES[:, :2], PAST, MET[:, :1], r"actions has shape \[4, 2, 3\], expected \[4, 1, 3\]"),
        (FEATURES[:, :2], None, MET[:, :1], r"no actions are given, expected \[4, 1, 3\]"),
    ],
)
def test_a_start_lacks_nothing_of_what_was_seen(model, features, actions, context, message):
    with pytest.raises(ValueError, match=message):
        model.encode(features, actions, context)


@pytest.mark.parametrize("length", [1, 3, 7])
def test_a_plan_of_any_length_gives_its_frames_and_the_trained_horizon_is_told(model, length):
    future = model.predict(Z, PLAN[:, :length], AHEAD[:, :length])
    assert model.horizon == 4
    assert future.features.shape == future.std.shape == (4, length, 2)
    assert future.reward.shape == future.disagreement.shape == future.termination.shape == (4, length)
    assert_same(future, Future(*(part[:, :length] for part in model.predict(Z, PLAN, AHEAD))))
    assert_same(model.predict(Z[0], PLAN[0, :length], AHEAD[0, :length]), Future(*(part[0] for part in future)))
    assert_same(model.predict(Z[0], PLAN[0, :length].tolist(), AHEAD[0, :length].tolist()), [p[0] for p in future])


def test_a_step_gives_z_and_the_frame_that_a_plan_of_one_gives(model, kinds):
    z, frame = model.step(Z, PLAN[:, 0], AHEAD[:, 0])
    np.testing.assert_array_equal(z, 2 * Z)
    assert_same(frame, Future(*(part[:, 0] for part in model.predict(Z, PLAN[:, :1], AHEAD[:, :1]))))
    one, single = model.step(Z[0], PLAN[0, 0], AHEAD[0, 0])
    assert one.shape == (14,)
    assert_same(single, Future(*(part[0] for part in frame)))
    assert (frame.alive.tolist(), single.alive) == ([1] * 4, 1)
    np.testing.assert_array_equal(frame.returns(), frame.reward)
    given, hot = np.array([2, 0, 1, 1]), np.eye(3)[[2, 0, 1, 1]]
    assert_same(kinds["discrete"].step(Z, given, AHEAD[:, 0])[1], model.step(Z, hot, AHEAD[:, 0])[1])
    assert_same(kinds["discrete"].step(Z[0], 2, AHEAD[0, 0])[1], model.step(Z[0], hot[0], AHEAD[0, 0])[1])


@pytest.mark.parametrize(
    ("z", "action", "context", "message"),
    [
        (Z, PLAN, AHEAD[:, 0], r"action has 3 axes, expected 2, or 1 for a single one"),
        (Z, PLAN[:2, 0], AHEAD[:, 0], r"action has shape \[2, 3\], expected \[4, 3\]"),
        (Z, PLAN[:, 0], None, r"no context are given, expected \[4, 1\]"),
        (Z, None, AHEAD[:, 0], r"no action are given, expected \[4, 3\]"),
        (Z, [0, 1, 2, 0], AHEAD[:, 0], r"action has shape \[1, 4\], expected \[4, 3\]"),
        (Z[0], 1, AHEAD[0, 0], r"action has 0 axes"),
        (Z[:, :3], PLAN[:, 0], AHEAD[:, 0], r"z has shape \[4, 3\], expected \[batch, 14\]"),
    ],
)
def test_a_step_that_does_not_fit_is_refused(model, z, action, context, message):
    with pytest.raises(ValueError, match=message):
        model.step(z, action, context)


def test_an_integer_out_of_range_is_no_step(kinds):
    with pytest.raises(ValueError, match=r"action hold 3\.\.3, expected 0\.\.2"):
        kinds["discrete"].step(Z[0], 3, AHEAD[0, 0])


def test_rewards_count_until_the_task_ends():
    features = np.zeros((2, 3, 1), np.float32)
    ends = np.array([[0.0, 0.25, 1], [1, 0, 0]], np.float32)
    future = Future(features, features, np.array([[1.0, 2, 4], [8, 16, 32]], np.float32), None, ends)
    np.testing.assert_allclose(future.alive, [[1, 1, 0.75], [1, 0, 0]])
    np.testing.assert_allclose(future.returns(), [1 + 2 + 3, 8])
    one = Future(*(None if part is None else part[0] for part in future))
    np.testing.assert_allclose([*one.alive, one.returns()], [1, 1, 0.75, 6])
    endless = future._replace(termination=None)
    np.testing.assert_allclose(endless.returns(), [7, 56])
    with pytest.raises(ValueError, match=r"predicts no reward, its logs held none; sum a cost"):
        future._replace(reward=None).returns()


def test_an_empty_batch_has_an_empty_answer(model, kinds):
    for each in (model, kinds["masked"], kinds["discrete"]):
        for frames in (1, 2, 3):
            z = each.encode(
                np.empty((0, frames, 2)), np.empty((0, frames - 1, 3)), np.empty((0, max(1, frames - 1), 1))
            )
            assert (z.shape, z.dtype) == ((0, 14), np.float32)
        for length in (1, 9):
            future = each.predict(z, np.empty((0, length, 3)), np.empty((0, length, 1)))
            assert_same(
                future, Future(*(part[:0, :1].repeat(length, axis=1) for part in model.predict(Z, PLAN, AHEAD)))
            )
            assert future.returns().shape == (0,)
        following, frame = each.step(z, np.empty((0, 3)), np.empty((0, 1)))
        assert_same([following, *frame], [part[:0] for part in (Z, *model.step(Z, PLAN[:, 0], AHEAD[:, 0])[1])])
    integers = np.empty((0, 9), int)
    assert kinds["discrete"].predict(z, integers, np.empty((0, 9, 1))).features.shape == (0, 9, 2)
    assert isinstance(frame, Frame)


SAME = {
    "float64": lambda array: array.astype(np.float64),
    "big-endian": lambda array: array.astype(">f4"),
    "not contiguous": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
    "column by column": np.asfortranarray,
    "backwards": lambda array: array[..., ::-1].copy()[..., ::-1],
    "read only": lambda array: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape),
    "lists": lambda array: array.tolist(),
    "tuples in a deque": lambda array: deque(map(tuple, array.tolist())),
    "nothing masked": lambda array: np.ma.masked_array(array, np.zeros(array.shape, bool)),
}


@pytest.mark.parametrize("kind", SAME)
def test_arrays_of_any_layout_and_width_are_the_same_to_all_calls(model, kind):
    of = SAME[kind]
    np.testing.assert_array_equal(model.encode(of(FEATURES), of(PAST), of(MET)), model.encode(FEATURES, PAST, MET))
    assert_same(model.predict(of(Z), of(PLAN), of(AHEAD)), model.predict(Z, PLAN, AHEAD))
    args = Z, PLAN[:, 0], AHEAD[:, 0]
    assert_same(model.step(*map(of, args))[1], model.step(*args)[1])


@pytest.mark.parametrize("kind", [np.int8, np.uint64, np.bool_, np.float16, np.longdouble])
def test_numbers_of_any_kind_are_numbers(model, kind):
    whole_numbers = (FEATURES > 0).astype(kind)
    np.testing.assert_array_equal(
        model.encode(whole_numbers, PAST, MET), model.encode(whole_numbers.astype(np.float32), PAST, MET)
    )


WRONG = {
    "complex": (lambda array: array.astype(complex), "holds complex numbers, expected real numbers"),
    "text": (lambda array: array.astype(str), "holds text, expected real numbers"),
    "bytes": (lambda array: array.astype("S8"), "holds bytes, expected real numbers"),
    "times": (lambda array: array.astype(int).astype("M8[s]"), "holds times, expected real numbers"),
    "objects": (lambda array: array.astype(object) * 1j, r"holds objects \(complex\), expected real numbers"),
    "none": (lambda array: np.full(array.shape, None), r"holds objects \(NoneType\), expected real numbers"),
    "a mapping": (lambda array: {"x": array}, r"holds objects \(dict\)"),
    "ragged": (lambda array: [[*each] for each in array[:-1]] + [[1] * 9], "is no array of numbers: .*inhomogeneous"),
    "too large": (lambda array: array.astype(np.float64) * 1e300, r"holds \S+e\+\d+, expected at most 3\.40282e\+38"),
    "NaN": (lambda array: array * np.nan, "holds NaN or infinity"),
    "infinity": (lambda array: array / np.float32(0), "holds NaN or infinity"),
    "masked": (lambda array: np.ma.masked_greater(array, -9), "holds NaN or infinity"),
    "masked within lists": (lambda array: [*np.ma.masked_greater(array, -9)], "holds NaN or infinity"),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("at", ["features", "actions", "context", "z", "plan", "ahead", "action", "met"])
@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_finite_number_is_refused(model, kind, at):
    given = {"features": FEATURES, "actions": PAST, "context": MET, "z": Z, "plan": PLAN, "ahead": AHEAD}
    given |= {"action": PLAN[:, 0], "met": AHEAD[:, 0]}
    change, message = WRONG[kind]
    given[at] = change(given[at])
    name = {"plan": "actions", "ahead": "context", "met": "context"}.get(at, at)
    calls = {model.encode: ["features", "actions", "context"], model.predict: ["z", "plan", "ahead"]}
    calls |= {model.step: ["z", "action", "met"]}
    call, names = next((call, names) for call, names in calls.items() if at in names)
    with pytest.raises(ValueError, match=f"^{name} {message}"):
        call(*(given[each] for each in names))


def _answers(model):
    z = model.encode(FEATURES, PAST, MET)
    return [z, *model.predict(z, PLAN, AHEAD), *model.step(z, PLAN[:, 0], AHEAD[:, 0])[1]]


def test_a_copy_and_a_pickle_answer_wherever_they_open(tmp_path):
    model = WorldModel.load(write_bundle(tmp_path / "bundle"), threads=2)
    expected = _answers(model)
    for name in ("encoder", "predictor", "step"):
        (tmp_path / "bundle" / f"{name}.onnx").unlink()
    assert_same(_answers(copy.deepcopy(model)), expected)
    assert_same(_answers(copy.copy(model)), expected)
    assert_same(_answers(pickle.loads(pickle.dumps(model))), expected)
    assert copy.deepcopy(model).graphs["step.onnx"].threads == 2
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert_same(pool.submit(_answers, model).result(timeout=120), expected)
    for found in joblib.Parallel(n_jobs=2)(joblib.delayed(_answers)(model) for _ in range(2)):
        assert_same(found, expected)


FORKED = """
import os, sys, time
import numpy as np
from worldmodel import WorldModel

model = WorldModel.load(sys.argv[1], threads=int(sys.argv[2]))
z, plan, ahead = np.ones((500, 14)), np.ones((500, 50, 3)), np.ones((500, 50, 1))
unused = WorldModel.load(sys.argv[1], threads=4)
expected = model.predict(z, plan, ahead)
children = [os.fork() for _ in range(2)]
if all(children):
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert np.array_equal(model.predict(z, plan, ahead).features, expected.features)
    print(codes)
else:
    found = model.predict(z, plan, ahead)
    sys.exit(7 if all(np.array_equal(*each) for each in zip(found, expected, strict=True)) else 1)
"""


@pytest.mark.parametrize("threads", [1, 4])
def test_a_forked_process_gets_the_same_answers_and_ends(folder, threads):
    command = [sys.executable, "-W", "ignore", "-c", FORKED, str(folder), str(threads)]
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert (done.stdout, done.returncode) == ("[7, 7]\n", 0), done.stderr


def test_sessions_have_the_threads_that_were_asked_for_and_do_not_spin(folder):
    for name in ("encoder", "predictor"):
        options = getattr(WorldModel.load(folder, threads=3), name).get_session_options()
        assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
        for kind in ("intra_op", "inter_op"):
            assert options.get_session_config_entry(f"session.{kind}.allow_spinning") == "0"
