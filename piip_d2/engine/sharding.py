"""Which parts of a model are sharded, gathered and freed as one in fully sharded training."""

from __future__ import annotations

from detectron2.modeling.backbone.resnet import CNNBlockBase
from detectron2.modeling.backbone.vit import Block
from detectron2.modeling.roi_heads import BaseMaskRCNNHead, FastRCNNConvFCHead
from torch import nn

from piip_d2.modeling.backbone import PIIPNetwork
from piip_d2.modeling.backbone.branch import Branch
from piip_d2.modeling.dino.decoder import DecoderLayer
from piip_d2.modeling.dino.encoder import EncoderLayer

# Repeated layers and large heads; every one of them is called as a module, which is when its
# weights are gathered.
_UNITS = (
    EncoderLayer,
    DecoderLayer,
    FastRCNNConvFCHead,
    BaseMaskRCNNHead,
    Block,
    CNNBlockBase,
)


def sharded_modules(model: nn.Module) -> list[nn.Module]:
    """Lists the modules that ``fully_shard`` is applied to, in this order.

    Each of them owns the parameters below it that no earlier one owns. In PIIP these are every
    block of every branch, every interaction stage, the merges and the feature maps; in detectors
    the large heads and the layers of encoders and decoders. What is left (patch embeddings,
    position tables, FPN, small heads) belongs to the model itself, which comes last.

    Args:
        model: Any model; one without such parts is sharded as a whole.

    Returns:
        The modules without duplicates, none of them without parameters; the model is the last.
    """
    found: dict[nn.Module, None] = {}
    for module in model.modules():
        parts: list[nn.Module] = []
        if isinstance(module, PIIPNetwork):
            parts = [*module.interactions, *module.stage_merges.values()]
            parts += [module.merge, module.feature_maps]
        elif isinstance(module, Branch):
            parts = list(module.block_list)
        elif isinstance(module, _UNITS):
            parts = [module]
        found.update(dict.fromkeys(part for part in parts if _has_parameters(part)))
    found.pop(model, None)
    return [*found, model]


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None
