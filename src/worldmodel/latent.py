"""The earlier name of worldmodel.wire."""

from worldmodel.wire import (
    from_base64,
    from_bytes,
    from_input_state,
    from_message,
    to_base64,
    to_bytes,
    to_input_state,
    to_message,
)

__all__ = [
    "from_base64",
    "from_bytes",
    "from_input_state",
    "from_message",
    "to_base64",
    "to_bytes",
    "to_input_state",
    "to_message",
]
