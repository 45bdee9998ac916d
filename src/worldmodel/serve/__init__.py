"""A bundle as a service: the Open Inference Protocol over HTTP and gRPC, and the project's own messages over gRPC.

tensors      arrays as the protocol writes them; what is refused, and why
models       a bundle as encoder, predictor, step and planner
batching     calls that wait together go through a graph together
sessions     planners that remember what their agents saw
engine       answers requests; swaps bundles
http, rpc    two front ends of one engine
connections  clients that send or read too slowly
telemetry    logs and metrics
server       one event loop for all of it, from the first request to the last
"""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what it writes on stderr by itself is no JSON
