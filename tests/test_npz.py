import io
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from worldmodel.store.npz import npz_bytes, npz_size, read_npz

members = st.dictionaries(
    st.sampled_from(["timestamps", "features", "actions", "rewards", "confidence"]),
    st.sampled_from([np.float32, np.float64, np.int64]).flatmap(lambda kind: arrays(kind, array_shapes(max_dims=2))),
    max_size=5,
)


@pytest.mark.skipif(sys.version_info < (3, 11, 4), reason="its zipfile names an older version needed to extract")
@given(members)
def test_the_bytes_are_those_of_numpy(found):
    stream = io.BytesIO()
    np.savez(stream, **found)
    assert npz_bytes(found) == stream.getvalue()


@given(members)
def test_the_size_is_known_from_types_and_shapes(found):
    shapes = {name: (array.dtype.str, array.shape) for name, array in found.items()}
    assert npz_size(shapes) == len(npz_bytes(found))


@given(members)
def test_what_is_written_is_read_back(found):
    again = read_npz(io.BytesIO(npz_bytes(found)), sum(array.nbytes for array in found.values()))
    assert list(again) == list(found)
    for name, array in found.items():
        assert (again[name].dtype, again[name].tobytes()) == (array.dtype, array.tobytes())


def test_slices_are_written_as_what_they_show():
    whole = np.arange(24, dtype=np.float32).reshape(4, 6)
    assert npz_bytes({"x": whole[:, ::2]}) == npz_bytes({"x": whole[:, ::2].copy()})


def test_what_is_no_npz_is_refused():
    single = io.BytesIO()
    np.save(single, np.zeros(3))
    cut = npz_bytes({"x": np.zeros(9)})[:-30]
    for content in (b"", b"garbage", b"PK\x03\x04 cut off", cut, single.getvalue()):
        with pytest.raises(ValueError):  # noqa: PT011 - the words are those of numpy and zipfile
            read_npz(io.BytesIO(content), 10**6)
