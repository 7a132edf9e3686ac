"""The control API: gRPC on <run directory>/agent.sock, for who may open that socket."""
