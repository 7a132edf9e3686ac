"""Programs on PyTorch, unmodified users of the CUDA runtime; each prints one line of JSON.

`python torch_client.py NAME`: memory (what mem_get_info says, and what can really be taken),
recover (an out-of-memory, then work goes on), train (training steps of a small network), graph (a
captured step, replayed).
"""

from __future__ import annotations

import json
import sys
import time

import torch

BLOCK = 64 << 20


def memory() -> dict[str, object]:
    torch.empty(1, device="cuda")
    free, total = torch.cuda.mem_get_info()
    blocks = []
    try:
        while True:
            blocks.append(torch.empty(BLOCK, dtype=torch.uint8, device="cuda"))
    except torch.cuda.OutOfMemoryError:
        pass
    return {"free": free, "total": total, "allocated": len(blocks) * BLOCK, "block": BLOCK}


def recover() -> dict[str, object]:
    refused = False
    free, _ = torch.cuda.mem_get_info()
    try:
        torch.empty(free * 2, dtype=torch.uint8, device="cuda")
    except torch.cuda.OutOfMemoryError:
        refused = True
    # The caching allocator empties its cache and retries on out-of-memory: fill it with blocks of
    # another size first.
    held = [torch.empty(BLOCK, dtype=torch.uint8, device="cuda") for _ in range(free // BLOCK // 2)]
    del held
    large = torch.ones(free * 3 // 4 // 4, dtype=torch.float32, device="cuda")
    return {"refused": refused, "sum_is_right": bool(large[:1024].sum().item() == 1024.0)}


def network() -> tuple[torch.nn.Module, torch.optim.Optimizer, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    model = torch.nn.Sequential(
        torch.nn.Linear(512, 2048), torch.nn.ReLU(), torch.nn.Linear(2048, 512)
    ).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    return (
        model,
        optimizer,
        torch.randn(256, 512, device="cuda"),
        torch.randn(256, 512, device="cuda"),
    )


def train() -> dict[str, object]:
    model, optimizer, inputs, targets = network()
    losses = []
    for _ in range(50):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return {"first_loss": losses[0], "last_loss": losses[-1]}


def graph() -> dict[str, object]:
    model, _, inputs, _ = network()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            model(inputs)
    torch.cuda.current_stream().wait_stream(side)
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        output = model(inputs)
    inputs.normal_()
    expected = model(inputs)
    replays, start = 0, time.monotonic_ns()
    while time.monotonic_ns() - start < 3_000_000_000:
        for _ in range(200):
            recorded.replay()
        torch.cuda.synchronize()
        replays += 200
    elapsed_ns = time.monotonic_ns() - start
    return {
        "matches": bool(torch.allclose(output, expected, rtol=1e-3, atol=1e-3)),
        "replays_a_second": replays * 1e9 / elapsed_ns,
    }


if __name__ == "__main__":
    programs = {"memory": memory, "recover": recover, "train": train, "graph": graph}
    print(json.dumps(programs[sys.argv[1]]()))
