"""Starting the processes of a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from detectron2.engine import launch as start_processes
from detectron2.utils import comm
from torch.distributed.rendezvous import rendezvous
from torch.multiprocessing import ProcessExitedException

_VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"


def launch(
    main: Callable[..., None],
    num_gpus: int,
    *,
    device: str = "auto",
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
    args: tuple[object, ...] = (),
) -> None:
    """Runs a function in one process per GPU, or per CPU process where no GPU is to be used.

    Under ``torchrun`` the processes are there already, and only their group is set up.

    Args:
        main: What each process runs.
        num_gpus: Processes on this machine; 0 and 1 run in this very process.
        device: What the processes compute on, as in ``train.device``.
        num_machines: Number of machines.
        machine_rank: Number of this machine.
        dist_url: Where the processes meet; "auto" is a free port, on one machine.
        args: Arguments of ``main``.

    Raises:
        ValueError: If there are fewer GPUs than asked for, if several processes are to share one,
            or if there is no address for several machines.
    """
    if _started_by_torchrun():
        local, total = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        uses_gpu = _check_gpus(local, total, device, "torchrun --nproc-per-node")
        _run_in_given_process(main, args, uses_gpu=uses_gpu)
        return
    local = max(num_gpus, 1)
    uses_gpu = _check_gpus(local, local * num_machines, device, "--num-gpus")
    if num_machines > 1 and dist_url == "auto":
        raise ValueError(
            "--num-machines > 1 needs --dist-url tcp://<address of machine 0>:<port>, the same on "
            "all machines"
        )
    try:
        with _hidden_gpus(not uses_gpu and local * num_machines > 1):
            start_processes(main, local, num_machines, machine_rank, dist_url=dist_url, args=args)
    except ProcessExitedException as error:
        # The process has said why it ended.
        raise SystemExit(error.exit_code or 1) from None


def _check_gpus(local: int, total: int, device: str, option: str) -> bool:
    """Returns whether GPUs are used, of which there must be one for each process."""
    kind, _, index = device.partition(":")
    if kind == "cpu" or not torch.cuda.is_available():
        return False
    if index and total > 1:
        raise ValueError(
            f"train.device={device} is one GPU, but {total} processes need one each; use "
            f"train.device={kind}, or start one process"
        )
    gpus = torch.cuda.device_count()
    if local > 1 and local > gpus:
        raise ValueError(
            f"{option} {local} asks for more GPUs than the {gpus} there are; start fewer "
            "processes, or use train.device=cpu"
        )
    return True


@contextmanager
def _hidden_gpus(hide: bool) -> Iterator[None]:
    """Lets started processes see no GPU, so that Detectron2 joins them by Gloo and not by NCCL."""
    before = os.environ.get(_VISIBLE_GPUS)
    if hide:
        os.environ[_VISIBLE_GPUS] = ""
    try:
        yield
    finally:
        if hide and before is None:
            del os.environ[_VISIBLE_GPUS]
        elif hide and before is not None:
            os.environ[_VISIBLE_GPUS] = before


def _started_by_torchrun() -> bool:
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    return all(name in os.environ for name in names)


def _run_in_given_process(
    main: Callable[..., None], args: tuple[object, ...], *, uses_gpu: bool
) -> None:
    if uses_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    store, rank, size = next(rendezvous("env://"))
    if os.environ.get("GROUP_WORLD_SIZE") == "1":
        # torchrun keeps one store for all its restarts, in which the addresses of the processes
        # that have ended still stand. Several machines may have counted differently.
        store = dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
    backend = "nccl" if uses_gpu else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    try:
        comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
        comm.synchronize()
        main(*args)
    finally:
        dist.destroy_process_group()
