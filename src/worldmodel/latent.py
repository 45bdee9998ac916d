"""The earlier name of worldmodel.wire."""

from worldmodel.wire import *  # noqa: F403
