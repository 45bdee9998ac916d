"""`worldmodel ...`, called in the tests' own process."""

from worldmodel.cli import main


def call(*arguments: object) -> int:
    """The exit code; what it prints is there for capsys."""
    try:
        main([str(each) for each in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0
