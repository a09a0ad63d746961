"""DINO as a Detectron2 meta-architecture, https://arxiv.org/abs/2203.03605."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import ImageList, Instances
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from piip_d2.modeling.class_range import check_classes, range_of_classes
from piip_d2.modeling.dino.build import build_dino_transformer
from piip_d2.modeling.dino.criterion import DINOCriterion
from piip_d2.modeling.dino.denoising import ContrastiveDenoising, DenoisingQueries
from piip_d2.modeling.dino.inference import select_detections
from piip_d2.modeling.dino.matcher import HungarianMatcher
from piip_d2.modeling.dino.neck import ChannelMapper
from piip_d2.modeling.dino.targets import Targets, join_targets
from piip_d2.modeling.dino.training_picture import draw_training_picture
from piip_d2.modeling.dino.transformer import DINOTransformer, TransformerOutput


@META_ARCH_REGISTRY.register()
class DINO(nn.Module):
    """Detects objects by queries of a transformer, without anchors and non-maximum suppression.

    Args:
        backbone: Gives maps of one width, finest first, as a :class:`ChannelMapper` does.
        transformer: Turns the maps into classes and boxes.
        criterion: Computes the losses.
        denoising: Makes noisy queries for training, or None to train without.
        num_classes: Kinds of objects. All parts must have been built for as many.
        pixel_mean: Mean of every channel of an image, in the order of ``input_format``.
        pixel_std: Deviation of every channel.
        topk_per_image: Largest number of detections in an image.
        test_score_thresh: Detections with a lower score are left out.
        input_format: Order of the channels.
        vis_period: Iterations between two pictures of training in the log; 0 for none.

    Raises:
        ValueError: If parts are built for other numbers of classes.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        transformer: DINOTransformer,
        criterion: DINOCriterion,
        denoising: ContrastiveDenoising | None,
        num_classes: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        topk_per_image: int = 300,
        test_score_thresh: float = 0.0,
        input_format: str = "RGB",
        vis_period: int = 0,
    ) -> None:
        super().__init__()
        noisy_classes = denoising.label_enc.num_embeddings if denoising else num_classes
        if not transformer.num_classes == noisy_classes == num_classes:
            raise ValueError(
                f"num_classes is {num_classes}, but the transformer was built for "
                f"{transformer.num_classes} and denoising for {noisy_classes}; "
                'in a config, give both as "${..num_classes}"'
            )
        self.backbone = backbone
        self.transformer = transformer
        self.criterion = criterion
        self.denoising = denoising
        self.num_classes = num_classes
        self.topk_per_image = topk_per_image
        self.test_score_thresh = test_score_thresh
        self.input_format = input_format
        self.vis_period = vis_period
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            buffer = torch.tensor(list(values), dtype=torch.float32).view(-1, 1, 1)
            self.register_buffer(name, buffer, persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads the keys that :func:`piip_d2.config.add_dino_config` adds."""
        if "DINO" not in cfg.MODEL:
            raise ValueError(
                "the config has no MODEL.DINO; call piip_d2.config.add_dino_config(cfg) first"
            )
        dino = cfg.MODEL.DINO
        return {
            "backbone": ChannelMapper(
                build_backbone(cfg),
                dino.IN_FEATURES,
                dino.EMBED_DIM,
                dino.NUM_LEVELS,
                bias=dino.NECK_BIAS,
            ),
            "transformer": _transformer_from_config(dino),
            "criterion": DINOCriterion(
                HungarianMatcher(),
                class_weight=dino.CLASS_WEIGHT,
                bbox_weight=dino.BBOX_WEIGHT,
                giou_weight=dino.GIOU_WEIGHT,
            ),
            "denoising": _denoising_from_config(dino),
            "num_classes": dino.NUM_CLASSES,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "topk_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "test_score_thresh": dino.TEST_SCORE_THRESH,
            "input_format": cfg.INPUT.FORMAT,
            "vis_period": cfg.VIS_PERIOD,
        }

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.pixel_mean.device

    def forward(
        self, batched_inputs: Sequence[Mapping[str, Any]]
    ) -> dict[str, Tensor] | list[dict[str, Instances]]:
        """Trains on images, or detects their objects.

        Args:
            batched_inputs: As Detectron2's mappers give them: ``image`` (C, H, W); in training
                ``instances``; for detection ``height`` and ``width`` of the output.

        Returns:
            In training the losses by name, otherwise one dict per image with ``instances``, which
            have ``pred_boxes``, ``scores`` and ``pred_classes``.

        Raises:
            ValueError: If training inputs have no objects, or objects of classes that are unknown.
        """
        images = self.preprocess_images(batched_inputs)
        if not self.training:
            detections = self._detect(self._run(images), images)
            return [
                {"instances": _at_size_of(one_input, found)}
                for one_input, found in zip(batched_inputs, detections, strict=True)
            ]
        targets = self._join_targets(batched_inputs)
        noisy = None if self.denoising is None else self.denoising(targets)
        output = self._run(images, noisy)
        if self.vis_period > 0 and get_event_storage().iter % self.vis_period == 0:
            found = self._detect(output, images)[0]
            draw_training_picture(batched_inputs[0], found, self.input_format)
        losses: dict[str, Tensor] = self.criterion(output, targets.to(self.device), noisy)
        return losses

    def preprocess_images(self, batched_inputs: Sequence[Mapping[str, Any]]) -> ImageList:
        """Normalises images, then pads them with zeros to one size."""
        images = [x["image"].to(self.device, non_blocking=True) for x in batched_inputs]
        return ImageList.from_tensors(
            [(x - self.pixel_mean) / self.pixel_std for x in images],
            self.backbone.size_divisibility,
            padding_constraints=self.backbone.padding_constraints,
        )

    def _join_targets(self, batched_inputs: Sequence[Mapping[str, Any]]) -> Targets:
        if not all("instances" in x for x in batched_inputs):
            raise ValueError(
                "in training every input needs its objects under 'instances', got inputs with "
                f"{sorted(batched_inputs[0])}; build the mapper with is_train=True"
            )
        targets = join_targets([x["instances"] for x in batched_inputs])
        # On a GPU, to look would be to wait for it; mappers leave objects on the host.
        if targets.labels.device.type == "cpu":
            check_classes(range_of_classes(targets.labels), self.num_classes, "model.num_classes")
        return targets

    def _run(self, images: ImageList, noisy: DenoisingQueries | None = None) -> TransformerOutput:
        maps = list(self.backbone(images.tensor).values())
        height, width = images.tensor.shape[-2:]
        output: TransformerOutput = self.transformer(
            maps, images.image_sizes, (height, width), noisy
        )
        return output

    @torch.no_grad()
    def _detect(self, output: TransformerOutput, images: ImageList) -> list[Instances]:
        return select_detections(
            output.decoder.logits[-1],
            output.decoder.boxes[-1],
            images.image_sizes,
            topk=self.topk_per_image,
            score_thresh=self.test_score_thresh,
        )


def _at_size_of(one_input: Mapping[str, Any], found: Instances) -> Instances:
    height, width = found.image_size
    return detector_postprocess(
        found, one_input.get("height", height), one_input.get("width", width)
    )


def _transformer_from_config(dino: CfgNode) -> DINOTransformer:
    return build_dino_transformer(
        num_classes=dino.NUM_CLASSES,
        num_levels=dino.NUM_LEVELS,
        embed_dim=dino.EMBED_DIM,
        num_heads=dino.NUM_HEADS,
        num_points=dino.NUM_POINTS,
        feedforward_dim=dino.FEEDFORWARD_DIM,
        num_encoder_layers=dino.NUM_ENCODER_LAYERS,
        num_decoder_layers=dino.NUM_DECODER_LAYERS,
        num_queries=dino.NUM_QUERIES,
        position_temperature=dino.POSITION_TEMPERATURE,
        position_offset=dino.POSITION_OFFSET,
        use_encoder_act_checkpoint=dino.USE_ENCODER_ACT_CHECKPOINT,
        use_decoder_act_checkpoint=dino.USE_DECODER_ACT_CHECKPOINT,
    )


def _denoising_from_config(dino: CfgNode) -> ContrastiveDenoising | None:
    # Detectron2's yacs has no null for a section.
    if dino.NUM_DENOISING_QUERIES == 0:
        return None
    return ContrastiveDenoising(
        dino.NUM_CLASSES,
        dino.EMBED_DIM,
        dino.NUM_DENOISING_QUERIES,
        dino.LABEL_NOISE,
        dino.BOX_NOISE,
    )
