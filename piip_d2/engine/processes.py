"""Starting the processes of a run."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
import torch.distributed as dist
from detectron2.engine import launch as start_processes
from detectron2.utils import comm
from torch.multiprocessing import ProcessExitedException


def launch(
    main: Callable[..., None],
    num_gpus: int,
    *,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
    args: tuple[object, ...] = (),
) -> None:
    """Runs a function in one process per GPU, or per CPU process where there is no GPU.

    Under ``torchrun`` the processes are there already, and only their group is set up.

    Args:
        main: What each process runs.
        num_gpus: Processes on this machine; 0 and 1 run in this very process.
        num_machines: Number of machines.
        machine_rank: Number of this machine.
        dist_url: Where the processes meet; "auto" is a free port, on one machine.
        args: Arguments of ``main``.

    Raises:
        ValueError: If there are fewer GPUs than asked for, or several machines without an address.
    """
    if _started_by_torchrun():
        _run_in_given_process(main, args)
        return
    gpus = torch.cuda.device_count()
    if num_gpus > 1 and 0 < gpus < num_gpus:
        raise ValueError(f"--num-gpus {num_gpus} asks for more GPUs than the {gpus} there are")
    if num_machines > 1 and dist_url == "auto":
        raise ValueError(
            "--num-machines > 1 needs --dist-url tcp://<address of machine 0>:<port>, the same on "
            "all machines"
        )
    try:
        start_processes(
            main, max(num_gpus, 1), num_machines, machine_rank, dist_url=dist_url, args=args
        )
    except ProcessExitedException as error:
        # The process has said why it ended.
        raise SystemExit(error.exit_code or 1) from None


def _started_by_torchrun() -> bool:
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    return all(name in os.environ for name in names)


def _run_in_given_process(main: Callable[..., None], args: tuple[object, ...]) -> None:
    has_gpu = torch.cuda.is_available()
    if has_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if has_gpu else "gloo", init_method="env://")
    try:
        comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
        comm.synchronize()
        main(*args)
    finally:
        dist.destroy_process_group()
