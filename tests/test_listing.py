import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldmodel.core import listing
from worldmodel.core.listing import read_listing, write_listing

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(st.text(), values, max_size=4)


@given(objects, st.lists(objects.filter(bool), min_size=1, max_size=4), st.integers(1, 3))
def test_the_text_is_that_of_json(tmp_path_factory, head, items, pad):
    path = tmp_path_factory.mktemp("listing") / "a.json"
    write_listing(path, head, "items", iter(items), pad)
    whole = {**head, "items": items}
    assert path.read_text() == json.dumps(whole, sort_keys=True, indent=pad) + "\n"


@pytest.mark.parametrize("odd", ['\n "items": []', '"items": []', {"items": []}])
def test_the_head_may_hold_what_looks_like_the_list(tmp_path, odd):
    write_listing(tmp_path / "a.json", {"a": odd, "z": odd}, "items", [{"b": 1}], 1)
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": odd, "z": odd, "items": [{"b": 1}]}


@pytest.mark.parametrize("block", [1, 7, 1 << 18])
def test_what_is_written_is_read_back_item_by_item(tmp_path, monkeypatch, block):
    monkeypatch.setattr(listing, "BLOCK", block)
    head, items = {"a": [1], "z": "end"}, [{"x": [1, {"y": "],["}]}, {"x": "episodes"}]
    write_listing(tmp_path / "some.json", head, "episodes", items, pad=2)
    found, rest = read_listing(tmp_path / "some.json", "episodes")
    assert found == head | {"episodes": []}
    assert list(rest) == items


def test_an_empty_list_has_no_items(tmp_path):
    write_listing(tmp_path / "some.json", {"a": 1}, "episodes", [], pad=1)
    assert list(read_listing(tmp_path / "some.json", "episodes")[1]) == []


@pytest.mark.parametrize("text", ["", "{}", '{"episodes": [', '{"episodes": [{"x": 1} {]}', '{"episodes": [}]}', "[]"])
def test_what_is_no_listing_is_refused(tmp_path, text):
    (tmp_path / "some.json").write_text(text)
    with pytest.raises(ValueError, match=r"found no (end of the )?list of episodes|Expecting|Extra data"):
        list(read_listing(tmp_path / "some.json", "episodes")[1])
