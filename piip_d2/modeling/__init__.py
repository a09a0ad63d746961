"""Networks. Importing this registers them in Detectron2, where that is installed."""

from piip_d2._optional import available

__all__: list[str] = []

if available("detectron2"):
    from piip_d2.modeling.backbone.fpn import PIIPFPN
    from piip_d2.modeling.backbone.piip import PIIP, build_piip
    from piip_d2.modeling.dino import DINO, ChannelMapper
    from piip_d2.modeling.roi_heads import ExtendedCascadeROIHeads

    __all__ += [
        "DINO",
        "PIIP",
        "PIIPFPN",
        "ChannelMapper",
        "ExtendedCascadeROIHeads",
        "build_piip",
    ]
