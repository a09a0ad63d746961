"""Mixed precision for the training step."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Arithmetic of the forward pass and, for half precision, the scaling of the loss.

    Args:
        name: "fp32", "bf16" or "fp16".
        device: Where the model runs.

    Raises:
        ValueError: If the name is unknown or the device has no such arithmetic.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        if name not in _DTYPES:
            raise ValueError(f"train.amp.dtype must be one of {sorted(_DTYPES)}, got {name!r}")
        if name == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise ValueError(
                f"{torch.cuda.get_device_name(device)} has no bfloat16 arithmetic; "
                "use train.amp.dtype=fp16"
            )
        if name == "fp16" and device.type == "cpu":
            logger.warning("fp16 is emulated on most CPUs and very slow there; bf16 is faster.")
        self.name = name
        self.device_type = device.type
        # Gradients below 6e-8 vanish in fp16; bf16 has the exponents of float32.
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def autocast(self) -> AbstractContextManager[Any]:
        """Returns the context for forward passes."""
        dtype = _DTYPES[self.name]
        return torch.autocast(self.device_type, dtype=dtype, enabled=dtype != torch.float32)

    def backward(self, loss: Tensor) -> None:
        """Adds the gradients of ``loss``, scaled where the precision asks for it."""
        self.scaler.scale(loss).backward()

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Brings the gradients to their true size; call it once, before looking at them."""
        self.scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Updates the weights; fp16 skips an update whose gradients overflowed."""
        self.scaler.step(optimizer)
        self.scaler.update()

    @property
    def skips_overflow(self) -> bool:
        """Whether an update with infinite gradients is skipped rather than fatal."""
        return self.scaler.is_enabled()
