"""A ResNet of few channels."""

from __future__ import annotations

from detectron2.modeling.backbone.resnet import BasicStem, BottleneckBlock, ResNet


def build_small_resnet(stride_in_1x1: bool) -> ResNet:
    """One block of three convolutions a stage, with frozen norms."""
    widths = [8, 16, 24, 32, 40]
    stages = [
        ResNet.make_stage(
            BottleneckBlock,
            1,
            in_channels=widths[number],
            out_channels=widths[number + 1],
            bottleneck_channels=8,
            stride=1 if number == 0 else 2,
            norm="FrozenBN",
            stride_in_1x1=stride_in_1x1,
        )
        for number in range(4)
    ]
    names = ["res2", "res3", "res4", "res5"]
    return ResNet(BasicStem(3, 8, norm="FrozenBN"), stages, out_features=names)
