import tempfile
from pathlib import Path

import numpy as np
import pytest

from worldmodel.arrays.mapped import mapped, release

STATUS = Path("/proc/self/status")


def resident(kind):
    """Bytes of this process."""
    return int(STATUS.read_text().split(f"{kind}:")[1].split()[0]) * 1024


@pytest.mark.skipif(not STATUS.exists(), reason="this system does not say what is resident")
def test_what_was_let_go_of_is_no_longer_resident_and_reads_the_same_again():
    numbers = np.arange(4 << 20, dtype=np.int64)
    with tempfile.TemporaryFile(dir=Path.cwd()) as stream:
        stream.write(numbers.data)
        array = mapped(stream, numbers.dtype, numbers.shape)
    np.testing.assert_array_equal(array, numbers)
    read = resident("VmRSS")
    release([array, None, numbers])
    assert read - resident("VmRSS") > numbers.nbytes / 2
    np.testing.assert_array_equal(array, numbers)
