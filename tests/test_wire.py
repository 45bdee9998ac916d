import base64
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from worldmodel import latent, wire
from worldmodel.worldmodel_pb2 import InputState, LatentZ, Plan, Prediction

floats = st.floats(width=32)
latents = arrays(np.float32, st.integers(1, 80), elements=floats)


@given(latents, st.text(max_size=12))
def test_bytes_base64_and_messages_keep_every_bit(z, run_id):
    found = wire.from_bytes(wire.to_bytes(z))
    assert (found.dtype, found.tobytes()) == (np.float32, z.tobytes())
    text = wire.to_base64(z)
    assert text.isascii()
    assert wire.from_base64(text).tobytes() == z.tobytes()
    message = LatentZ.FromString(wire.to_message(z, run_id).SerializeToString())
    assert wire.from_message(message).tobytes() == z.tobytes()
    assert message.run_id == run_id


def test_bytes_are_little_endian_float32_and_become_an_array_of_ones_own():
    assert wire.to_bytes(np.array([1.5, -2.0], np.float32)) == struct.pack("<2f", 1.5, -2.0)
    assert wire.to_bytes(np.array([1.5, -2.0], ">f4")) == struct.pack("<2f", 1.5, -2.0)
    assert wire.to_bytes(np.arange(6, dtype=np.float32)[::2]) == struct.pack("<3f", 0, 2, 4)
    assert wire.to_base64(np.array([1.0], np.float32)) == "AACAPw=="
    found = wire.from_bytes(struct.pack("<f", 1))
    found += 1
    assert found.tolist() == [2]


@pytest.mark.parametrize("data", [b"", b"abc", b"abcde"])
def test_other_lengths_are_refused(data):
    with pytest.raises(ValueError, match=f"a latent of {len(data)} bytes, expected 4 bytes for each"):
        wire.from_bytes(data)


@pytest.mark.parametrize("text", ["AACAPw=", "AACA Pw==", "AACAPw==\n", "ä"])
def test_text_that_is_no_base64_is_refused(text):
    with pytest.raises(ValueError, match=r"no base64|ASCII"):
        wire.from_base64(text)


def test_base64_of_a_broken_latent_is_refused():
    with pytest.raises(ValueError, match="a latent of 3 bytes"):
        wire.from_base64(base64.b64encode(b"abc").decode())


@given(
    st.integers(1, 5).flatmap(
        lambda h: st.tuples(
            arrays(np.float32, st.tuples(st.just(h), st.integers(1, 4)), elements=floats),
            st.none() | arrays(np.float32, st.tuples(st.just(h - 1), st.integers(1, 3)), elements=floats),
        )
    ),
    st.text(max_size=8),
)
def test_an_input_state_keeps_every_bit_on_the_wire(history, agent_id):
    features, actions = history
    message = InputState.FromString(wire.to_input_state(agent_id, features, actions).SerializeToString())
    found_features, found_actions = wire.from_input_state(message)
    assert message.agent_id == agent_id
    assert (found_features.shape, found_features.tobytes()) == (features.shape, features.tobytes())
    if actions is None:
        assert found_actions is None
    else:
        assert (found_actions.shape, found_actions.tobytes()) == (actions.shape, actions.tobytes())


def test_context_missing_readings_and_float64_keep_every_bit_on_the_wire():
    features, context = np.array([[4.5e6 + 0.01, np.nan], [1, 2]]), np.array([[7.5]], np.float32)
    message = InputState.FromString(wire.to_input_state("a", features, None, context, wide=True).SerializeToString())
    found, actions = wire.from_input_state(message)
    assert (found.dtype, found.tobytes(), actions) == (np.float64, features.tobytes(), None)
    np.testing.assert_array_equal(wire.context_of(message), context)
    assert wire.context_of(state()) is None
    with pytest.raises(ValueError, match="2 frames and 2 context between them, expected 1 context"):
        wire.to_input_state("a", features, None, np.zeros((2, 1), np.float32))


def test_a_single_frame_travels_with_the_context_that_it_was_seen_in():
    features, context = np.ones((1, 2), np.float32), np.array([[7.5]], np.float32)
    message = InputState.FromString(wire.to_input_state("a", features, None, context).SerializeToString())
    np.testing.assert_array_equal(wire.context_of(message), context)
    assert wire.from_input_state(message)[0].shape == (1, 2)
    assert wire.context_of(wire.to_input_state("a", features, None, context[:0])).shape == (0, 1)
    with pytest.raises(ValueError, match="1 frames and 2 context between them, expected 0 context"):
        wire.to_input_state("a", features, None, np.zeros((2, 1), np.float32))


def state(**fields):
    message = wire.to_input_state("a", np.zeros((3, 2), np.float32), np.zeros((2, 1), np.float32))
    for name, value in fields.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"features": bytes(20)}, r"features holds 20 bytes, expected float32 \[3, 2\]"),
        ({"history": 2}, r"features holds 24 bytes, expected float32 \[2, 2\]"),
        ({"actions": bytes(12)}, r"actions holds 12 bytes, expected float32 \[2, 1\]"),
        ({"action_count": 0}, r"actions holds 8 bytes, expected float32 \[2, 0\]"),
        ({"history": 0, "features": b"", "actions": b""}, r"expected float32 \[-1, 1\]"),
    ],
)
def test_sizes_that_do_not_fit_the_bytes_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        wire.from_input_state(state(**fields))


def test_actions_are_one_fewer_than_frames():
    with pytest.raises(ValueError, match="3 frames and 3 actions between them, expected 2 actions"):
        wire.to_input_state("a", np.zeros((3, 2), np.float32), np.zeros((3, 1), np.float32))


def test_the_old_name_still_works():
    assert latent.to_bytes is wire.to_bytes


def test_plans_and_predictions_keep_every_bit_on_the_wire_and_wrong_sizes_are_refused():
    z, actions, context = (np.random.default_rng(0).normal(size=n).astype(np.float32) for n in (5, (4, 2), (4, 1)))
    for known in ((actions, context), (actions, None), (None, context)):
        plan = Plan.FromString(wire.to_plan(z, *known, run_id="abc").SerializeToString())
        assert plan.z.run_id == "abc"
        for found, sent in zip(wire.from_plan(plan), (z, *known), strict=True):
            assert found is sent is None or np.array_equal(found, sent)
    for kind in (np.float32, np.float64):
        future = {"features": actions.astype(kind) + 1e-9, "std": actions, "reward": z[:4]}
        message = Prediction.FromString(wire.to_prediction(future, "abc").SerializeToString())
        found = wire.from_prediction(message)
        assert (found.keys(), message.run_id, found["features"].dtype) == (future.keys(), "abc", kind)
        assert all(np.array_equal(found[name], future[name]) for name in future)
    message.reward = message.reward[4:]
    with pytest.raises(ValueError, match=r"Prediction\.reward holds 12 bytes, expected float32 \[4, 1\]"):
        wire.from_prediction(message)
    plan.context = b""
    with pytest.raises(ValueError, match=r"Plan\.context holds 0 bytes, expected float32 \[4, 1\]"):
        wire.from_plan(plan)
