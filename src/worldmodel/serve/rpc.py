"""gRPC: the Open Inference Protocol, the project's own messages, health and reflection."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from worldmodel import open_inference_pb2 as oip
from worldmodel import wire
from worldmodel import worldmodel_pb2 as own
from worldmodel.serve.access import Access
from worldmodel.serve.engine import EXTENSIONS, NAME, PLATFORM, VERSION, Engine, Request
from worldmodel.serve.http import LARGE, refusal
from worldmodel.serve.models import Arrays
from worldmodel.serve.telemetry import say
from worldmodel.serve.tensors import MOST_NUMBERS, Array, Refused, datatype_of, from_raw, from_values, to_values

Context = Any  # grpc.aio.ServicerContext
Answerer = Callable[[Any], Awaitable[Message]]
INFERENCE = oip.DESCRIPTOR.services_by_name["GRPCInferenceService"]
OWN = own.DESCRIPTOR.services_by_name["WorldModel"]
CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
CONTENTS = {"BOOL": "bool", "FP32": "fp32", "FP64": "fp64", "INT64": "int64", "UINT64": "uint64"}
CONTENTS |= {f"INT{bits}": "int" for bits in (8, 16, 32)} | {f"UINT{bits}": "uint" for bits in (8, 16, 32)}


class Servicer:
    """The methods of both services, by their names."""

    def __init__(self, engine: Engine, access: Access) -> None:
        self.engine, self.access = engine, access

    async def ServerLive(self, request: oip.ServerLiveRequest) -> Message:
        return oip.ServerLiveResponse(live=True)

    async def ServerReady(self, request: oip.ServerReadyRequest) -> Message:
        return oip.ServerReadyResponse(ready=self.engine.ready)

    async def ModelReady(self, request: oip.ModelReadyRequest) -> Message:
        try:
            self.engine.model(request.name, request.version)
        except Refused:
            return oip.ModelReadyResponse(ready=False)
        return oip.ModelReadyResponse(ready=self.engine.ready)

    async def ServerMetadata(self, request: oip.ServerMetadataRequest) -> Message:
        return oip.ServerMetadataResponse(name=NAME, version=VERSION, extensions=EXTENSIONS)

    async def ModelMetadata(self, request: oip.ModelMetadataRequest) -> Message:
        model = self.engine.model(request.name, request.version)
        told = oip.ModelMetadataResponse(name=request.name, versions=[self.engine.run_id], platform=PLATFORM)
        told.inputs.extend(told.TensorMetadata(**spec._asdict()) for spec in model.inputs)
        told.outputs.extend(told.TensorMetadata(**spec._asdict()) for spec in model.outputs)
        return told

    async def ModelInfer(self, request: oip.ModelInferRequest) -> Message:
        parameters = {
            key: getattr(each, each.WhichOneof("parameter_choice") or "", None)
            for key, each in request.parameters.items()
        }
        inputs = tensors(request)
        outputs = [each.name for each in request.outputs]
        asked = Request(request.model_name, request.model_version, inputs, parameters, outputs)
        answer, run_id = await self.engine.infer(asked)
        told = oip.ModelInferResponse(model_name=request.model_name, model_version=run_id, id=request.id)
        told.parameters["run_id"].string_param = run_id
        for name, array in answer.items():
            tensor = told.outputs.add(name=name, datatype=datatype_of(array), shape=array.shape)
            if request.raw_input_contents:
                told.raw_output_contents.append(array.tobytes())
            else:
                getattr(tensor.contents, f"{CONTENTS[tensor.datatype]}_contents").extend(to_values(name, array))
        return told

    async def Encode(self, request: own.InputState) -> Message:
        features, actions = wire.from_input_state(request)
        given = {"features": features, "actions": actions, "context": wire.context_of(request)}
        answer, run_id = await self._single("encoder", given)
        return wire.to_message(answer["z"], run_id)

    async def Predict(self, request: own.Plan) -> Message:
        z, actions, context = wire.from_plan(request)
        known = {"run_id": request.z.run_id}
        answer, run_id = await self._single("predictor", {"z": z, "actions": actions, "context": context}, known)
        answer.pop("z_next", None)
        return wire.to_prediction(answer, run_id)

    async def _single(
        self, model: str, given: Mapping[str, Array | None], known: Mapping[str, str] | None = None
    ) -> tuple[Arrays, str]:
        """Of one case, without the batch axis."""
        inputs = {name: array[None] for name, array in given.items() if array is not None}
        answer, run_id = await self.engine.infer(Request(model, "", inputs, known or {}))
        return {name: array[0] for name, array in answer.items()}, run_id


def tensors(request: oip.ModelInferRequest) -> dict[str, Array]:
    """The inputs by name. Raises Refused."""
    found, raw = dict[str, Array](), request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise Refused(f"{len(raw)} raw_input_contents for {len(request.inputs)} inputs, expected one for each")
    for number, each in enumerate(request.inputs):
        if each.name in found:
            raise Refused(f"{each.name[:40]} is given twice")
        if raw:
            found[each.name] = from_raw(each.name, each.datatype, each.shape, raw[number])
        else:
            field = f"{CONTENTS.get(each.datatype, 'fp32')}_contents"
            values = getattr(each.contents, field)[: MOST_NUMBERS + 1]
            found[each.name] = from_values(each.name, each.datatype, each.shape, values)
    return found


def handler(service: ServiceDescriptor, servicer: Servicer) -> grpc.GenericRpcHandler:
    """Every method of a service, as the servicer's method of that name answers it."""
    methods = {
        method.name: grpc.unary_unary_rpc_method_handler(
            _answering(servicer, method.name, GetMessageClass(method.input_type)),
            response_serializer=lambda message: message.SerializeToString(),
        )
        for method in service.methods
    }
    return grpc.method_handlers_generic_handler(service.full_name, methods)


def _answering(servicer: Servicer, name: str, kind: type[Message]) -> Callable[[bytes, Context], Awaitable[Message]]:
    answer: Answerer = getattr(servicer, name)
    engine, open_to_all = servicer.engine, name in ("ServerLive", "ServerReady")

    async def call(data: bytes, context: Context) -> Message:
        begun, model, code = perf_counter(), "", grpc.StatusCode.CANCELLED
        try:
            if not open_to_all:
                servicer.access.require(dict(context.invocation_metadata() or ()).get("authorization", ""))
            async with asyncio.timeout(engine.limits.seconds):
                request = kind.FromString(data) if len(data) < LARGE else await asyncio.to_thread(kind.FromString, data)
                model = getattr(request, "model_name", "")
                told = await answer(request)
            code = grpc.StatusCode.OK
            return told
        except DecodeError:
            code, said = CODES[400], f"no {kind.DESCRIPTOR.full_name} in these {len(data)} bytes"
        except (ValueError, TimeoutError) as error:
            status, said = refusal(error, engine.limits.seconds)
            code = CODES[status]
        except Exception as error:
            code, said = grpc.StatusCode.INTERNAL, "internal error; the log of the server says more"
            say("failed", logging.ERROR, error, protocol="grpc", method=name)
        finally:
            engine.count("grpc", model, code.name, begun)
        say("refused", logging.WARNING, protocol="grpc", method=name, status=code.name, reason=said)
        await context.abort(code, said)
        raise AssertionError("abort raises")

    return call


class Rpc:
    """The server of both services."""

    def __init__(self, engine: Engine, access: Access) -> None:
        limits = engine.limits
        options = [
            ("grpc.max_receive_message_length", limits.body),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # a port that another server has is an error
            ("grpc.max_metadata_size", 16_384),
        ]
        self.server = grpc.aio.server(options=options, maximum_concurrent_rpcs=limits.connections)
        self.access, self.health = access, health.aio.HealthServicer()
        servicer = Servicer(engine, access)
        self.server.add_generic_rpc_handlers((handler(INFERENCE, servicer), handler(OWN, servicer)))
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        names = [INFERENCE.full_name, OWN.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(names, self.server)

    async def start(self, host: str, port: int) -> int:
        """The port. Raises OSError where it cannot be had."""
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if self.access.certificate and self.access.key:
                pair = (self.access.key.read_bytes(), self.access.certificate.read_bytes())
                clients = self.access.clients and self.access.clients.read_bytes()
                credentials = grpc.ssl_server_credentials([pair], clients, bool(clients))
                found = self.server.add_secure_port(address, credentials)
            else:
                found = self.server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address} (gRPC): {error}") from None
        await self.server.start()
        for name in ("", INFERENCE.full_name, OWN.full_name):
            await self.health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return int(found)

    async def stop(self, grace_s: float) -> None:
        await self.health.enter_graceful_shutdown()
        await self.server.stop(grace_s)
