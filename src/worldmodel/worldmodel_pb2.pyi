from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InputState(_message.Message):
    __slots__ = ("agent_id", "history", "feature_count", "action_count", "features", "actions", "context_count", "context", "wide")
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    FEATURE_COUNT_FIELD_NUMBER: _ClassVar[int]
    ACTION_COUNT_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_COUNT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    WIDE_FIELD_NUMBER: _ClassVar[int]
    agent_id: str
    history: int
    feature_count: int
    action_count: int
    features: bytes
    actions: bytes
    context_count: int
    context: bytes
    wide: bool
    def __init__(self, agent_id: _Optional[str] = ..., history: _Optional[int] = ..., feature_count: _Optional[int] = ..., action_count: _Optional[int] = ..., features: _Optional[bytes] = ..., actions: _Optional[bytes] = ..., context_count: _Optional[int] = ..., context: _Optional[bytes] = ..., wide: _Optional[bool] = ...) -> None: ...

class LatentZ(_message.Message):
    __slots__ = ("z", "run_id")
    Z_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    z: bytes
    run_id: str
    def __init__(self, z: _Optional[bytes] = ..., run_id: _Optional[str] = ...) -> None: ...

class Plan(_message.Message):
    __slots__ = ("z", "length", "action_count", "actions", "context_count", "context")
    Z_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    ACTION_COUNT_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_COUNT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    z: LatentZ
    length: int
    action_count: int
    actions: bytes
    context_count: int
    context: bytes
    def __init__(self, z: _Optional[_Union[LatentZ, _Mapping]] = ..., length: _Optional[int] = ..., action_count: _Optional[int] = ..., actions: _Optional[bytes] = ..., context_count: _Optional[int] = ..., context: _Optional[bytes] = ...) -> None: ...

class Prediction(_message.Message):
    __slots__ = ("run_id", "length", "feature_count", "features", "std", "disagreement", "reward", "termination", "wide")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    FEATURE_COUNT_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    STD_FIELD_NUMBER: _ClassVar[int]
    DISAGREEMENT_FIELD_NUMBER: _ClassVar[int]
    REWARD_FIELD_NUMBER: _ClassVar[int]
    TERMINATION_FIELD_NUMBER: _ClassVar[int]
    WIDE_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    length: int
    feature_count: int
    features: bytes
    std: bytes
    disagreement: bytes
    reward: bytes
    termination: bytes
    wide: bool
    def __init__(self, run_id: _Optional[str] = ..., length: _Optional[int] = ..., feature_count: _Optional[int] = ..., features: _Optional[bytes] = ..., std: _Optional[bytes] = ..., disagreement: _Optional[bytes] = ..., reward: _Optional[bytes] = ..., termination: _Optional[bytes] = ..., wide: _Optional[bool] = ...) -> None: ...
