import pytest

from worldmodel.core.processes import output


def test_a_program_that_is_not_there_or_fails_is_named_with_what_it_says(tmp_path):
    with pytest.raises(ValueError, match=r"^unheard-of: not found; is it installed"):
        output("unheard-of")
    with pytest.raises(ValueError, match=r"^`ls 'a b'` ended with exit code 2: ls: cannot access 'a b'"):
        output("ls", "a b", folder=tmp_path)
