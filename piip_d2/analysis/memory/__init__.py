"""Predicts the memory of training and detection, and measures it. Needs Detectron2."""

from piip_d2.analysis.memory.estimate import MemoryEstimate, Setting, estimate_memory
from piip_d2.analysis.memory.trace import Batch, count_activations

__all__ = ["Batch", "MemoryEstimate", "Setting", "count_activations", "estimate_memory"]
