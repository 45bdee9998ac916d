"""A client of `worldmodel serve` in Python: pip install tritonclient geventhttpclient, nothing of this project.

python examples/serve_client.py 127.0.0.1:8000
"""

import os
import sys

import numpy as np
from tritonclient.http import InferenceServerClient, InferInput

TOKEN = os.environ.get("WORLDMODEL_TOKEN")
HEADERS = {"Authorization": f"Bearer {TOKEN}"} if TOKEN else None


def ask(client, model, parameters=None, **arrays):
    """Outputs by name, and the run_id of the bundle that answered."""
    inputs = []
    for name, array in arrays.items():
        tensor = InferInput(name, array.shape, "FP32")
        tensor.set_data_from_numpy(array.astype(np.float32))
        inputs.append(tensor)
    result = client.infer(model, inputs, headers=HEADERS, parameters=parameters)
    told = result.get_response()
    return {each["name"]: result.as_numpy(each["name"]) for each in told["outputs"]}, told["model_version"]


def sizes(client, model):
    """Of each input, -1 where any size will do."""
    return {each["name"]: each["shape"] for each in client.get_model_metadata(model, headers=HEADERS)["inputs"]}


def main(address):
    client = InferenceServerClient(address)
    _, _, feature_count = sizes(client, "encoder")["features"]
    known = sizes(client, "predictor")
    seen = np.zeros((1, 1, feature_count))  # one frame is enough
    z, run_id = ask(client, "encoder", features=seen)
    plan = {name: np.zeros((1, 5, shape[-1])) for name, shape in known.items() if name != "z"}
    future, _ = ask(client, "predictor", {"run_id": run_id}, z=z["z"], **plan)
    print("bundle", run_id)
    print("features in 5 frames", future["features"][0, -1].round(3).tolist())
    if client.is_model_ready("planner", headers=HEADERS):
        action, _ = ask(client, "planner", {"session": "agent-23"}, observation=seen[0])
        print("action", action["action"][0].round(3).tolist())


if __name__ == "__main__":
    main(sys.argv[1])
