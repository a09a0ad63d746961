"""Brings the reference implementation's configurations and weights into this package."""

from piip_d2.checkpoint.backbone_names import convert_backbone_state_dict
from piip_d2.checkpoint.detector_names import convert_detector_state_dict
from piip_d2.checkpoint.official import build_from_official

__all__ = [
    "build_from_official",
    "convert_backbone_state_dict",
    "convert_detector_state_dict",
]
