"""Lines of one form -> numbers and places of texts, compiled: what each byte of a line may be is looked at once.

A line is what its form says, byte for byte, and one value in each of the form's slots. Numbers follow JSON's grammar,
fit float32 and are rounded as Python's float rounds them. Where any of it fails, reading stops there.
"""

from fractions import Fraction
from typing import Any

import numpy as np
from numba import njit

from worldmodel.episodes.frame import FLOAT32_MAX, MAX_ACTIONS

NUMBER, WHOLE, TEXT, OBJECT = range(4)  # kinds of slots; WHOLE: an action that is one of MAX_ACTIONS
NEW_LINE, QUOTE, BACKSLASH, PLUS, MINUS, POINT = b'\n"\\+-.'
ZERO, NINE, SMALL_E, LARGE_E = b"09eE"
OPENING, CLOSING = (ord("{"), ord("[")), (ord("}"), ord("]"))
MOST_DIGITS = 19  # decimal digits that 64 bits hold whatever they are
MOST_POWER_DIGITS = 4
EXACT, EXACT_POWER = np.uint64(2**53), 22  # integers up to the one and powers of ten up to the other are float64
FAR = 250  # powers of ten whose products with any 19 digits are far from float64's ends
SPLITTER = 2.0**27 + 1  # Dekker, A floating-point technique for extending the available precision, 1971
DOUBT = 2.0**-90  # of a product of pairs, more than its error relative to it
LOW = np.uint64(2047)  # bits of 64 without which the rest is a float64
_POWERS = [Fraction(10) ** power for power in range(-FAR, FAR + 1)]
TENS = np.array([[float(power), float(power - Fraction(float(power)))] for power in _POWERS])  # as sums of pairs
# Nothing here makes an array, and counting references to those given, at each number, would double the time.
_UNCOUNTED: dict[str, Any] = {"_nrt": False}
_inlined = njit(inline="always", **_UNCOUNTED)


@njit(cache=True, nogil=True, **_UNCOUNTED)
def scan(data, begin, literals, bounds, kinds, numbers, spans, same):  # type: ignore[no-untyped-def]
    """Read lines from `begin` on, at most as many as `numbers` has rows -> (lines read, where they end).

    data: bytes, the last one a line break. literals[bounds[k]:bounds[k + 1]] stand before slot k, the last ones at the
    line's end; kinds[k] says what slot k holds. Filled for each line: numbers [N, C], spans [N, S, 2] (where texts and
    objects lie), same [N, S] (whether that text is the one of the line before).
    """
    lines, place = 0, begin
    while lines < len(numbers) and place < len(data):
        start, column, text = place, 0, 0
        for slot in range(len(kinds) + 1):
            first, last = bounds[slot], bounds[slot + 1]
            if not _equal(data, place, literals, first, last):
                return lines, start
            place += last - first
            if slot == len(kinds):
                break
            kind = kinds[slot]
            if kind <= WHOLE:
                value, place = _whole(data, place) if kind == WHOLE else _number(data, place)
                if not abs(value) < FLOAT32_MAX:
                    return lines, start
                numbers[lines, column] = value
                column += 1
            else:
                end = -1
                if lines:
                    first, last = spans[lines - 1, text, 0], spans[lines - 1, text, 1]
                    if _equal(data, place, data, first, last + 1):  # with what follows it, so that it ends there too
                        end = place + last - first
                same[lines, text] = end >= 0
                if end < 0:
                    end = _text_end(data, place) if kind == TEXT else _object_end(data, place)
                spans[lines, text, 0], spans[lines, text, 1] = place, end
                place = end
                text += 1
            if place < 0:
                return lines, start
        lines += 1
    return lines, place


@_inlined
def _equal(data, place, expected, first, last):  # type: ignore[no-untyped-def]
    if place + last - first > len(data):
        return False
    while first < last:
        if _byte(data, place) != _byte(expected, first):
            return False
        place, first = place + 1, first + 1
    return True


@_inlined
def _byte(data, place):  # type: ignore[no-untyped-def]
    """Unsigned, since numba asks of each signed place whether it counts from the end."""
    return data[np.uint64(place)]


@_inlined
def _text_end(data, place):  # type: ignore[no-untyped-def]
    """Where the quote is that ends a text; -1 where none does on its line."""
    while place < len(data) and _byte(data, place) != NEW_LINE:
        if _byte(data, place) == QUOTE:
            return place
        place += 2 if _byte(data, place) == BACKSLASH else 1
    return -1


@_inlined
def _object_end(data, place):  # type: ignore[no-untyped-def]
    """Where an object has ended, if it is one; -1 where it does not on its line."""
    depth = 0
    while place < len(data) and _byte(data, place) != NEW_LINE:
        byte = _byte(data, place)
        place += 1
        if byte == QUOTE:
            end = _text_end(data, place)
            if end < 0:
                return end
            place = end + 1
        elif byte in OPENING:
            depth += 1
        elif byte in CLOSING:
            depth -= 1
            if depth <= 0:
                return place
    return -1


@_inlined
def _whole(data, place):  # type: ignore[no-untyped-def]
    """Value and end of an integer from 0 to MAX_ACTIONS - 1; the end is -1 where there is none."""
    value, end = 0, place
    while ZERO <= _byte(data, end) <= NINE and value < MAX_ACTIONS:
        value = 10 * value + (_byte(data, end) - ZERO)
        end += 1
    if end == place or value >= MAX_ACTIONS or (_byte(data, place) == ZERO and end > place + 1):
        return 0.0, -1
    return float(value), end


@_inlined
def _number(data, place):  # type: ignore[no-untyped-def]
    """Value and end of a number as JSON has it; the end is -1 where there is none, or none that is surely right."""
    negative = _byte(data, place) == MINUS
    begin = place + negative
    mantissa, power, integer = np.uint64(0), 0, True
    end = begin
    byte = _byte(data, end)
    while ZERO <= byte <= NINE:
        mantissa = mantissa * np.uint64(10) + np.uint64(byte - ZERO)
        end += 1
        byte = _byte(data, end)
    digits = end - begin
    if digits == 0 or (digits > 1 and _byte(data, begin) == ZERO):
        return 0.0, -1
    if byte == POINT:
        end += 1
        after = end
        byte = _byte(data, end)
        while ZERO <= byte <= NINE:
            mantissa = mantissa * np.uint64(10) + np.uint64(byte - ZERO)
            end += 1
            byte = _byte(data, end)
        power, integer = after - end, False
        digits -= power
        if power == 0:
            return 0.0, -1
    if digits > MOST_DIGITS:
        after = begin
        while _byte(data, after) == ZERO or _byte(data, after) == POINT:  # before the first digit that counts
            digits -= _byte(data, after) == ZERO
            after += 1
        if digits > MOST_DIGITS:
            return 0.0, -1
    if byte in (SMALL_E, LARGE_E):
        end += 1
        byte = _byte(data, end)
        down = byte == MINUS
        end += down or byte == PLUS
        after, given = end, 0
        byte = _byte(data, end)
        while ZERO <= byte <= NINE and end < after + MOST_POWER_DIGITS:
            given = 10 * given + (byte - ZERO)
            end += 1
            byte = _byte(data, end)
        if end == after or ZERO <= byte <= NINE:
            return 0.0, -1
        power, integer = power + (-given if down else given), False
    value, certain = _scaled(mantissa, power)
    if not certain:
        return 0.0, -1
    if not mantissa and integer:  # Python's -0 is 0
        return 0.0, end
    return value * (1.0 - 2.0 * negative), end


@_inlined
def _scaled(mantissa, power):  # type: ignore[no-untyped-def]
    """mantissa * 10^power, and whether it is certainly the float64 closest to that."""
    if not mantissa:
        return 0.0, True
    if mantissa <= EXACT and -EXACT_POWER <= power <= EXACT_POWER:
        exact = float(mantissa)
        return (exact / TENS[FAR - power, 0] if power < 0 else exact * TENS[FAR + power, 0]), True
    if not -FAR <= power <= FAR:
        return 0.0, False
    rounded_off = np.uint64(0) if mantissa <= EXACT else mantissa & LOW
    high, low = float(mantissa - rounded_off), float(rounded_off)
    ten, rest = TENS[FAR + power, 0], TENS[FAR + power, 1]
    product, error = _product(high, ten)
    error += low * ten + high * rest
    found = product + error
    left, doubt = (product - found) + error, abs(found) * DOUBT
    return found, found + (left + doubt) == found and found + (left - doubt) == found


@_inlined
def _product(one, other):  # type: ignore[no-untyped-def]
    """The product and its rounding error, which together are exact."""
    product = one * other
    scaled, other_scaled = SPLITTER * one, SPLITTER * other
    one_high, other_high = scaled - (scaled - one), other_scaled - (other_scaled - other)
    one_low, other_low = one - one_high, other - other_high
    error = one_low * other_low - (((product - one_high * other_high) - one_low * other_high) - one_high * other_low)
    return product, error
