"""Names that others chose, and addresses that open doors, wherever they are shown."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldmodel.core.addresses import known_secrets, public, redacted
from worldmodel.core.text import csv_label, escaped, from_csv_label, in_markdown_code, markdown_cell

NASTY = st.text(st.sampled_from(list("=+-@\t\r;'&<>lt;amp;|`\\\n\x1b\u202e\ud800 aA1.")) | st.characters(), max_size=12)


def test_ordinary_names_stay_as_they_are_everywhere():
    for name in ("agent-23", "R&D", "a->b", "O'Brien", "3; 4", "ä 中 😀", "-0.5", "+1e-3", "train.rho=0.3", "host\\x"):
        assert csv_label(name) == name
        assert escaped(name) == in_markdown_code(name) == name


@given(NASTY)
def test_a_label_is_no_formula_and_no_tag_and_is_read_back(name):
    label = csv_label(name)
    assert from_csv_label(label) == name
    assert "<" not in label
    for cell in re.split("[;\t]", label):
        assert not re.match("[=+@\uff1d\uff0b\uff0d\uff20\r-]", cell) or re.fullmatch(
            r"[+-]?[\d.]+([eE][+-]?\d+)?", name
        )


@given(NASTY, NASTY)
def test_two_names_never_become_one_label(one, other):
    assert (csv_label(one) == csv_label(other)) == (one == other)


@given(NASTY)
def test_what_is_shown_stays_on_its_line_and_in_its_code(name):
    for shown in (escaped(name), in_markdown_code(name), markdown_cell(name)):
        assert shown.splitlines() in ([], [shown])
        assert not re.search("[\x00-\x1f\x7f-\x9f\u202e\ud800-\udfff]", shown)
    assert "`" not in in_markdown_code(name)
    assert not re.search(r"(?<!\\)\|", markdown_cell(name))
    assert re.fullmatch("`[^`]*`|[^`<>\\[\\]@*|:/#!&]*", markdown_cell(name))


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("s3://bucket/folder@v1/a:b", "s3://bucket/folder@v1/a:b"),
        ("http://host:8080/x@y?", "http://host:8080/x@y?"),
        ("http://user:pa55wOrd@host:80/x", "http://***@host:80/x"),
        ("http://user:pa55wOrd@host/x?page=pa55wOrd", "http://***@host/x?***"),
        ("--logs=https://pa55wOrd@host", "--logs=https://***@host"),
        ("s3://AKIA:pa55/wOrd+@bucket/x", "s3://***@bucket/x"),
        ("zip://a.jsonl::https://u:pa55wOrd@h/x.zip?sig=pa55wOrd", "zip://a.jsonl::https://***@h/x.zip?***"),
        ("abfs://c/x?sv=1&sig=pa55wOrd", "abfs://c/x?sv=1&sig=***"),
        ("AccountName=n;AccountKey=pa55wOrd;x", "AccountName=n;AccountKey=***"),
        ("http://us er:pa55'wOrd \"@host/x", "http://***@host/x"),
        (
            "/x?X-Amz-Credential=pa55wOrd&X-Amz-Signature=pa55wOrd&a=1",
            "/x?X-Amz-Credential=***&X-Amz-Signature=***&a=1",
        ),
    ],
)
def test_an_address_is_shown_without_what_opens_the_door(address, shown):
    assert public(address) == shown


def test_a_secret_is_found_in_any_text_once_its_address_is_known(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of/the/environment")
    monkeypatch.setenv("WORLDMODEL_CHECKPOINTS", "s3://key:of-checkpoints@bucket/x")
    secrets = known_secrets(["--logs", "http://user:pa55%20wOrd@host/x?a=presigned"])
    said = "bucket 'user:pa55%20wOrd' or 'pa55 wOrd' of /x?a=presigned of/the/environment of-checkpoints key"
    assert redacted(said, secrets) == "bucket '***' or '***' of /x?*** *** *** key"
    assert redacted(f"'{said}' of http://u:p@h", secrets).endswith(" key' of http://***@h")


def test_a_long_text_takes_no_long_time():
    for text in ("x" * 10**6, "a://" * 10**5, "a:b" * 10**5, "token" * 10**5, "http://" + "@:" * 10**4, "-" * 10**6):
        assert len(redacted(text)) <= len(text)
