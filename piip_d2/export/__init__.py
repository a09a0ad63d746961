"""Programs that run without this package: ``torch.export`` and ONNX."""

from piip_d2.export.backbone import export_backbone
from piip_d2.export.comparison import Difference, compare, measure_seconds
from piip_d2.export.detector import ExportableDINO, export_detector
from piip_d2.export.files import FORMATS, Exported

__all__ = [
    "FORMATS",
    "Difference",
    "ExportableDINO",
    "Exported",
    "compare",
    "export_backbone",
    "export_detector",
    "measure_seconds",
]
