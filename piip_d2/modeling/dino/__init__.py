"""DINO (https://arxiv.org/abs/2203.03605), a detector for any Detectron2 backbone."""

from piip_d2.modeling.dino.build import build_dino_transformer
from piip_d2.modeling.dino.criterion import DINOCriterion
from piip_d2.modeling.dino.decoder import Decoder, DecoderLayer
from piip_d2.modeling.dino.denoising import ContrastiveDenoising, DenoisingQueries
from piip_d2.modeling.dino.detector import DINO
from piip_d2.modeling.dino.encoder import Encoder, EncoderLayer
from piip_d2.modeling.dino.head import PredictionHead
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
]
