"""`worldmodel serve` as a process of its own, on free ports."""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from copies import ENVIRONMENT
from tiny_bundles import GRAPHS


class Serving:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process, self.lines = process, list[dict[str, Any]]()
        self._connections = list[socket.socket]()
        assert process.stderr
        for line in process.stderr:
            self.lines.append(json.loads(line))
            if self.lines[-1]["event"] == "serving":
                break
        else:
            raise AssertionError(self.lines)
        self.port, self.grpc_port = self.lines[-1]["http"], self.lines[-1]["grpc"]
        self.base = f"http://127.0.0.1:{self.port}"
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr
        self.lines.extend(map(json.loads, self.process.stderr))  # whatever is no JSON is a traceback of the thread

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """Status, and the JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): each for name, each in headers.items()})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def infer(self, model: str, parameters: Any = None, **inputs: Any) -> tuple[int, Any]:
        tensors = [
            {"name": name, "datatype": "FP32", "shape": list(array.shape), "data": array.ravel().tolist()}
            for name, array in inputs.items()
        ]
        return self.ask(
            "POST",
            f"/v2/models/{model}/infer",
            json.dumps({"inputs": tensors, "parameters": parameters or {}}).encode(),
        )

    def connected(self, data: bytes = b"") -> socket.socket:
        found = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        self._connections.append(found)
        found.sendall(data)
        return found

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def close(self) -> None:
        self._reader.join(timeout=30)
        for each in (*self._connections, self.process.stderr):
            assert each
            each.close()

    def end(self) -> int:
        self.signal(signal.SIGTERM)
        code = self.process.wait(timeout=30)
        self._reader.join(timeout=30)
        return code


@contextmanager
def serving(
    bundle: Path,
    *options: object,
    python: Sequence[str] = (sys.executable,),
    environment: Mapping[str, str] = ENVIRONMENT,
    cwd: str | None = None,
    **variables: str,
) -> Iterator[Serving]:
    command = [*python, "-m", "worldmodel", "serve", str(bundle), "--port", "0", "--grpc-port", "0", *map(str, options)]
    process = subprocess.Popen(command, env={**environment, **variables}, stderr=subprocess.PIPE, text=True, cwd=cwd)
    found = None
    try:
        yield (found := Serving(process))
    finally:
        process.kill()
        process.wait()
        if found:
            found.close()


def without_context(text: str) -> str:
    for old, new in [
        (r", float\[\w+, \w+(, 1)?\] context", ""),
        (r"c = Flatten\(context\) ", ""),
        (r", c\)", ")"),
        (r"Add\(pushed, context\)", "Identity(pushed)"),
        ("14", "12"),
    ]:
        text = re.sub(old, new, text)
    return text


PLAIN = {name: without_context(text) for name, text in GRAPHS.items()}  # as the committed bundle is
