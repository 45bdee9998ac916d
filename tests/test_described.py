import pytest

from factories import make_episodes, make_intake, write_logs
from worldmodel.cli.check_logs import check
from worldmodel.episodes.columns import NAMELESS, Column, Columns
from worldmodel.episodes.schema import ActionSpace, Episode
from worldmodel.linting.remarks import Limits
from worldmodel.logs.described import as_yaml, columns_of, fitted, read_columns
from worldmodel.logs.ingest import ingest
from worldmodel.logs.reader import read_logs
from worldmodel.readers import csv

CONTINUOUS, DISCRETE = ActionSpace("continuous", 2), ActionSpace("discrete", 3)
WHOLE = Columns(
    (Column("x: 1", "m"), Column("é", "radians", "angle"), Column("", "", "category")),
    (Column("yes"), Column("1e3")),
    (Column("hour"),),
)


def described(folder, text):
    (folder / "features.yaml").write_text(text, encoding="utf-8")
    return folder


def test_what_is_written_is_read_back_also_beside_a_file_and_at_an_address(tmp_path):
    described(tmp_path, as_yaml(WHOLE))
    write_logs(tmp_path, make_episodes(1))
    for place in (tmp_path, tmp_path / "log.jsonl", f"file://{tmp_path}", f"file://{tmp_path}/log.jsonl"):
        assert read_columns(place) == WHOLE
    (tmp_path / "features.yaml").unlink()
    for place in (tmp_path, f"file://{tmp_path}"):
        assert read_columns(place) == NAMELESS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("features: [{name: x, kind: round}]", r"features\.0\.kind: expected 'value', .* found 'round'"),
        ("features: [{name: x, kind: angle}]", r"features\.0: .*unit: found '', expected degrees or radians"),
        ("features: [{name: x, range: 3}]", r"features\.0\.range: unknown key"),
        ("colors: [x]", "colors: unknown key"),
        ("features: x", r"features: expected a valid tuple, found 'x'"),
        ("features: [3]", r"features\.0: .*found 3"),
        ("- x", r"holds list, expected features, actions, context"),
        ("features: [x", "not YAML"),
    ],
)
def test_a_mistake_is_named_by_file_and_key(tmp_path, text, message):
    with pytest.raises(ValueError, match=rf"^\S*features\.yaml: {message}"):
        read_columns(described(tmp_path, text))


def test_other_numbers_of_names_than_frames_hold_are_refused():
    assert fitted(WHOLE, 3, CONTINUOUS, 1) == WHOLE
    for counts, message in (
        ((2, CONTINUOUS, 1), r"features: found 3 .*, expected 2 as frames hold"),
        ((3, ActionSpace("none", 0), 1), "actions: found 2 .*, expected 0"),
        ((3, CONTINUOUS, 0), r"context: found 1 \(hour\), expected 0"),
    ):
        with pytest.raises(ValueError, match=message):
            fitted(WHOLE, *counts)


def test_an_integer_action_has_one_name_or_one_for_each_choice_and_no_kind():
    one, each = Columns(actions=(Column("gear"),)), Columns(actions=(Column("up"), Column("down"), Column("stay")))
    assert [column.name for column in fitted(one, 2, DISCRETE, 0).actions] == ["gear 0", "gear 1", "gear 2"]
    assert fitted(each, 2, DISCRETE, 0) == each
    with pytest.raises(ValueError, match="actions: found a kind, expected none where an action is an integer"):
        fitted(Columns(actions=(Column("up", "", "category"),) * 3), 2, DISCRETE, 0)


def test_two_folders_that_name_a_column_differently_are_both_named(tmp_path):
    folders = [write_logs(tmp_path / name, make_episodes(1)) for name in ("one", "two")]
    described(folders[0], "features: [x, y]")
    assert columns_of(folders) == Columns((Column("x"), Column("y")))
    described(folders[1], "features: [x, z]\nactions: [a, b, c]")
    with pytest.raises(ValueError, match=r"of \S+one and features.yaml of \S+two: features are called x, y and x, z"):
        columns_of(folders)


def table(folder, name, columns):
    """A CSV file of two frames, and its map."""
    (folder / name).write_text(f"t,{','.join(columns)}\n0,1,2\n1,3,4\n")
    (folder / f"{name}.yaml").write_text(f"timestamp: t\nfeatures: [{', '.join(columns)}]\n")


def named(place):
    return columns_of([place], read_logs([place], 60.0).named.items())


def test_a_file_of_another_format_names_its_columns_unless_features_yaml_does(tmp_path, monkeypatch):
    table(tmp_path, "a.csv", ["x", "y"])
    write_logs(tmp_path, make_episodes(1))
    for place in (tmp_path, f"file://{tmp_path}"):
        assert named(place).features == (Column("x"), Column("y"))
    opened = list[object]()
    read = csv.episodes
    monkeypatch.setattr(csv, "episodes", lambda source: opened.append(source) or read(source))
    intake = make_intake(val_share=0.0, test_share=0.0)
    assert ingest([tmp_path / "a.csv"], intake, Episode.whole).columns.features == (Column("x"), Column("y"))
    check(tmp_path / "a.csv", Limits(intake, 1, 1))
    assert len(opened) == 2  # once each
    table(tmp_path, "b.csv", ["x", "z"])
    with pytest.raises(ValueError, match=r"a\.csv and b\.csv: features are called x, y and x, z, expected the same"):
        named(tmp_path)
    assert named(described(tmp_path, "features: [u, v]")).features == (Column("u"), Column("v"))
