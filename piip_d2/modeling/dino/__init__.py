"""DINO (https://arxiv.org/abs/2203.03605), a detector for any Detectron2 backbone.

:class:`DINO` is the whole. A training step is made of parts that can be called one by one, for
example with noisy queries of one's own in the place of ``model.denoising(targets)``::

    images = model.preprocess_images(batch)
    padded_size = tuple(images.tensor.shape[-2:])
    targets = join_targets([x["instances"] for x in batch])
    noisy = DenoisingQueries(content, box_logits, num_groups, num_places)
    maps = list(model.backbone(images.tensor).values())
    output = model.transformer(maps, images.image_sizes, padded_size, noisy)
    losses = model.criterion(output, targets, noisy)
    detections = select_detections(
        output.decoder.logits[-1], output.decoder.boxes[-1], images.image_sizes
    )
"""

from piip_d2.modeling.dino.build import build_dino_transformer
from piip_d2.modeling.dino.criterion import DINOCriterion
from piip_d2.modeling.dino.decoder import Decoder, DecoderLayer
from piip_d2.modeling.dino.denoising import ContrastiveDenoising, DenoisingQueries
from piip_d2.modeling.dino.detector import DINO
from piip_d2.modeling.dino.encoder import Encoder, EncoderLayer
from piip_d2.modeling.dino.head import PredictionHead
from piip_d2.modeling.dino.inference import select_detections
from piip_d2.modeling.dino.matcher import HungarianMatcher
from piip_d2.modeling.dino.neck import ChannelMapper
from piip_d2.modeling.dino.position_encoding import SinePositionEncoding
from piip_d2.modeling.dino.query_selection import QuerySelection
from piip_d2.modeling.dino.targets import Targets, join_targets
from piip_d2.modeling.dino.transformer import (
    DINOTransformer,
    Predictions,
    TransformerOutput,
)

__all__ = [
    "DINO",
    "ChannelMapper",
    "ContrastiveDenoising",
    "DINOCriterion",
    "DINOTransformer",
    "Decoder",
    "DecoderLayer",
    "DenoisingQueries",
    "Encoder",
    "EncoderLayer",
    "HungarianMatcher",
    "Predictions",
    "PredictionHead",
    "QuerySelection",
    "SinePositionEncoding",
    "Targets",
    "TransformerOutput",
    "build_dino_transformer",
    "join_targets",
    "select_detections",
]
