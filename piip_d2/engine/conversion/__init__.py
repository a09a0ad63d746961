"""Whole detectors of other programs as checkpoints of this package, and the way back."""

from piip_d2.engine.conversion.convert import build_without_memory, convert_checkpoint
from piip_d2.engine.conversion.matching import Match, match_weights
from piip_d2.engine.conversion.report import ConversionError, ConversionReport

__all__ = [
    "ConversionError",
    "ConversionReport",
    "Match",
    "build_without_memory",
    "convert_checkpoint",
    "match_weights",
]
