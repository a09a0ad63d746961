"""Optimisation: PIIP's parameter groups and what its learning-rate schedules need."""

from __future__ import annotations

from .param_groups import get_piip_param_groups
from .schedule import warmup_fraction

__all__ = ["get_piip_param_groups", "warmup_fraction"]
