"""Fully sharded training: every process keeps its share of weights, gradients and states.

PyTorch's ``fully_shard`` (FSDP2) does the work; https://arxiv.org/abs/2304.11277 describes the
idea. A model is built without values, sharded, and only then given memory, so that no process
needs room for all of it; its first weights come from the first process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.distributed as dist
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.modules.module import register_module_parameter_registration_hook

from piip_d2.engine.sharding import sharded_modules
from piip_d2.modeling.backbone import PIIPNetwork

logger = logging.getLogger(__name__)

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def shards_model(cfg: DictConfig) -> bool:
    """Returns whether the model is to be sharded: only where processes have been joined."""
    return bool(cfg.train.fsdp.enabled) and dist.is_initialized()


def is_sharded(model: nn.Module) -> bool:
    """Returns whether :func:`build_sharded` made a model."""
    return isinstance(model, FSDPModule)


def build_sharded(build: Callable[[], nn.Module], options: DictConfig, device: str) -> nn.Module:
    """Builds a sharded model in training mode, whose parameters have room but no values yet.

    Args:
        build: Makes the model.
        options: ``train.fsdp`` of the configuration.
        device: Where the processes compute.

    Returns:
        The model; its buffers have their values.

    Raises:
        ValueError: If an option is unknown.
    """
    policies = _policies(options)
    hook = register_module_parameter_registration_hook(_without_values)
    try:
        model = build()
    finally:
        hook.remove()
    kind = torch.device(device).type
    mesh = init_device_mesh(kind, (dist.get_world_size(),))
    # They would have to be cut and cannot be: every process keeps all of them.
    whole = {parameter for parameter in model.parameters() if parameter.ndim == 0}
    in_network = {part for network in _networks(model) for part in network.modules()}
    offload = CPUOffloadPolicy(pin_memory=kind == "cuda") if options.cpu_offload else None
    for module in sharded_modules(model):
        fully_shard(
            module,
            mesh=mesh,
            reshard_after_forward=bool(options.reshard_after_forward) and module is not model,
            mp_policy=policies[module in in_network],
            offload_policy=offload or OffloadPolicy(),
            ignored_params=whole,
        )
    _materialize(model, device, offloaded=offload is not None)
    logger.info(
        "The model is sharded over %d processes in %d parts.",
        dist.get_world_size(),
        len(sharded_modules(model)),
    )
    return model


@torch.no_grad()
def scatter_weights(weights: Mapping[str, Tensor], model: nn.Module) -> None:
    """Gives every process its share of the first process's weights; all processes call it.

    Args:
        weights: The whole state dict in the first process, nothing in the others.
        model: The sharded model.
    """
    for name, own in model.state_dict().items():
        # Weights kept on the CPU travel over the GPUs too; one at a time, so that there is room.
        mesh = own.device_mesh if isinstance(own, DTensor) else None
        home = mesh.device_type if mesh else own.device
        if dist.get_rank() == 0:
            whole = weights[name].to(home, own.dtype).contiguous()
        else:
            whole = torch.empty(own.shape, dtype=own.dtype, device=home)
        dist.broadcast(whole, src=0)
        if isinstance(own, DTensor):
            share = distribute_tensor(whole, mesh, own.placements, src_data_rank=None)
            own.to_local().copy_(share.to_local())
        else:
            own.copy_(whole)


def gather_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Puts sharded weights together on the CPU of the first process; all processes call it.

    Args:
        weights: Sharded and other tensors by name, in the same order everywhere.

    Returns:
        All of them in the first process, nothing in the others.
    """
    is_first = not dist.is_initialized() or dist.get_rank() == 0
    gathered = {}
    for name, value in weights.items():
        whole = _whole(value.detach())
        if is_first:
            gathered[name] = whole.cpu()
    return gathered


def local_part(tensor: Tensor) -> Tensor:
    """Returns what this process keeps of a tensor: all of it, unless it is sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def separate_whole_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Gives parameters that cannot be sharded groups of their own.

    PyTorch's optimisers take a group at once, in which all tensors must be sharded or none. The
    groups do not depend on the number of processes, so that checkpoints fit any.
    """
    groups = []
    for group in optimizer.param_groups:
        for is_whole in (False, True):
            members = [p for p in group["params"] if (p.ndim == 0) == is_whole]
            if members:
                groups.append({**group, "params": members})
    optimizer.param_groups[:] = groups


def average_whole_gradients(model: nn.Module) -> None:
    """Averages over the processes the gradients that ``fully_shard`` leaves alone.

    A process without such a gradient counts as one with zeros; where none has it, none gets it.
    """
    for parameter in model.parameters():
        if isinstance(parameter, DTensor) or not parameter.requires_grad:
            continue
        found = parameter.grad is not None
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        # All processes must take part in every exchange, so they exchange who has one, too.
        total = torch.stack([gradient, torch.full_like(gradient, float(found))])
        dist.all_reduce(total)
        if total[1].any():
            parameter.grad = total[0] / dist.get_world_size()


def sharded_norm(gradients: list[Tensor], norm_type: float, device: torch.device) -> Tensor:
    """Computes the norm of all gradients together, over all processes.

    Args:
        gradients: Sharded gradients and whole ones, which must be the same everywhere.
        norm_type: Exponent of the norm.
        device: Where the processes compute.

    Returns:
        The norm, on that device.
    """
    shares = [gradient.to_local() for gradient in gradients if isinstance(gradient, DTensor)]
    # Small weights leave some processes nothing, which has no maximum.
    shares = [share for share in shares if share.numel()]
    whole = [gradient for gradient in gradients if not isinstance(gradient, DTensor)]
    norm = nn.utils.get_total_norm(shares, norm_type).to(device, torch.float32)
    rest = nn.utils.get_total_norm(whole, norm_type).to(device, torch.float32)
    if norm_type == torch.inf:
        dist.all_reduce(norm, dist.ReduceOp.MAX)
        return torch.maximum(norm, rest)
    power = norm**norm_type
    dist.all_reduce(power)
    total: Tensor = (power + rest**norm_type) ** (1.0 / norm_type)
    return total


@contextmanager
def gathered_for_evaluation(model: nn.Module, *, reshard_after_forward: bool) -> Iterator[None]:
    """Lets every process hold all weights for a while.

    Processes may then evaluate different numbers of images, without a word between them.

    Args:
        model: The sharded model.
        reshard_after_forward: ``train.fsdp.reshard_after_forward``, which holds again afterwards.
    """
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            reshards = reshard_after_forward and part is not model
            part.set_reshard_after_forward(reshards, recurse=False)
            part.reshard()


def check_fsdp(cfg: DictConfig) -> None:
    """Checks that what the configuration asks for goes together with sharding.

    Args:
        cfg: The configuration.

    Raises:
        ValueError: If it does not.
    """
    if not cfg.train.fsdp.enabled:
        return
    _policies(cfg.train.fsdp)
    if cfg.train.amp.enabled and cfg.train.amp.dtype == "fp16":
        raise ValueError(
            "train.fsdp goes together with bf16 and fp32; train.amp.dtype=fp16 would need a loss "
            "scale that all processes agree on. Use train.amp.dtype=bf16"
        )
    if cfg.train.get("compile", {}).get("enabled", False):
        raise ValueError(
            "train.compile compiles the backbone as one graph, which gathering its weights block "
            "by block interrupts; set train.compile.enabled=False or train.fsdp.enabled=False"
        )


def _policies(options: DictConfig) -> dict[bool, MixedPrecisionPolicy]:
    """Policies of modules inside and outside of PIIP networks.

    Only the network's own weights are gathered in 16 bits: heads compute losses and boxes, and
    leave to autocast what of this stays in 32.
    """
    for key in ("param_dtype", "reduce_dtype"):
        if options[key] not in _DTYPES:
            raise ValueError(
                f"train.fsdp.{key} must be one of {sorted(_DTYPES)}, got {options[key]!r}"
            )
    reduce_dtype = _DTYPES[options.reduce_dtype]
    return {
        True: MixedPrecisionPolicy(_DTYPES[options.param_dtype], reduce_dtype),
        False: MixedPrecisionPolicy(torch.float32, reduce_dtype, cast_forward_inputs=False),
    }


def _networks(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, PIIPNetwork)]


def _without_values(module: nn.Module, name: str, parameter: nn.Parameter | None) -> Any:
    """Replaces a parameter that is being registered by one without memory."""
    if parameter is None or parameter.is_meta:
        return parameter
    return nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)


def _materialize(model: nn.Module, device: str, *, offloaded: bool) -> None:
    def give_memory(tensor: Tensor) -> Tensor:
        if not tensor.is_meta:
            return tensor.to(device)
        home = "cpu" if offloaded and isinstance(tensor, DTensor) else device
        return torch.empty_like(tensor, device=home)

    model._apply(give_memory)


def _whole(value: Tensor) -> Tensor:
    if not isinstance(value, DTensor):
        return value
    mesh: DeviceMesh = value.device_mesh
    # With weights kept on the CPU, the processes still talk to each other over their GPUs.
    return cast(DTensor, value.to(mesh.device_type)).full_tensor()
