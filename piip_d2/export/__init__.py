"""Programs that run without this package: ``torch.export`` and ONNX."""

from piip_d2.export.backbone import export_backbone
from piip_d2.export.comparison import Difference, compare, measure_seconds
from piip_d2.export.detector import ExportableDINO, export_detector
from piip_d2.export.files import Exported
from piip_d2.export.refusals import check_path

__all__ = [
    "Difference",
    "ExportableDINO",
    "Exported",
    "check_path",
    "compare",
    "export_backbone",
    "export_detector",
    "measure_seconds",
]
