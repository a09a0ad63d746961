"""Brings configurations and weights of the authors, and of single networks, into this package."""

from piip_d2.checkpoint.backbone_weights import (
    convert_backbone_state_dict,
    export_backbone_state_dict,
)
from piip_d2.checkpoint.branch_weights import load_branch_weights
from piip_d2.checkpoint.detectors import (
    convert_detector_state_dict,
    export_detector_state_dict,
)
from piip_d2.checkpoint.official import build_from_official

__all__ = [
    "build_from_official",
    "convert_backbone_state_dict",
    "convert_detector_state_dict",
    "export_backbone_state_dict",
    "export_detector_state_dict",
    "load_branch_weights",
]
