"""Numbers as Python reads them, to the last bit; and what is no number of JSON is left alone."""

import math
import re
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldmodel.logs.scanning import NUMBER, WHOLE, scan

JSON = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def scanned(text, kind=NUMBER):
    """The number of a line `[text]`; None where it was not read."""
    data = np.frombuffer(b"[" + text.encode() + b"]\n", np.uint8)
    numbers, spans, same = np.full((1, 1), np.nan), np.zeros((1, 0, 2), np.int64), np.zeros((1, 0), np.bool_)
    literals = np.frombuffer(b"[]\n", np.uint8)
    lines, end = scan(data, 0, literals, np.array([0, 1, 3]), np.array([kind]), numbers, spans, same)
    assert (lines, end) in ((0, 0), (1, len(data)))
    return float(numbers[0, 0]) if lines else None


def bits(value):
    return struct.pack("<d", value)


floats = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)


@settings(max_examples=2000)
@given(floats.filter(lambda x: x == 0 or 1e-230 < abs(x) < 3e38))
def test_the_shortest_text_of_any_float_gives_that_float(value):
    assert bits(scanned(repr(value))) == bits(value)


@settings(max_examples=2000)
@given(st.integers(0, 10**19 - 1), st.integers(-260, 38), st.booleans())
def test_any_digits_and_power_are_rounded_as_python_rounds_them_or_left_alone(digits, power, negative):
    text = f"{'-' * negative}{digits}e{power}"
    found = scanned(text)
    assert found is None or bits(found) == bits(float(text))


def test_hardly_any_number_is_left_alone():
    rng = np.random.default_rng(0)
    digits, powers = rng.integers(0, 10**18, 2000), rng.integers(-250, 20, 2000)
    assert all(scanned(f"{number}e{power}") is not None for number, power in zip(digits, powers, strict=True))


@pytest.mark.parametrize("exponent", [*range(-60, 60, 7), 53, 54])
def test_what_lies_halfway_between_two_floats_is_never_rounded_wrongly(exponent):
    for odd in (1, 3, 12345, 2**52 + 1, 2**53 - 1):
        low = math.ldexp(float(odd), exponent)
        text = f"{(low + math.nextafter(low, math.inf)) / 2:.18e}"  # nearly halfway
        assert scanned(text) in (None, float(text))
    assert scanned("9007199254740993") in (None, 9007199254740992.0)  # exactly halfway
    assert scanned("9007199254740995") in (None, 9007199254740996.0)


@settings(max_examples=1000)
@given(st.text("0123456789.eE+-", min_size=0, max_size=9))
def test_only_what_json_calls_a_number_is_read(text):
    found = scanned(text)
    if not JSON.fullmatch(text):
        assert found is None
    elif found is not None:
        integer = "." not in text and "e" not in text.lower()
        assert bits(found) == bits(float(int(text)) if integer else float(text))


@pytest.mark.parametrize("text", ["0", "-0", "-0.0", "7", "12", "0.1", "1e5", "1E+5", "1e-05", "0e9", "0.000", "120"])
def test_common_texts_are_read(text):
    assert scanned(text) is not None


@pytest.mark.parametrize("text", ["0.00012345678901234567", "-0.012345678901234567", "1700000000.123456789"])
def test_zeros_before_the_digits_that_count_do_not_count(text):
    assert bits(scanned(text)) == bits(float(text))


@pytest.mark.parametrize(
    "text",
    ["1" * 20, "0." + "1" * 20, "1e39", "3.4028236e38", "1e400", "1e10000", "1e99999", "1e-400", "NaN", "null"],
)
def test_what_may_be_rounded_wrongly_or_exceeds_float32_is_left_alone(text):
    assert scanned(text) is None


@pytest.mark.parametrize("text", ["0", "1", "10", "4095"])
def test_an_action_is_a_small_integer(text):
    assert scanned(text, WHOLE) == int(text)


@pytest.mark.parametrize("text", ["", "00", "01", "-1", "4096", "40950", "1.0", "1e2", "99999999999999999999"])
def test_what_is_no_small_integer_is_no_action(text):
    assert scanned(text, WHOLE) is None
