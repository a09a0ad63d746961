"""Memory of one process in training or detection, from the tensors of a step without numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from piip_d2.analysis.memory.sharded import gathered_peak
from piip_d2.analysis.memory.trace import (
    Batch,
    MakeOptimizer,
    StepTrace,
    trace_detection,
    trace_training,
)

STRATEGIES = ("single", "ddp", "fsdp")
MODES = ("training", "inference")


@dataclass(frozen=True)
class Setting:
    """How a model is trained, or used.

    Args:
        batch: What one process is given.
        mode: ``"training"`` or ``"inference"``.
        strategy: ``"single"``, ``"ddp"`` (every process has all weights) or ``"fsdp"`` (every
            process keeps its share).
        world_size: Processes.
        keeps_gradients: Whether gradients outlive an iteration, as with accumulation.
        has_average: Whether there is a moving average of the weights.
        cpu_offload: Whether shares are kept in the host's memory ("fsdp" alone, as the rest).
        param_dtype: What the network's weights are gathered in; None for the type of the batch.
        reduce_dtype: What gradients are sent in.
        reshard_after_forward: Whether gathered weights are given back after the forward pass. For
            detection they never are.
        exchange_every_batch: Whether accumulated gradients are exchanged with every batch;
            otherwise they are kept whole, in float32.

    Raises:
        ValueError: If a choice is unknown or the numbers do not go together.
    """

    batch: Batch
    mode: str = "training"
    strategy: str = "single"
    world_size: int = 1
    keeps_gradients: bool = False
    has_average: bool = False
    cpu_offload: bool = False
    param_dtype: torch.dtype | None = None
    reduce_dtype: torch.dtype = torch.float32
    reshard_after_forward: bool = True
    exchange_every_batch: bool = True

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("mode", self.mode, MODES),
            ("strategy", self.strategy, STRATEGIES),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {value!r}")
        if self.world_size < 1:
            raise ValueError(f"world_size must be 1 or more, got {self.world_size}")
        if self.strategy == "single" and self.world_size > 1:
            raise ValueError(
                f'{self.world_size} processes need the strategy "ddp" or "fsdp", got "single"'
            )
        if self.cpu_offload and self.strategy != "fsdp":
            raise ValueError(f'cpu_offload goes with the strategy "fsdp", got {self.strategy!r}')


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of one process.

    Args:
        fixed: What is there all the time, by name.
        kept: What the forward pass keeps for the backward pass, by part.
        phases: The most beyond ``fixed`` in every phase of a step.
        host: What is kept in the host's memory instead.
    """

    fixed: dict[str, int]
    phases: dict[str, int]
    kept: dict[str, int] = field(default_factory=dict)
    host: int = 0

    @property
    def total(self) -> int:
        """The most at any time."""
        return sum(self.fixed.values()) + max(self.phases.values())


def estimate_memory(
    model: nn.Module, setting: Setting, make_optimizer: MakeOptimizer | None = None
) -> MemoryEstimate:
    """Predicts the most that a process holds in tensors at a time.

    Args:
        model: The detector, on ``meta``; its ``use_act_checkpoint`` are heeded.
        setting: How it is trained, or used.
        make_optimizer: Makes the optimizer from the model, for training.

    Returns:
        The prediction.

    Raises:
        ValueError: If there is no rule for the model.
    """
    counts_copies = _casts_weights(setting)
    if setting.mode == "inference":
        trace = trace_detection(model, setting.batch, counts_weight_copies=counts_copies)
        return _place(model, setting, _weights(model, setting), trace)
    has_gradients = setting.strategy != "single" or setting.keeps_gradients
    trace = trace_training(
        model,
        setting.batch,
        make_optimizer=make_optimizer,
        has_gradients=has_gradients,
        counts_weight_copies=counts_copies,
    )
    fixed = _weights(model, setting)
    fixed["optimizer states"] = trace.optimizer_states
    if has_gradients:
        # With DDP they are views of what is sent, so that there is nothing else.
        fixed["gradients"] = _trained_bytes(model)
    return _place(model, setting, fixed, trace)


def _casts_weights(setting: Setting) -> bool:
    """Whether autocast makes copies of weights, or finds them gathered in its own type."""
    gathered = setting.param_dtype or setting.batch.dtype
    return setting.strategy != "fsdp" or gathered != setting.batch.dtype


def _weights(model: nn.Module, setting: Setting) -> dict[str, int]:
    fixed = {"weights": _bytes(model.parameters()), "buffers": _bytes(model.buffers())}
    if setting.has_average and setting.mode == "training":
        fixed["moving average"] = _trained_bytes(model)
    return fixed


def _place(
    model: nn.Module, setting: Setting, fixed: dict[str, int], trace: StepTrace
) -> MemoryEstimate:
    phases = {"forward": trace.forward_peak}
    if setting.mode == "training":
        phases["backward"] = trace.backward_peak
        phases["update"] = trace.gradients + trace.update_peak
    if setting.strategy != "fsdp":
        return MemoryEstimate(fixed, phases, trace.kept)
    # An update goes through one share at a time, and its temporaries are of that size.
    if "update" in phases:
        phases["update"] = -(-phases["update"] // setting.world_size)
    for name in ("forward", "backward"):
        if name in phases:
            phases[name] += _gathered(model, setting, backward=name == "backward")
    shares = {
        name: size if name == "buffers" else -(-size // setting.world_size)
        for name, size in fixed.items()
    }
    if not setting.cpu_offload:
        return MemoryEstimate(shares, phases, trace.kept)
    phases.pop("update", None)
    buffers = shares.pop("buffers")
    return MemoryEstimate({"buffers": buffers}, phases, trace.kept, host=sum(shares.values()))


def _gathered(model: nn.Module, setting: Setting, *, backward: bool) -> int:
    """What stands whole beside the shares."""
    is_training = setting.mode == "training"
    size = gathered_peak(
        model,
        (setting.param_dtype or setting.batch.dtype).itemsize,
        backward=backward,
        # Evaluation gathers all at once, so that processes need not wait for each other.
        keeps_weights=not (is_training and setting.reshard_after_forward),
        sent_width=setting.reduce_dtype.itemsize,
    )
    if is_training and setting.keeps_gradients and not setting.exchange_every_batch:
        size += _trained_bytes(model)
    return size


def _trained_bytes(model: nn.Module) -> int:
    return _bytes(parameter for parameter in model.parameters() if parameter.requires_grad)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in set(tensors))
