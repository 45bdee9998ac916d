"""The outer edge of a stage: what was wrong with its input becomes one message and exit code 1."""

import sys
from collections.abc import Callable


def run(main: Callable[[], object]) -> None:
    """Call main; a ValueError or OSError ends the process with `error: ...` on stderr (`python -X dev` shows where)."""
    try:
        main()
    except (ValueError, OSError) as error:
        if sys.flags.dev_mode:
            raise
        raise SystemExit(f"error: {error}") from None
