"""The Open Inference Protocol over HTTP: JSON, and the binary extension for tensors."""

import asyncio
import logging
import zlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from time import perf_counter
from typing import Any, NamedTuple

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from worldmodel.serve.access import Access
from worldmodel.serve.engine import EXTENSIONS, NAME, PLATFORM, VERSION, Engine, Request
from worldmodel.serve.models import Arrays
from worldmodel.serve.telemetry import say
from worldmodel.serve.tensors import MOST_NUMBERS, Array, Refused, datatype_of, from_raw, from_values, to_values

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
LARGE = 100_000  # bytes that take a while to decode
BODIES = 16  # of the largest size may be in memory at once; small ones always
HEADER_LENGTH = b"inference-header-content-length"
JSON = b"application/json"
Wanted = tuple[str, set[str] | None]  # the id of a request, and the outputs that it wants as bytes; None: all


class Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class Body(msgspec.Struct):
    inputs: list[Tensor]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[Output] = []


class Reply(NamedTuple):
    body: bytes
    status: int = 200
    kind: bytes = JSON
    json_length: int | None = None  # where bytes of tensors follow the JSON


class Gone(Exception):
    """The client has left before its request was whole."""


_decoder = msgspec.json.Decoder(Body)
_encode = msgspec.json.Encoder().encode


class App:
    """ASGI."""

    def __init__(self, engine: Engine, access: Access) -> None:
        self.engine, self.access, self.limits = engine, access, engine.limits
        self.held = 0  # bytes of bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun, path, held = perf_counter(), scope["path"].strip("/").split("/"), [0]
        model = path[2] if path[:2] == ["v2", "models"] and len(path) > 2 else ""
        try:
            async with asyncio.timeout(self.limits.seconds):
                reply = await self._reply(scope, path, receive, held)
        except Gone:
            return
        except (ValueError, TimeoutError) as error:
            status, said = refusal(error, self.limits.seconds)
            reply = Reply(_encode({"error": said}), status)
            say("refused", logging.WARNING, protocol="http", path=scope["path"][:200], status=status, reason=said)
        except Exception as error:
            reply = Reply(b'{"error":"internal error; the log of the server says more"}', 500)
            say("failed", logging.ERROR, error, protocol="http", path=scope["path"][:200])
        finally:
            self.held -= held[0]
        self.engine.count("http", model, reply.status, begun)
        headers = [(b"content-type", reply.kind), (b"content-length", str(len(reply.body)).encode())]
        if reply.json_length is not None:
            headers.append((HEADER_LENGTH, str(reply.json_length).encode()))
        if reply.status in (408, 413, 503):  # more of the request may come
            headers.append((b"connection", b"close"))
        with suppress(RuntimeError):  # as the loop says that a connection was closed
            await send({"type": "http.response.start", "status": reply.status, "headers": headers})
            await send({"type": "http.response.body", "body": reply.body})

    async def _reply(self, scope: Scope, path: list[str], receive: Receive, held: list[int]) -> Reply:
        headers = dict(scope["headers"])
        if path[:2] != ["v2", "health"]:
            self.access.require(headers.get(b"authorization", b"").decode("latin-1"))
        match path:
            case ["v2", "models", model, "infer"]:
                version = ""
            case ["v2", "models", model, "versions", version, "infer"]:
                pass
            case _ if scope["method"] == "GET":
                return self._about(path)
            case _:
                raise Refused(f"{scope['method']} {scope['path'][:80]} is not served", 404)
        if scope["method"] != "POST":
            raise Refused(f"{scope['method']} is not understood here, expected POST", 405)
        self.engine.model(model, version)
        content = unpacked(await self._body(receive, held), headers, self.limits.body)
        return await self._infer(model, version, headers, content)

    async def _infer(self, model: str, version: str, headers: Mapping[bytes, bytes], content: bytes) -> Reply:
        if len(content) < LARGE:
            request, wanted = parsed(model, version, headers, content)
        else:
            request, wanted = await asyncio.to_thread(parsed, model, version, headers, content)
        answer, run_id = await self.engine.infer(request)
        if sum(array.nbytes for array in answer.values()) < LARGE:
            return written(answer, model, run_id, wanted)
        return await asyncio.to_thread(written, answer, model, run_id, wanted)

    def _about(self, path: list[str]) -> Reply:
        engine = self.engine
        if path[3:4] == ["versions"] and len(path) > 4:
            engine.model(path[2], path[4])
            path = [*path[:3], *path[5:]]
        status = 200 if engine.ready else 503
        match path:
            case ["v2", "health", "live"]:
                return Reply(_encode({"live": True}))
            case ["v2", "health", "ready"]:
                return Reply(_encode({"ready": engine.ready}), status)
            case ["metrics"]:
                return Reply(generate_latest(engine.metrics.registry), kind=CONTENT_TYPE_LATEST.encode())
            case ["v2"]:
                return Reply(_encode({"name": NAME, "version": VERSION, "extensions": EXTENSIONS}))
            case ["v2", "models", name, "ready"]:
                engine.model(name)
                return Reply(_encode({"name": name, "ready": engine.ready}), status)
            case ["v2", "models", name]:
                model = engine.model(name)
                tensors = {"inputs": model.inputs, "outputs": model.outputs}
                about = {key: [spec._asdict() for spec in specs] for key, specs in tensors.items()}
                return Reply(_encode({"name": name, "versions": [engine.run_id], "platform": PLATFORM, **about}))
        raise Refused(f"{'/'.join(path)[:80]!r} is not served; docs/serve.md lists what is", 404)

    async def _body(self, receive: Receive, held: list[int]) -> bytes:
        """Of the request, up to the limit; what is beyond it is read and forgotten, so that the client may hear why.

        `held`: how many bytes of it are in memory.
        """
        parts, size, more = list[bytes](), 0, True
        while more:
            try:
                message = await receive()
            except RuntimeError:  # the same as below
                raise Gone from None
            if message["type"] == "http.disconnect":
                raise Gone
            more, length = message["more_body"], len(message["body"])
            size += length
            if size > self.limits.body:
                parts.clear()
                more = more and size < 4 * self.limits.body
                continue
            if size > LARGE and self.held + length > BODIES * self.limits.body:
                raise Refused("other requests have all the memory that there is for them; try again", 503)
            parts.append(message["body"])
            self.held, held[0] = self.held + length, held[0] + length
        if size > self.limits.body:
            raise Refused(f"the request has more than {self.limits.body} bytes, which is the limit (--max-body)", 413)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def refusal(error: Exception, seconds: float) -> tuple[int, str]:
    """HTTP status and text."""
    if isinstance(error, TimeoutError):
        return 408, f"the request took more than {seconds:g} s, which is the limit (--timeout)"
    return (error.status if isinstance(error, Refused) else 400), str(error)


def unpacked(content: bytes, headers: Mapping[bytes, bytes], limit: int) -> bytes:
    encoding = headers.get(b"content-encoding", b"identity")
    if encoding == b"identity":
        return content
    if encoding not in (b"gzip", b"deflate"):
        raise Refused(f"content-encoding {encoding[:20]!r} is not understood, expected gzip or deflate", 415)
    try:
        found = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(content, limit + 1)
    except zlib.error:
        raise Refused(f"the body is no {encoding.decode()}") from None
    if len(found) > limit:
        raise Refused(f"the request unpacks to more than {limit} bytes, which is the limit (--max-body)", 413)
    return found


def parsed(model: str, version: str, headers: Mapping[bytes, bytes], content: bytes) -> tuple[Request, Wanted]:
    """Raises Refused."""
    length = _length(headers, len(content))
    if length > 20 * MOST_NUMBERS:
        raise Refused(f"{length} bytes of JSON, expected {20 * MOST_NUMBERS} at most; send tensors as bytes", 413)
    try:
        body = _decoder.decode(memoryview(content)[:length])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Refused(f"the body is no request of the protocol: {error or 'nested too deeply'}") from None
    inputs, at = dict[str, Array](), length
    for tensor in body.inputs:
        size = tensor.parameters.get("binary_data_size")
        if tensor.name in inputs:
            raise Refused(f"{tensor.name[:40]} is given twice")
        if size is None:
            inputs[tensor.name] = from_values(tensor.name, tensor.datatype, tensor.shape, tensor.data or [])
            continue
        if not isinstance(size, int) or not 0 <= size <= len(content) - at:
            raise Refused(
                f"{tensor.name[:40]}: binary_data_size is {str(size)[:20]}, {len(content) - at} bytes are left"
            )
        data = memoryview(content)[at : at + size]
        inputs[tensor.name] = from_raw(tensor.name, tensor.datatype, tensor.shape, data)
        at += size
    if at != len(content):
        raise Refused(f"{len(content) - at} bytes follow that no input names by binary_data_size")
    everything = body.parameters.get("binary_data_output") is True
    chosen = {each.name for each in body.outputs if each.parameters.get("binary_data", everything) is True}
    request = Request(model, version, inputs, body.parameters, [each.name for each in body.outputs])
    return request, (body.id, chosen if body.outputs else None if everything else set())


def _length(headers: Mapping[bytes, bytes], size: int) -> int:
    """Of the JSON in front of the bytes of tensors."""
    said = headers.get(HEADER_LENGTH)
    if said is None:
        return size
    if not said.isdigit() or len(said) > 12 or int(said) > size:
        raise Refused(f"{HEADER_LENGTH.decode()} is {said[:20]!r}, expected at most {size}, the length of the body")
    return int(said)


def written(answer: Arrays, model: str, run_id: str, wanted: Wanted) -> Reply:
    request_id, binary = wanted
    outputs, parts = list[dict[str, Any]](), list[bytes]()
    for name, array in answer.items():
        told: dict[str, Any] = {"name": name, "datatype": datatype_of(array), "shape": array.shape}
        if binary is None or name in binary:
            parts.append(array.tobytes())
            told["parameters"] = {"binary_data_size": array.nbytes}
        else:
            told["data"] = to_values(name, array)
        outputs.append(told)
    head = {"model_name": model, "model_version": run_id, "parameters": {"run_id": run_id}, "outputs": outputs}
    text = _encode(head | {"id": request_id} if request_id else head)
    if not parts:
        return Reply(text)
    return Reply(b"".join([text, *parts]), 200, b"application/octet-stream", len(text))
