"""`worldmodel serve` beside the same calls in one's own process, and a bare FastAPI handler around ONNX Runtime."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import click
import grpc
import numpy as np
import uvloop
from numpy.typing import NDArray

from worldmodel.client import WorldModel, find_bundle
from worldmodel.core.errors import run
from worldmodel.core.options import PATH
from worldmodel.core.tables import aligned
from worldmodel.open_inference_pb2 import ModelInferRequest

ENCODER_PATH = "/v2/models/encoder/infer"

BARE = """
import sys
import numpy as np, onnxruntime, uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options)
app = FastAPI()

class Body(BaseModel):
    features: list[list[list[float]]]
    actions: list[list[list[float]]]

@app.post("/encode")
async def encode(body: Body):
    given = {name: np.asarray(values, np.float32) for name, values in body.model_dump().items()}
    return {"z": session.run(None, given)[0].tolist()}

uvicorn.run(app, port=int(sys.argv[2]), log_level="critical", access_log=False, loop="uvloop", http="httptools")
"""


class Case(NamedTuple):
    name: str
    port: int
    request: bytes
    rpc: bool = False


class Client(asyncio.Protocol):
    """Sends its request again as soon as it has an answer, and notes how long each took."""

    def __init__(self, request: bytes) -> None:
        self.request, self.seconds, self.left, self.stopped = request, list[float](), 0, False
        self.buffer = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._send()

    def _send(self) -> None:
        self.begun, self.buffer = perf_counter(), b""
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, end, body = self.buffer.partition(b"\r\n\r\n")
        if not end:
            return
        assert head.startswith(b"HTTP/1.1 200"), self.buffer
        if len(body) < int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]):
            return
        self.seconds.append(perf_counter() - self.begun)
        if not self.stopped:
            self._send()


async def load(case: Case, clients: int, seconds: float) -> list[float]:
    """Seconds of each request of so many clients at once."""
    loop = asyncio.get_running_loop()
    if case.rpc:
        return await load_rpc(case, clients, seconds)
    found = [await loop.create_connection(lambda: Client(case.request), "127.0.0.1", case.port) for _ in range(clients)]
    await asyncio.sleep(seconds / 10)
    for _, client in found:
        client.seconds.clear()
    await asyncio.sleep(seconds)
    taken = [each for _, client in found for each in client.seconds]
    for transport, client in found:
        client.stopped = True
        transport.abort()
    return taken


async def load_rpc(case: Case, clients: int, seconds: float) -> list[float]:
    taken, begin = list[float](), perf_counter() + seconds / 10

    async def client() -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{case.port}") as channel:
            ask = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            while (begun := perf_counter()) < begin + seconds:
                await ask(case.request)
                if begun > begin:
                    taken.append(perf_counter() - begun)

    await asyncio.gather(*(client() for _ in range(clients)))
    return taken


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: bench", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def cases(arrays: Mapping[str, NDArray[Any]], ports: Sequence[int]) -> list[Case]:
    """ports: HTTP and gRPC of serve, and FastAPI's."""
    told = [{"name": name, "datatype": "FP32", "shape": each.shape} for name, each in arrays.items()]
    raw = [each.tobytes() for each in arrays.values()]
    sized = [each | {"parameters": {"binary_data_size": len(data)}} for each, data in zip(told, raw, strict=True)]
    head = json.dumps({"inputs": sized, "parameters": {"binary_data_output": True}}).encode()
    binary = post(ENCODER_PATH, head + b"".join(raw), f"Inference-Header-Content-Length: {len(head)}")
    flat = [each | {"data": array.ravel().tolist()} for each, array in zip(told, arrays.values(), strict=True)]
    nested = json.dumps({name: each.tolist() for name, each in arrays.items()}).encode()
    message = ModelInferRequest(model_name="encoder", raw_input_contents=raw)
    for each in told:
        message.inputs.add(**each)
    return [
        Case("serve, binary", ports[0], binary),
        Case("serve, JSON", ports[0], post(ENCODER_PATH, json.dumps({"inputs": flat}).encode())),
        Case("serve, gRPC", ports[1], message.SerializeToString(), rpc=True),
        Case("bare FastAPI, JSON", ports[2], post("/encode", nested, "Content-Type: application/json")),
    ]


@contextmanager
def started(command: Sequence[str], port: int) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, *command], stderr=subprocess.DEVNULL, env=os.environ)
    try:
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                if process.poll() is not None:
                    raise ValueError(f"{command[-1]} ended with {process.returncode}") from None
            asyncio.run(asyncio.sleep(0.1))
        yield
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def timed(call: Callable[[], object], calls: int = 500) -> float:
    """Median seconds."""
    taken = []
    for _ in range(calls):
        begun = perf_counter()
        call()
        taken.append(perf_counter() - begun)
    return median(taken[calls // 10 :])


def measured(case: Case, own: float, seconds: float) -> list[float]:
    alone, eight, many = (uvloop.run(load(case, clients, seconds)) for clients in (1, 8, 64))
    low, high = np.percentile(eight, [50, 99])
    rates = [len(alone) / seconds, len(many) / seconds, len(many) / len(alone)]
    return [median(alone) * 1e3, (median(alone) - own) * 1e3, low * 1e3, high / low, *rates]


FORMS = ("{:.2f}", "{:.2f}", "{:.2f}", "{:.1f}", "{:.0f}", "{:.0f}", "{:.1f}")
COLUMNS = ["", "P50 ms", "over own process", "8 clients: P50", "P99/P50", "requests/s", "64 at once", "times"]


@click.command()
@click.argument("bundle", type=PATH, default=Path("artifacts/worldmodel"))
@click.option("--seconds", type=click.FloatRange(0.1), default=5.0, show_default=True, help="Of each measurement.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Whose medians are shown.")
def command(bundle: Path, seconds: float, rounds: int) -> None:
    """Time BUNDLE's encoder, one small history a request: one client, 8, and 64 at once."""
    folder = find_bundle(bundle)
    model = WorldModel.load(folder)
    features = np.zeros((1, model.history, model.feature_count), np.float32)
    actions = np.zeros((1, model.history - 1, model.action_count), np.float32)
    own = timed(lambda: model.encode(features, actions))
    ports = [free_port() for _ in range(3)]
    serve = ["-m", "worldmodel", "serve", str(folder), "--port", str(ports[0]), "--grpc-port", str(ports[1])]
    bare = ["-c", BARE, str(folder / "encoder.onnx"), str(ports[2])]
    with started(serve, ports[0]), started(bare, ports[2]):
        compared = cases({"features": features, "actions": actions}, ports)
        found = [[measured(case, own, seconds) for case in compared] for _ in range(rounds)]
    rows = [
        [case.name, *(form.format(number) for form, number in zip(FORMS, middle, strict=True))]
        for case, middle in zip(compared, np.median(found, axis=0), strict=True)
    ]
    print(f"encoder of {model.run_id}, in one's own process: {own * 1e3:.3f} ms")
    print(aligned(COLUMNS, rows))


if __name__ == "__main__":
    run(command)
