"""Axes and the drawings on them."""

import math
from xml.etree import ElementTree

import pytest

from worldmodel.report.axis import frames, linear, logarithmic
from worldmodel.report.chart import Band, Chart, Dots, Line, Steps
from worldmodel.report.markup import tag
from worldmodel.report.wording import number, percent

X = linear("x", [0, 10], 0)
Y = linear("y", [0, 4], 0)


def drawn(mark):
    tree = ElementTree.fromstring(tag("g", mark.draw(X, Y)))
    return [path.get("d") for path in tree.iter("path")]


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0, 10], (0, 2, 4, 6, 8, 10)),
        ([-0.031, 0.049], (-0.02, 0, 0.02, 0.04)),
        ([math.nan, 3, math.inf], (2.9, 3, 3.1)),
        ([], (0, 0.5, 1)),
    ],
)
def test_ticks_are_round_numbers_within_the_axis(values, ticks):
    axis = linear("", values)
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)
    assert 3 <= len(axis.ticks) <= 8
    assert all(len(axis.text(tick)) <= 5 for tick in axis.ticks)


@pytest.mark.parametrize("values", [[1e-5, 2e4], [0.0285, 2.1], [0.6, 0.8], [3.0]])
def test_a_logarithmic_axis_has_a_few_ticks_whatever_it_spans(values):
    axis = logarithmic("", values)
    assert 2 <= len(axis.ticks) <= 10
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)
    assert axis.place(math.sqrt(axis.low * axis.high)) == pytest.approx(0.5)


def test_where_nothing_is_above_zero_there_is_no_logarithm():
    assert not logarithmic("", [0.0, 0.0]).logarithmic


def test_frames_are_whole_numbers_from_the_first_on():
    assert frames("", 1, 16).ticks == (1, 5, 10, 15)
    assert frames("", 8, 199).ticks == (8, 50, 100, 150)
    assert frames("", 3, 3).ticks == (3, 4)


def test_what_lies_beyond_an_axis_is_drawn_at_its_end():
    assert (X.place(-5), X.place(5), X.place(50)) == (0, 0.5, 1)


def test_a_line_starts_anew_behind_a_gap():
    assert drawn(Line((0, 5, 6, 7, 10), (4, 2, math.nan, 1, 0), "model")) == ["M0 0L500 500M700 750L1000 1000"]


def test_a_band_goes_along_one_edge_and_back_along_the_other_in_each_piece():
    found = drawn(Band((0, 1, 2, 3), (1, 1, math.nan, 0), (2, 3, 4, 4), "model"))
    assert found == ["M0 750L100 750L100 250L0 500zM300 1000L300 0z"]


def test_dots_with_titles_are_a_path_each_and_those_without_one_path():
    assert drawn(Dots((0, 10), (0, 4), "model")) == ["M0 1000h0M1000 0h0"]
    assert drawn(Dots((0, 10), (0, 4), "model", titles=("a", "b"))) == ["M0 1000h0", "M1000 0h0"]


def test_a_histogram_stands_on_zero():
    outline = "M0 1000L0 500L500 500L500 0L1000 0L1000 1000"
    assert drawn(Steps((0, 5, 10), (2, 4), "real")) == [outline, outline]


def test_a_chart_has_its_words_beside_the_drawing():
    chart = Chart("A <title>", "It says.", X, Y, [Line((0, 1), (0, 1), "model", "a & b"), Line((0, 1), (1, 1), "hold")])
    tree = ElementTree.fromstring(chart.render())
    assert tree.find("figcaption").text == "A <title>"
    assert [each.text for each in tree.iter("bdi")] == ["a & b"]
    assert tree.find(".//div[@role='img']").get("aria-label") == "It says."
    assert {each.text for each in tree.iter("span") if each.text} == {"0", "1", "2", "3", "4", "6", "8", "10"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.05844, "0.0584"),
        (0.12, "0.120"),
        (-1.5, "\u22121.50"),
        (123.4, "123"),
        (26885.4, "26,885"),
        (9e-6, "9e\u221206"),
    ],
)
def test_numbers_have_three_digits_and_are_written_out(value, text):
    assert number(value) == text


def test_a_share_is_not_broken_from_its_sign():
    assert percent(0.7477) == "74.8\u202f%"
