import gzip
import json

import pytest
import zstandard

from lines import frame, log, read, reasons, times
from worldmodel.logs import blocks as module
from worldmodel.logs.blocks import read_blocks
from worldmodel.logs.files import LogFile

WHOLE = b"".join(json.dumps(frame(t)).encode() + b"\n" for t in range(3))
PACKED = gzip.compress(WHOLE, mtime=0)
MESSAGE = "unreadable gzip from here on: "


def blocks(path):
    return list(read_blocks(LogFile(path.name, path)))


def test_lines_come_in_order_whatever_the_size_of_a_block(tmp_path, monkeypatch):
    text = b"".join(b"%d\n" % number * (number % 7) for number in range(300)) + b"the end"
    for name, content in (("a.jsonl", text), ("a.jsonl.gz", gzip.compress(text, mtime=0))):
        (tmp_path / name).write_bytes(content)
        for size in (1, 2, 7, 64, 10**6):
            monkeypatch.setattr(module, "BLOCK_BYTES", size)
            found = blocks(tmp_path / name)
            assert b"".join(block.data for block in found) == text
            assert all(block.data.endswith(b"\n") for block in found[:-1])
            counted = 1
            for block in found:
                assert block.first == counted
                counted += block.data.count(b"\n")
            assert found[-1].read >= len(content) - 16  # a gzip ends in a few bytes without text


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: b"\n \n" + text.replace(b"\n", b"\n\t\r\n"),
        lambda text: text.removesuffix(b"\n"),
    ],
    ids=["byte order mark", "CRLF", "blank lines", "no last line break"],
)
def test_what_editors_and_other_systems_do_to_text_changes_nothing(tmp_path, change):
    (tmp_path / "log.jsonl").write_bytes(change(WHOLE))
    logs = read(tmp_path)
    assert not logs.rejects
    assert times(logs) == [("a", "@0.0", 0, [0, 1, 2])]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (WHOLE[:-20], "3: not JSON: Unterminated string starting at at column 35, near 'tamp\": 2, \"fea'"),
        (WHOLE + bytes(4096), "4: not text: a NUL byte at position 1; the file was cut or overwritten"),
        (WHOLE + b'{"agent_id": "\xc3', "4: not UTF-8: byte 0xc3 at position 15"),
        (WHOLE + b'{"meta": {"x": 1e999}}', "4: not readable: a number of 5 characters, expected one within float64"),
    ],
)
def test_what_a_crash_leaves_in_a_file_is_named(tmp_path, content, reason):
    (tmp_path / "log.jsonl").write_bytes(content)
    logs = read(tmp_path)
    assert reasons(logs)[0].startswith(f"log.jsonl:{reason}")
    assert sum(episode.length for episode in logs.episodes) >= 2


def test_a_byte_order_mark_within_a_file_is_refused_even_where_a_block_begins(tmp_path, monkeypatch):
    (tmp_path / "log.jsonl").write_bytes(WHOLE + b"\xef\xbb\xbf" + WHOLE.replace(b'"a"', b'"b"'))
    for size in (module.BLOCK_BYTES, len(WHOLE)):
        monkeypatch.setattr(module, "BLOCK_BYTES", size)
        assert reasons(read(tmp_path))[0].startswith("log.jsonl:4: not JSON: a byte order mark, expected only at the s")


def test_a_line_of_100_mb_is_refused_and_the_rest_is_read(tmp_path):
    with (tmp_path / "log.jsonl").open("wb") as stream:
        stream.write(WHOLE + b'{"agent_id": "')
        for _ in range(100):
            stream.write(b"a" * 10**6)
        stream.write(b'"}\n' + json.dumps(frame(3)).encode())
    logs = read(tmp_path)
    assert reasons(logs) == [f"log.jsonl:4: {module.TOO_LONG}"]
    assert [each for *_, each in times(logs)] == [[0, 1, 2], [3]]


@pytest.mark.parametrize("cut", [1, 4, 8, 20])
def test_a_gzip_that_breaks_off_is_named_and_its_whole_lines_are_kept(tmp_path, cut):
    (tmp_path / "a.jsonl.gz").write_bytes(PACKED[:-cut])
    (tmp_path / "b.jsonl").write_bytes(WHOLE)
    logs = read(tmp_path)
    assert len(logs.rejects) == 1
    assert reasons(logs)[0].endswith(MESSAGE + "it breaks off before its end")
    kept = {episode.length for episode in logs.episodes}
    assert kept == ({3} if cut <= 8 else {1, 3})


def test_a_gzip_that_is_none_or_was_changed_is_named(tmp_path):
    for content, line, part in (
        (b"not gzip at all", 1, "header"),
        (PACKED + b"garbage behind", 4, "header"),
        (PACKED[:-8] + bytes(8), 1, "data"),
    ):
        (tmp_path / "a.jsonl.gz").write_bytes(content)
        reason = f"Error -3 while decompressing data: incorrect {part} check"
        assert reasons(read(tmp_path)) == [f"a.jsonl.gz:{line}: {MESSAGE}{reason}"]


def test_a_gzip_of_several_members_and_padding_is_one_file(tmp_path):
    lines = WHOLE.splitlines(keepends=True)
    (tmp_path / "a.jsonl.gz").write_bytes(b"".join(map(gzip.compress, lines)) + bytes(512))
    assert times(read(tmp_path)) == [("a", "@0.0", 0, [0, 1, 2])]


@pytest.mark.parametrize("filling", [b"\n", b" "], ids=["many lines", "one line"])
def test_a_gzip_bomb_is_refused_before_it_unpacks(tmp_path, monkeypatch, filling):
    monkeypatch.setattr(module, "ALWAYS_UNPACKED", 10**6)
    with gzip.open(tmp_path / "bomb.jsonl.gz", "wb", compresslevel=1) as stream:
        stream.write(WHOLE)
        stream.write(filling * 4_000_000)
    logs = read(tmp_path)
    reason = "unpacks to more than 200 times its size; if it is a log, unpack it"
    assert reasons(logs)[-1].endswith(reason)
    assert logs.episodes[0].length == 3


def test_zstd_is_read_as_gzip_is_broken_or_whole_and_a_bomb_is_refused(tmp_path):
    plain, tmp_path = tmp_path / "plain", tmp_path / "packed"
    plain.mkdir()
    tmp_path.mkdir()
    frames = [frame(t) for t in range(4000)]
    text = "".join(json.dumps(each) + "\n" for each in frames).encode()
    packed = zstandard.compress(text[:5000]) + zstandard.compress(text[5000:])  # two of zstd's frames
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(packed)
    assert times(read(tmp_path)) == times(read(log(plain, *frames)))
    path.write_bytes(packed[:-5])
    assert reasons(read(tmp_path))[0].endswith("unreadable zstd from here on: it breaks off before its end")
    path.write_bytes(b"not zstd at all")
    assert reasons(read(tmp_path))[0].startswith("a.jsonl.zst:1: unreadable zstd from here on: ")
    path.write_bytes(zstandard.compress(bytes(1 << 27)))
    assert reasons(read(tmp_path)) == [
        "a.jsonl.zst:1: unpacks to more than 200 times its size; if it is a log, unpack it"
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (WHOLE.decode().encode("utf-16"), "UTF-16, expected UTF-8; convert it: iconv -f UTF-16 -t UTF-8"),
        (WHOLE.decode().encode("utf-16-be"), "UTF-16, expected UTF-8; convert it: iconv -f UTF-16 -t UTF-8"),
        (WHOLE.decode().encode("utf-16-le"), "UTF-16, expected UTF-8; convert it: iconv -f UTF-16 -t UTF-8"),
        (b"\n<!DOCTYPE html>\n<p>Sign in</p>\n" * 50, "an HTML page, expected a log of lines"),
        (b"<html><body>\n" * 50, "an HTML page, expected a log of lines"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_what_is_no_log_of_utf8_at_all_is_said_once(tmp_path, content, reason, packed):
    (tmp_path / ("a.jsonl.gz" if packed else "a.jsonl")).write_bytes(gzip.compress(content) if packed else content)
    log(tmp_path, frame(0), name="b.jsonl")
    (found,) = reasons(read(tmp_path))
    assert found.partition(".jsonl")[2].removeprefix(".gz").startswith(f":1: {reason}")
