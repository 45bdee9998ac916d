import pytest

from worldmodel.core import errors as stage


def fail(error):
    raise error


@pytest.mark.parametrize("error", [ValueError("log.jsonl:3: bad"), OSError("log.jsonl:3: bad")])
def test_bad_input_becomes_one_message_and_exit_code_1(error):
    with pytest.raises(SystemExit) as end:
        stage.run(lambda: fail(error))
    assert end.value.code == "error: log.jsonl:3: bad"  # text as a code: written to stderr, exit code 1


def test_a_mistake_of_ours_keeps_its_traceback():
    with pytest.raises(AssertionError):
        stage.run(lambda: fail(AssertionError("broken")))
