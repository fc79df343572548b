# SPDX-License-Identifier: Apache-2.0
"""A training in two processes takes the steps of one with batches twice as large."""

import socket

import pytest

torch = pytest.importorskip("torch")

from offline_compress.train.processes import Processes  # noqa: E402

STEPS = 5


def trained(processes, per_process):
    """Weights (4,) after some steps of least squares on rows that follow from the batch's number."""
    weight = torch.nn.Parameter(torch.zeros(4))
    optimiser = torch.optim.SGD([weight], 0.1)
    for step in range(STEPS):
        first = processes.share_of(step) * per_process
        rows = torch.stack(
            [torch.randn(5, generator=torch.Generator().manual_seed(first + i)) for i in range(per_process)]
        )
        optimiser.zero_grad()
        (rows[:, :4] @ weight - rows[:, 4]).square().mean().backward()
        processes.average_gradients([weight])
        optimiser.step()
    return weight.detach()


def work(rank, port, made, queue):
    import os

    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    processes = Processes.join()
    with processes.lead_first():
        found = made.exists()  # by the leading one
        made.touch()
    queue.put((rank, processes.leads, found, trained(processes, 3).tolist()))
    processes.leave()


def test_two_processes_train_as_one_and_solve_one_after_the_other(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = torch.multiprocessing.get_context("spawn")
    queue = context.Queue()
    running = [context.Process(target=work, args=(rank, port, tmp_path / "made", queue)) for rank in range(2)]
    for process in running:
        process.start()
    found = sorted(queue.get(timeout=120) for _ in running)
    for process in running:
        process.join(60)
    alone = trained(Processes(), 6)
    assert [leads for _, leads, _, _ in found] == [True, False]
    assert [seen for _, _, seen, _ in found] == [False, True]
    for _, _, _, weight in found:
        assert torch.allclose(torch.tensor(weight), alone, atol=1e-6)


def test_a_process_alone_takes_every_batch(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    processes = Processes.join()
    assert processes.leads and [processes.share_of(step) for step in range(3)] == [0, 1, 2]
