"""`worldmodel serve`: any client of the protocol, whatever comes in, and what stays up meanwhile."""

import asyncio
import http.client
import json
import random
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
import tritonclient.grpc
import tritonclient.http
from google.protobuf import text_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.grpc.model_config_pb2 import ModelConfig

from commands import call
from copies import ENVIRONMENT, ROOT
from pages import commands
from serving import PLAIN, serving
from tiny_bundles import GRAPHS, write_bundle
from worldmodel import Planner, WorldModel, wire
from worldmodel.serve.models import models_of
from worldmodel.serve.sessions import Sessions, planner_specs
from worldmodel.serve.tensors import Spec
from worldmodel.worldmodel_pb2 import LatentZ, Plan, Prediction

RNG = np.random.default_rng(0)
FEATURES, PAST, MET = (RNG.normal(size=shape).astype(np.float32) for shape in ((4, 3, 2), (4, 2, 3), (4, 2, 1)))
PLANS, AHEAD = (RNG.normal(size=shape).astype(np.float32) for shape in ((4, 5, 3), (4, 5, 1)))
HISTORY = {"features": FEATURES, "actions": PAST, "context": MET}
BOUNDS = {"action_min": "[-1, -1, -1]", "action_max": "[1, 1, 1]"}
CURL = shutil.which("g++") and Path("/usr/include/curl/curl.h").exists()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundle") / "a", **BOUNDS)


@pytest.fixture(scope="module")
def model(bundle):
    return WorldModel.load(bundle)


@pytest.fixture(scope="module")
def served(bundle):
    with serving(bundle, "--max-sessions", 3) as found:
        yield found
        assert found.ask("GET", "/v2/health/ready") == (200, {"ready": True})  # whatever the tests have sent


def inputs(module, arrays, **options):
    found = []
    for name, array in arrays.items():
        found.append(module.InferInput(name, list(array.shape), "FP32"))
        found[-1].set_data_from_numpy(array, **options)
    return found


@pytest.fixture(params=["http", "grpc"])
def triton(request, served):
    """The module of tritonclient, and its client."""
    module = getattr(tritonclient, request.param)
    port = served.port if request.param == "http" else served.grpc_port
    with module.InferenceServerClient(f"127.0.0.1:{port}") as client:
        yield module, client


def test_tritonclient_gets_what_the_model_says_in_ones_own_process(triton, model):
    module, client = triton
    assert client.is_server_live()
    assert client.is_server_ready()
    assert all(client.is_model_ready(name) for name in ("encoder", "predictor", "step", "planner"))
    assert not client.is_model_ready("encoder", "another-version")
    z = model.encode(**HISTORY)
    following, frame = model.step(z, PLANS[:, 0], AHEAD[:, 0])
    future = model.predict(z, PLANS, AHEAD)
    for name, given, expected in [
        ("encoder", HISTORY, {"z": z}),
        ("encoder", {"features": FEATURES[:, :1], "context": MET[:, :1]}, None),
        ("predictor", {"z": z, "actions": PLANS, "context": AHEAD}, future._asdict()),
        ("step", {"z": z, "action": PLANS[:, 0], "context": AHEAD[:, 0]}, frame._asdict() | {"z_next": following}),
    ]:
        expected = expected or {"z": model.encode(FEATURES[:, :1], None, MET[:, :1])}
        found = client.infer(name, inputs(module, given), request_id="7", model_version=model.run_id)
        told = found.get_response(as_json=True) if module is tritonclient.grpc else found.get_response()
        assert (told["model_version"], told["id"]) == (model.run_id, "7")
        for output, array in expected.items():
            np.testing.assert_allclose(found.as_numpy(output), array, rtol=1e-5)
    chosen = [module.InferRequestedOutput("reward")]
    found = client.infer("predictor", inputs(module, {"z": z, "actions": PLANS, "context": AHEAD}), outputs=chosen)
    np.testing.assert_allclose(found.as_numpy("reward"), future.reward, rtol=1e-5)
    assert found.as_numpy("features") is None


def test_json_without_bytes_and_packed_bodies_say_the_same(served, model):
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{served.port}")
    given = inputs(tritonclient.http, HISTORY, binary_data=False)
    plain = [tritonclient.http.InferRequestedOutput("z", binary_data=False)]
    for packing in (None, "gzip", "deflate"):
        found = client.infer("encoder", given, outputs=plain, request_compression_algorithm=packing)
        assert found.get_response()["parameters"] == {"run_id": model.run_id}
        np.testing.assert_array_equal(found.as_numpy("z"), model.encode(**HISTORY))
    client.close()


def test_a_model_tells_its_tensors(triton):
    module, client = triton
    told = {}
    for name in ("encoder", "predictor", "step", "planner"):
        found = client.get_model_metadata(name, **({"as_json": True} if module is tritonclient.grpc else {}))
        assert found["versions"] == ["0" * 12]
        for tensor in (*found["inputs"], *found["outputs"]):
            told[name, tensor["name"]] = [int(size) for size in tensor["shape"]]
    assert told["encoder", "features"] == [-1, -1, 2]
    assert told["predictor", "actions"] == [-1, -1, 3]
    assert told["step", "termination"] == [-1]
    assert told["planner", "observation"] == [1, 2]
    assert told["planner", "action"] == [1, 3]


def test_a_session_remembers_as_a_planner_does_and_there_are_not_too_many(triton, model):
    module, client = triton
    seen = FEATURES[:, 0]

    def act(step, **options):
        given = {"observation": seen[step : step + 1], "context": MET[step, :1]}
        return client.infer("planner", inputs(module, given), **options).as_numpy("action")[0]

    planner = Planner(model)
    for step in range(4):
        name = {"sequence_id": 5, "sequence_start": step == 0, "sequence_end": step == 3}
        np.testing.assert_allclose(act(step, **name), planner.act(seen[step], MET[step, 0]), rtol=1e-4, atol=1e-5)
    first = act(1)  # without a session, nothing is remembered
    np.testing.assert_allclose(first, Planner(model).act(seen[1], MET[1, 0]), rtol=1e-4, atol=1e-5)
    for number in (1, 2, 3):
        act(0, sequence_id=number, sequence_start=True)
    with pytest.raises(Exception, match="3 sessions are open, which is the limit"):
        act(0, parameters={"session": "one more"})
    for number in (1, 2, 3):
        act(0, sequence_id=number, sequence_end=True)
    act(0, sequence_id="one more", sequence_end=True)


def unary(channel, method, request, kind):
    ask = channel.unary_unary(
        f"/worldmodel.WorldModel/{method}", lambda message: message.SerializeToString(), kind.FromString
    )
    return ask(request, timeout=30)


def test_the_projects_own_messages_over_grpc_with_health_and_reflection(served, model):
    with grpc.insecure_channel(f"127.0.0.1:{served.grpc_port}") as channel:
        state = wire.to_input_state("a", FEATURES[0], PAST[0], MET[0])
        told = unary(channel, "Encode", state, LatentZ)
        z = model.encode(FEATURES[0], PAST[0], MET[0])
        np.testing.assert_array_equal(wire.from_message(told), z)
        plan = wire.to_plan(z, PLANS[0], AHEAD[0], told.run_id)
        found = wire.from_prediction(unary(channel, "Predict", plan, Prediction))
        for name, array in model.predict(z, PLANS[0], AHEAD[0])._asdict().items():
            np.testing.assert_allclose(found[name], array, rtol=1e-5)
        for request, code in [
            (wire.to_plan(z, PLANS[0], AHEAD[0], "f" * 12), grpc.StatusCode.FAILED_PRECONDITION),
            (wire.to_plan(z[1:], PLANS[0], AHEAD[0]), grpc.StatusCode.INVALID_ARGUMENT),
            (Plan(length=9), grpc.StatusCode.INVALID_ARGUMENT),
            (Plan(z=plan.z, length=2**31, action_count=2**31), grpc.StatusCode.INVALID_ARGUMENT),
        ]:
            with pytest.raises(grpc.RpcError) as error:
                unary(channel, "Predict", request, Prediction)
            assert error.value.code() == code
        state.features = state.features[:-4] + np.float32(np.nan).tobytes()
        with pytest.raises(grpc.RpcError, match="features holds NaN or infinity, 1 of 6 numbers"):
            unary(channel, "Encode", state, LatentZ)
        with pytest.raises(grpc.RpcError, match=r"no worldmodel\.Plan in these 3 bytes"):
            channel.unary_unary("/worldmodel.WorldModel/Predict")(b"\xff\xff\xff", timeout=30)
        stub = health_pb2_grpc.HealthStub(channel)
        health = stub.Check(health_pb2.HealthCheckRequest(service="worldmodel.WorldModel"), timeout=30)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        services = ProtoReflectionDescriptorDatabase(channel).get_services()
    assert {"inference.GRPCInferenceService", "worldmodel.WorldModel", "grpc.health.v1.Health"} <= set(services)


def tensor(name="features", shape=(1, 3, 2), datatype="FP32", **others):
    return {"name": name, "shape": list(shape), "datatype": datatype, "data": [0.5] * 6} | others


REFUSED = [  # body, what the answer names
    (b"", "no request of the protocol"),
    (b"[" * 100_000, "no request of the protocol"),
    ({"inputs": 3}, r"Expected `array`, got `int` - at `\$.inputs`"),
    ({"inputs": []}, "inputs are none, expected features, actions, context"),
    ({"inputs": [tensor("x")]}, "inputs are x, expected features"),
    ({"inputs": [tensor(), tensor()]}, "features is given twice"),
    ({"inputs": [tensor()]}, r"no actions are given, expected \[1, 2, 3\]"),
    ({"inputs": [tensor(shape=(3, 2))]}, r"features has shape \[3, 2\], expected \[-1, -1, 2\]"),
    ({"inputs": [tensor(shape=(1, 2, 3))]}, "features has shape"),
    ({"inputs": [tensor(shape=(1, 3, 3))]}, r"features has 6 values, expected 9 for FP32 \[1, 3, 3\]"),
    ({"inputs": [tensor(shape=(-1, 3, 2))]}, "expected at most 4 sizes of 0 or more"),
    ({"inputs": [tensor(shape=(2**62, 2**62, 2))]}, "features has 6 values"),
    ({"inputs": [tensor(datatype="BYTES")]}, "features has datatype 'BYTES', expected one of BOOL"),
    ({"inputs": [tensor(datatype="INT8", data=[300] * 6)]}, "holds numbers that INT8 cannot hold"),
    ({"inputs": [tensor(data=["1.5"] * 6)]}, "features holds what is no number"),
    ({"inputs": [tensor(data=[[1, 2], [3]])]}, "features is no array of numbers"),
    ({"inputs": [tensor(data=[None] * 6)]}, "features holds NaN or infinity"),
    ({"inputs": [tensor(data=[1e39] * 6)]}, "features holds NaN or infinity"),
    ({"inputs": [tensor(shape=(20_000, 3, 2), data=[0] * 120_000)]}, "more than 100000 numbers; send bytes"),
    (b" " * 2_000_001, "2000001 bytes of JSON, expected 2000000 at most"),
    ({"inputs": [tensor(shape=(20_000, 1, 0), data=[])]}, "20000 frames, expected 16384 at most"),
    ({"inputs": [tensor(parameters={"binary_data_size": 24})]}, "binary_data_size is 24, 0 bytes are left"),
    ({"inputs": [tensor()], "outputs": [{"name": "y"}]}, "encoder has no output 'y', only z"),
    ({"inputs": [tensor()], "parameters": {"run_id": "f" * 12}}, "z is of bundle 'ffffffffffff', and 000000000000"),
]


def test_what_cannot_be_answered_is_refused_with_a_reason(served):
    for body, reason in REFUSED:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        status, answer = served.ask("POST", "/v2/models/encoder/infer", content)
        assert 400 <= status < 500, reason
        assert re.search(reason, answer["error"]), (reason, answer)
    for method, path, headers, status in [
        ("GET", "/v2/models/nobody", {}, 404),
        ("GET", "/v2/models/encoder/versions/9", {}, 404),
        ("GET", "/../etc/passwd", {}, 404),
        ("PUT", "/v2/models/encoder/infer", {}, 405),
        ("POST", "/v2/models/encoder/infer", {"content_encoding": "br"}, 415),
        ("POST", "/v2/models/encoder/infer", {"content_encoding": "gzip"}, 400),
        ("POST", "/v2/models/encoder/infer", {"inference_header_content_length": "99"}, 400),
    ]:
        found, answer = served.ask(method, path, b"{}", **headers)
        assert found == status, (path, answer)
        assert "Traceback" not in answer["error"]


def test_whatever_bytes_come_nobody_else_notices(served):
    """Valid requests with some bytes changed, cut, or doubled."""
    chance = random.Random(0)
    head = json.dumps({"inputs": [tensor(parameters={"binary_data_size": 24}, data=None)]}).encode()
    valid = [json.dumps({"inputs": [tensor()]}).encode(), head + bytes(24)]
    line = f"POST /v2/models/encoder/infer HTTP/1.1\r\nHost: a\r\nContent-Length: {len(valid[1])}\r\n\r\n".encode()
    with grpc.insecure_channel(f"127.0.0.1:{served.grpc_port}") as channel:
        ask = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for number in range(80):
            content = bytearray(valid[number % 2])
            for _ in range(chance.randint(1, 6)):
                at = chance.randrange(len(content))
                content[at : at + chance.choice([0, 1, 1, 9])] = chance.randbytes(chance.choice([0, 1, 1, 9])) or b"0"
            headers = {"inference_header_content_length": str(len(head))} if number % 2 else {}
            status, answer = served.ask("POST", "/v2/models/encoder/infer", bytes(content), **headers)
            assert status < 500, answer
            with pytest.raises(grpc.RpcError) as error:
                ask(bytes(content), timeout=30)
            assert error.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND), content
            if number % 10 == 0:
                with served.connected(bytes(content) + line) as connection:
                    connection.shutdown(socket.SHUT_WR)
                    assert b"500" not in connection.recv(4096)[:20]


def test_clients_that_are_slow_many_or_greedy_leave_the_others_served(bundle):
    post = b"POST /v2/models/encoder/infer HTTP/1.1\r\nHost: a\r\n"
    with serving(bundle, "--timeout", 0.5, "--max-body", 200_000, "--max-connections", 600) as served:
        process = psutil.Process(served.process.pid)
        before = process.memory_info().rss
        idle = [served.connected() for _ in range(500)]
        silent = [served.connected(begun) for begun in (b"", b"POST /v2", post, post + b"X: " + b"a" * 9999)]
        slow = served.connected(post + b"Content-Length: 50\r\n\r\nhalf")
        endless = served.connected(b"GET / HTTP/1.1\r\n" + b"X: aaaaaaaa\r\n" * 6000)
        assert endless.recv(12) == b"HTTP/1.1 400"
        half = post + b"Content-Length: 200000\r\n\r\n" + bytes(199_000)
        hoarders = [served.connected(half) for _ in range(18)]
        huge = served.connected(post + b"Content-Length: 200000000\r\n\r\n")
        with pytest.raises((ConnectionError, TimeoutError)):  # noqa: PT012
            for _ in range(3000):
                huge.sendall(bytes(65_536))
        plans = np.zeros((1, 900, 3), np.float32)
        given = {"z": np.zeros((1, 14), np.float32), "actions": plans, "context": plans[..., :1]}
        body = json.dumps({"inputs": [tensor(name, a.shape, data=a.ravel().tolist()) for name, a in given.items()]})
        deaf = served.connected()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        packed = post.replace(b"encoder", b"predictor") + f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        deaf.settimeout(0.5)
        with pytest.raises((ConnectionError, TimeoutError)):  # noqa: PT012
            for _ in range(1000):
                deaf.sendall(packed)
        assert served.infer("encoder", **HISTORY)[0] == 200
        status, answer = served.ask("POST", "/v2/models/encoder/infer", bytes(200_001))
        assert (status, answer["error"]) == (
            413,
            "the request has more than 200000 bytes, which is the limit (--max-body)",
        )
        assert slow.recv(12) == b"HTTP/1.1 408"
        assert {each.recv(12)[-3:] for each in hoarders} == {b"408", b"503"}
        for connection in (*silent, *idle, huge, deaf):
            _until_closed(connection)
        assert process.memory_info().rss - before < 60e6
        assert served.infer("encoder", **HISTORY)[0] == 200
        assert served.end() == 0
    assert not [line for line in served.lines if "traceback" in line]


def _until_closed(connection):
    connection.settimeout(10)
    try:
        while connection.recv(65_536):
            pass
    except ConnectionError:
        pass


def test_another_bundle_in_place_fails_no_request_and_sigterm_answers_all_that_were_asked(tmp_path, bundle):
    write_bundle(tmp_path / "b", run_id="b" * 12, **BOUNDS)
    shutil.copytree(bundle, tmp_path / "a")
    (tmp_path / "current").symlink_to("a")
    with serving(tmp_path) as served:
        stop, seen = time.monotonic() + 20, []

        def keep_asking(_):
            found = set()
            while time.monotonic() < stop:
                try:
                    status, answer = served.infer("encoder", **HISTORY)
                except OSError:
                    if served.process.poll() is None and not ending:
                        raise
                    return found
                assert status == 200, answer
                found.add(answer["parameters"]["run_id"])
                seen.append(answer["parameters"]["run_id"])
            return found

        ending = []
        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(keep_asking, number) for number in range(4)]
            point(tmp_path, "b")
            wait(lambda: seen[-1:] == ["b" * 12])
            status, answer = served.infer("step", {"run_id": "0" * 12}, z=np.zeros((1, 14), np.float32))
            assert (status, answer["error"]) == (
                409,
                "z is of bundle '000000000000', and bbbbbbbbbbbb is served now: encode again",
            )
            (tmp_path / "b/encoder.onnx").write_bytes(b"half")
            served.signal(signal.SIGHUP)
            wait(lambda: any(line["event"] == "swap failed" for line in served.lines))
            point(tmp_path, "a")
            wait(lambda: seen[-1:] == ["0" * 12])
            ending.append(True)
            assert served.end() == 0
            assert set.union(*(each.result() for each in asking)) == {"0" * 12, "b" * 12}
    assert [line["event"] for line in served.lines if line["level"] == "info"][-2:] == ["draining", "stopped"]
    (failed, *_) = [line for line in served.lines if line["event"] == "swap failed"]
    assert "encoder.onnx: no readable ONNX graph" in failed["reason"]


def point(folder, name):
    (folder / "new").symlink_to(name)
    (folder / "new").rename(folder / "current")


def wait(condition, seconds=15):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_metrics_count_requests_by_model_and_status(served):
    served.infer("encoder", **HISTORY)
    served.infer("no-such-model-" + "x" * 50)
    found = served.connected(b"GET /metrics HTTP/1.0\r\n\r\n").makefile().read()
    assert 'worldmodel_requests_total{model="encoder",protocol="http",status="200"}' in found
    assert 'worldmodel_requests_total{model="none",protocol="http",status="404"}' in found
    assert 'worldmodel_bundle_info{models="encoder predictor step planner",run_id="000000000000"} 1.0' in found
    assert "worldmodel_batch_rows_count" in found
    assert "no-such-model" not in found


def test_a_token_opens_all_but_health(bundle):
    with serving(bundle, WORLDMODEL_TOKEN="s3cret") as served:
        assert served.ask("GET", "/v2/health/live")[0] == 200
        for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": "s3cret"}):
            assert served.ask("GET", "/v2/models/encoder", **header)[0] == 401
        assert served.ask("GET", "/v2/models/encoder", authorization="Bearer s3cret")[0] == 200
        for headers, code in [(None, "UNAUTHENTICATED"), ({"authorization": "Bearer s3cret"}, None)]:
            with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{served.grpc_port}") as client:
                if code:
                    with pytest.raises(Exception, match=code):
                        client.get_model_metadata("encoder", headers=headers)
                else:
                    assert client.get_model_metadata("encoder", headers=headers).name == "encoder"
        assert "s3cret" not in str(served.lines)


def test_other_addresses_want_a_token_or_certificates_and_the_extra_is_named(bundle, capsys, monkeypatch):
    monkeypatch.delenv("WORLDMODEL_TOKEN", raising=False)
    for options, message in [
        (
            ["--host", "0.0.0.0"],
            "0.0.0.0 is open to others: set WORLDMODEL_TOKEN, or --tls-client-ca, or say --insecure",
        ),
        (["--host", "::"], ":: is open to others"),
        (["--tls-cert", ROOT / "README.md"], "--tls-cert and --tls-key go together"),
    ]:
        assert call("serve", bundle, *options) == 1
        assert message in capsys.readouterr().err
    command = [sys.executable, "-m", "worldmodel", "serve", bundle, "--host", "192.0.2.1", "--insecure"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("error: cannot listen on 192.0.2.1:8000 (HTTP): Cannot assign requested address\n")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert call("serve", bundle) == 1
    expected = "error: this command needs uvicorn, which is not installed; pip install 'worldmodel[serve]'"
    assert expected in capsys.readouterr().err


def test_every_command_of_the_page_works(tmp_path):
    shown = commands("docs/serve.md")
    starts = [shlex.split(line)[3:] for line in shown if line.startswith("worldmodel serve artifacts/worldmodel")]
    plain = write_bundle(tmp_path / "a", texts=PLAIN, context_min=None, context_max=None, **BOUNDS)
    tools = {
        "worldmodel": True,
        "curl": True,
        "python": True,
        "node": shutil.which("node"),
        "g++": CURL,
        "./serve_client": CURL,
    }
    with serving(plain, *(option for options in starts for option in options)) as served:
        for line in shown:
            if not tools.get(line.split()[0]) or line.startswith("worldmodel serve artifacts"):
                continue
            for old, new in {
                "127.0.0.1:8000": f"127.0.0.1:{served.port}",
                "python ": f"{sys.executable} ",
                "artifacts/worldmodel": str(plain),
                "worldmodel ": f"{sys.executable} -m worldmodel ",
                "my-models": f"{tmp_path}/models",
                "./serve_client": "./it",
                "-o serve_client": f"-o {tmp_path}/it",
                "./it": f"{tmp_path}/it",
                " 17": " 2",
            }.items():
                line = line.replace(old, new)
            done = subprocess.run(["bash", "-ec", line], cwd=ROOT, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, (line, done.stdout, done.stderr)
            assert done.stdout or "-o" in line or "health" in line
    assert [line for line in shown if line.split()[0] not in tools and not line.startswith("pip install")] == []


def test_the_repository_for_triton_is_what_its_schema_takes_and_names_the_tensors_of_the_graphs(
    bundle, model, tmp_path, capsys
):
    (tmp_path / "models/other").mkdir(parents=True)
    for _ in range(2):
        assert call("export-triton", bundle, "--out", tmp_path / "models") == 0
    assert f"wrote {tmp_path / 'models'}: encoder, predictor, step of bundle 000000000000" in capsys.readouterr().out
    assert (tmp_path / "models/other").is_dir()
    told = {}
    for name in ("encoder", "predictor", "step"):
        folder, graph = tmp_path / "models" / name, model.graphs[f"{name}.onnx"]
        assert (folder / "1/model.onnx").read_bytes() == graph.content
        config = text_format.Parse((folder / "config.pbtxt").read_text(), ModelConfig())
        assert (config.name, config.platform, config.max_batch_size) == (name, "onnxruntime_onnx", 1024)
        assert [each.name for each in (*config.input, *config.output)] == [*graph.inputs, *graph.outputs]
        told |= {(name, each.name): list(each.dims) for each in (*config.input, *config.output)}
        assert all(each.HasField("reshape") == (each.dims == [1]) for each in config.output)
    assert told["encoder", "features"] == [3, 2]
    assert told["predictor", "actions"] == [-1, 3]
    assert told["step", "reward"] == [1]


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl to make certificates with")
def test_only_clients_whose_certificate_is_signed_may_connect(bundle, tmp_path):
    for name in ("server", "client"):
        subprocess.run(
            f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={name} "
            f"-addext subjectAltName=IP:127.0.0.1 -keyout {name}.key -out {name}.pem",
            shell=True,
            cwd=tmp_path,
            capture_output=True,
            check=True,
        )
    certificates = ["--tls-cert", tmp_path / "server.pem", "--tls-key", tmp_path / "server.key"]
    with serving(bundle, *certificates, "--tls-client-ca", tmp_path / "client.pem") as served:
        context = ssl.create_default_context(cafile=str(tmp_path / "server.pem"))
        url = f"https://127.0.0.1:{served.port}/v2/models/encoder"
        with pytest.raises(OSError, match=r"certificate required|reset|closed|EOF"):
            urllib.request.urlopen(url, context=context, timeout=30)
        context.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
        with urllib.request.urlopen(url, context=context, timeout=30) as answer:
            assert json.load(answer)["name"] == "encoder"
        pems = [(tmp_path / name).read_bytes() for name in ("server.pem", "client.key", "client.pem")]
        for given in (pems[:1], pems):
            with grpc.secure_channel(f"127.0.0.1:{served.grpc_port}", grpc.ssl_channel_credentials(*given)) as channel:
                ask = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
                if given == pems:
                    assert ask(b"", timeout=30) == b"\x08\x01"
                else:
                    with pytest.raises(grpc.RpcError):
                        ask(b"", timeout=3)


def test_numbers_of_actions_do_where_they_are_discrete_and_a_planner_answers_with_one(tmp_path):
    model = WorldModel.load(write_bundle(tmp_path / "a", action_kind="discrete"))
    predictor, chosen = models_of(model)["predictor"], np.array([[0, 2], [1, 1], [2, 0]])
    z, ahead = np.ones((3, 14), np.float32), np.ones((3, 2, 1), np.float32)
    given = {"z": z, "actions": chosen, "context": ahead}
    assert predictor.sizes(given, most=6) == (3, 6)
    expected = model.predict(z, np.eye(3, dtype=np.float32)[chosen], ahead)
    np.testing.assert_array_equal(predictor.run(given)["features"], expected.features)
    assert planner_specs(model)[1] == (Spec("action", "INT64", (1,)),)
    seen = {"observation": FEATURES[:1, 0], "context": MET[0, :1]}
    answer, run_id = asyncio.run(Sessions(1, 60, 1, None).act(model, seen, {}))
    assert (answer["action"].dtype, answer["action"].shape, run_id) == (np.int64, (1,), model.run_id)
    assert answer["action"][0] == Planner(model).act(seen["observation"][0], seen["context"][0])


def test_sessions_that_nobody_uses_end_and_one_goes_on_with_the_bundle_that_it_began_with(bundle, tmp_path):
    old, new = WorldModel.load(bundle), WorldModel.load(write_bundle(tmp_path / "b", run_id="b" * 12, **BOUNDS))
    seen = {"observation": FEATURES[:1, 0], "context": MET[0, :1]}
    sessions = Sessions(2, 0.2, 1, None)

    async def told():
        for model, options in [(old, {}), (new, {}), (new, {"sequence_start": True}), (new, {"sequence_end": True})]:
            yield (await sessions.act(model, seen, {"session": "a"} | options))[1]
        await sessions.act(new, seen, {"session": "b"})
        await asyncio.sleep(0.3)
        sessions.end_idle()
        yield len(sessions)

    async def listed():
        return [each async for each in told()]

    assert asyncio.run(listed()) == [old.run_id, old.run_id, new.run_id, new.run_id, 0]


def test_a_bundle_of_the_first_format_tells_the_sizes_that_its_graphs_insist_on():
    model = WorldModel.load(ROOT / "tests/old_bundle")
    sizes = {spec.name: spec.shape for spec in models_of(model)["encoder"].inputs}
    assert sizes["features"] == (-1, model.history, model.feature_count)
    assert sizes["actions"] == (-1, model.history - 1, model.action_count)
    assert "step" not in models_of(model)


def test_a_log_that_nobody_reads_keeps_neither_requests_nor_the_end_waiting(bundle):
    command = [sys.executable, "-m", "worldmodel", "serve", bundle, "--port", "0", "--grpc-port", "0"]
    with subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE) as process:
        try:
            port = json.loads(process.stderr.readline())["http"]
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            for _ in range(600):  # a pipe holds 64 kB
                connection.request("GET", f"/v2/models/{'x' * 30}")
                with connection.getresponse() as answer:
                    assert answer.status == 404
                    answer.read()
            connection.close()
            process.terminate()
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()


def test_the_z_after_a_plan_and_a_policy_are_served_where_the_bundle_has_them(tmp_path):
    texts = dict(GRAPHS)
    texts["predictor"] = texts["predictor"].replace(" termination)", " termination, float[batch, 14] z_next)", 1)
    texts["predictor"] = texts["predictor"].replace("sum =", "z_next = Add(z, z) sum =", 1)
    ones = "<int64[1] one = {1}>"
    texts["prior"] = f"(float[batch, 14] z) => (float[batch, 3] action) {ones}"
    texts["prior"] += "{ s = ReduceSum(z, one) action = Concat<axis = 1>(s, s, s) }"
    texts["value"] = (
        f"(float[batch, 14] z) => (float[batch] value) {ones} {{ value = ReduceSum<keepdims = 0>(z, one) }}"
    )
    model = WorldModel.load(write_bundle(tmp_path / "a", texts=texts, discount="0.9", unknown_reward="0", **BOUNDS))
    z = RNG.normal(size=(4, 14)).astype(np.float32)
    for name, given in {
        "predictor": {"z": z, "actions": PLANS, "context": AHEAD},
        "prior": {"z": z},
        "value": {"z": z},
    }.items():
        served = models_of(model)[name]
        answer = served.run(given)
        assert {spec.name: len(spec.shape) for spec in served.outputs} == {key: a.ndim for key, a in answer.items()}
    np.testing.assert_allclose(answer["value"], z.sum(axis=1), rtol=1e-4)
