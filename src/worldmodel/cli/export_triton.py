"""A bundle as a model repository of Triton's."""

import json
from pathlib import Path

import click

from worldmodel.client import WorldModel
from worldmodel.core.atomic import publishing
from worldmodel.core.options import PATH
from worldmodel.graphs import Graph

TYPES = {"tensor(float)": "TYPE_FP32", "tensor(double)": "TYPE_FP64"}


@click.command()
@click.argument("bundle", type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder; other models in it stay.")
@click.option("--max-batch", type=click.IntRange(1), default=1024, show_default=True, help="Rows of a call.")
def command(bundle: Path, out: Path, max_batch: int) -> None:
    """Write BUNDLE's graphs as a model repository for Triton's onnxruntime backend."""
    model = WorldModel.load(bundle)
    graphs = {Path(file).stem: graph for file, graph in model.graphs.items()}
    with publishing(out, own=list(graphs)) as (partial,):
        for name, graph in graphs.items():
            version = partial / name / "1"
            version.mkdir(parents=True)
            (version / "model.onnx").write_bytes(graph.content)
            text = config(name, graph, model.run_id, max_batch)
            (partial / name / "config.pbtxt").write_text(text, encoding="utf-8")
    print(f"wrote {out}: {', '.join(graphs)} of bundle {model.run_id}")


def config(name: str, graph: Graph, run_id: str, max_batch: int) -> str:
    """Of one model; the batch axis is not named, it is in max_batch_size."""
    lines = [f'name: "{name}"', 'platform: "onnxruntime_onnx"', f"max_batch_size: {max_batch}"]
    for kind, tensors in (("input", graph.inputs), ("output", graph.outputs)):
        for tensor, shape in tensors.items():
            # Triton wants a size for each tensor: a number a case is one of size 1, and reshaped to none.
            sizes = [size if isinstance(size, int) else -1 for size in shape[1:]]
            dims = f"dims: {sizes or [1]}" + ("" if sizes else " reshape { shape: [] }")
            lines.append(f"{kind} {{ name: {json.dumps(tensor)} data_type: {TYPES[graph.types[tensor]]} {dims} }}")
    lines += [
        "instance_group { kind: KIND_CPU }",
        "dynamic_batching { max_queue_delay_microseconds: 0 }",
        f'parameters {{ key: "run_id" value {{ string_value: "{run_id}" }} }}',
        'parameters { key: "intra_op_thread_count" value { string_value: "1" } }',
    ]
    return "\n".join(lines) + "\n"
