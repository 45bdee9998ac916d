"""Lines of a log -> columns, many at a time: fast, and only where nothing is in doubt.

A line that is not certain to be good, or begins another form, is left to rows.py, which is exact.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from worldmodel.core.typing import Floats, Ints
from worldmodel.episodes.frame import parse_agent, parse_meta
from worldmodel.logs.blocks import Block
from worldmodel.logs.columns import Columns
from worldmodel.logs.form import Form, Layout, Scanned
from worldmodel.logs.rows import Row, decoded, parse_line

Found = Columns | list[Row]

MANY_VALUES = 4096  # decoded ones that a reader keeps
MOST_FORMS = 8  # that a reader knows
MOST_RUNS = 32  # of lines of one form in a block; what follows them goes the exact way


@dataclass
class ColumnReader:
    """Remembers forms of lines, the latest last, and the names and metas that it has decoded."""

    _forms: dict[Layout, Form] = field(default_factory=dict)
    _agents: dict[bytes, str] = field(default_factory=dict)
    _metas: dict[bytes, Mapping[str, Any]] = field(default_factory=dict)

    def read(self, block: Block) -> list[Found]:
        """What the lines of a block without flaw hold, in their order."""
        data = block.data if block.data.endswith(b"\n") else block.data + b"\n"
        begin, number, beyond, runs, found = 0, block.first, block.first + block.lines, 0, list[Found]()
        while begin < len(data):
            run = self._run(data, begin, number, beyond - number) if runs < MOST_RUNS else None
            if run is not None:
                columns, begin = run
                found.append(columns)
                number, runs = number + len(columns), runs + 1
                continue
            end = data.index(b"\n", begin) + 1
            rows = parse_line(number, data[begin : end - 1])
            if runs < MOST_RUNS:
                self._learn(data[begin:end], rows)
            if found and isinstance(found[-1], list):
                found[-1] += rows
            else:
                found.append(rows)
            begin, number = end, number + 1
        return found

    def _learn(self, line: bytes, rows: list[Row]) -> None:
        if len(rows) == 1 and rows[0].frame is not None and rows[0].position is None:
            form = Form.of(line, rows[0].frame)
            self._forms.setdefault(form.layout, form)
            if len(self._forms) > MOST_FORMS:
                del self._forms[next(iter(self._forms))]

    def _run(self, data: bytes, begin: int, number: int, most: int) -> tuple[Columns, int] | None:
        """The lines of one known form that stand there, and where they end; None where there are none."""
        for form in reversed(self._forms.values()):
            found = form.scan(data, begin, most)
            good = min((self._good(name, *texts) for name, texts in found.texts.items()), default=0)
            if good < len(found.numbers):
                found = form.scan(data, begin, good)
            if len(found.numbers):
                self._forms[form.layout] = self._forms.pop(form.layout)
                return self._columns(form, found, number), found.end
        return None

    def _good(self, name: str, index: Ints, texts: list[bytes]) -> int:
        """How many lines come before the first one whose agent or meta is not as it should be."""
        known, decode = self._decoder(name)
        if len(known) > MANY_VALUES:
            known.clear()
        for place, text in enumerate(texts):
            try:
                if text not in known:
                    known[text] = decode(text)
            except ValueError:
                return int(np.argmax(index == place))
        return len(index)

    def _decoder(self, name: str) -> tuple[dict[bytes, Any], Callable[[bytes], Any]]:
        return (self._agents, _agent) if name == "agent_id" else (self._metas, _meta)

    def _columns(self, form: Form, found: Scanned, first: int) -> Columns:
        count = len(found.numbers)
        agent_index, agents = found.texts["agent_id"]
        meta_index, metas = found.texts.get("meta", (np.zeros(count, np.int64), None))
        part = {name: found.numbers[:, where] for name, where in form.columns.items()}
        actions: Ints | Floats | None = None
        if form.signature.kind == "discrete":
            actions = part["action"][:, 0].astype(np.int64)
        elif form.signature.kind == "continuous":
            actions = part["action"].astype(np.float32)
        return Columns(
            lines=np.arange(first, first + count),
            agent_index=agent_index,
            agents=[self._agents[text] for text in agents],
            timestamps=part["timestamp"][:, 0].copy(),
            features=part["features"].astype(np.float32),
            actions=actions,
            rewards=part["reward"][:, 0].astype(np.float32) if form.signature.reward else None,
            meta_index=meta_index,
            metas=[{}] if metas is None else [self._metas[text] for text in metas],
            signature=form.signature,
        )


def _agent(text: bytes) -> str:
    return parse_agent(decoded(b'"' + text + b'"'))


def _meta(text: bytes) -> Mapping[str, Any]:
    return parse_meta(decoded(text))
