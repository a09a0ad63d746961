"""Names of whole detectors in other programs, and ours."""

from piip_d2.checkpoint.detectors.export import export_detector_state_dict
from piip_d2.checkpoint.detectors.names import convert_detector_state_dict

__all__ = ["convert_detector_state_dict", "export_detector_state_dict"]
