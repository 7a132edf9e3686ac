"""The control API: gRPC on <run directory>/agent.sock, for who may open that socket."""

import os

# gRPC reads its verbosity as it is loaded. Its threads write to stderr when `gpuslice run` becomes
# the tenant's program under them, and what went wrong in a call we say ourselves.
if "GRPC_VERBOSITY" not in os.environ:
    os.environ["GRPC_VERBOSITY"] = "NONE"
    import grpc as grpc

    del os.environ["GRPC_VERBOSITY"]  # it would be the tenant's otherwise
