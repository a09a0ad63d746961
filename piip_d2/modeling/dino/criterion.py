"""The losses of DINO, https://arxiv.org/abs/2203.03605."""

from __future__ import annotations

import torch
from detectron2.utils import comm
from fvcore.nn import sigmoid_focal_loss
from torch import Tensor, nn

from piip_d2.modeling.dino.boxes import generalized_iou, to_corners
from piip_d2.modeling.dino.denoising import DenoisingQueries
from piip_d2.modeling.dino.matcher import HungarianMatcher
from piip_d2.modeling.dino.targets import Targets
from piip_d2.modeling.dino.transformer import Predictions, TransformerOutput

_TERMS = ("loss_class", "loss_bbox", "loss_giou")


class DINOCriterion(nn.Module):
    """Classification, box and overlap losses for every layer, the encoder and denoising.

    The losses are named ``loss_class``, ``loss_bbox`` and ``loss_giou`` for the last layer of the
    decoder; ``_0``, ``_1``, ... are the layers before, ``_enc`` is the encoder, ``_dn`` denoising
    in the last layer and ``_dn_0``, ... in those before. With six layers these are 39 losses.

    The logs of the networks released with PIIP say ``loss_cls``, ``loss_bbox`` and ``loss_iou``
    instead, with the layer in front: ``d0.loss_iou`` is ``loss_giou_0`` here,
    ``interm_loss_cls`` is ``loss_class_enc``, ``dn_loss_iou`` is ``loss_giou_dn`` and
    ``d0.dn_loss_cls`` is ``loss_class_dn_0``. The values are the same.

    Args:
        matcher: Assigns predictions to objects.
        class_weight: Weight of the focal loss.
        bbox_weight: Weight of the L1 loss.
        giou_weight: Weight of the generalised IoU loss.
        aux_weight: Factor for all layers but the last.
        encoder_weight: Factor for the encoder.
        denoising_weight: Factor for denoising.
        focal_alpha: Balance of the focal loss.
        focal_gamma: Exponent of the focal loss.
    """

    def __init__(
        self,
        matcher: HungarianMatcher,
        *,
        class_weight: float = 1.0,
        bbox_weight: float = 5.0,
        giou_weight: float = 2.0,
        aux_weight: float = 1.0,
        encoder_weight: float = 1.0,
        denoising_weight: float = 1.0,
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
    ) -> None:
        super().__init__()
        self.matcher = matcher
        self.term_weights = (class_weight, bbox_weight, giou_weight)
        self.aux_weight = aux_weight
        self.encoder_weight = encoder_weight
        self.denoising_weight = denoising_weight
        self.focal_alpha = focal_alpha
        self.focal_gamma = focal_gamma

    def forward(
        self, output: TransformerOutput, targets: Targets, noisy: DenoisingQueries | None = None
    ) -> dict[str, Tensor]:
        """Computes all losses, weighted.

        Args:
            output: The predictions.
            targets: The objects, on the same device.
            noisy: What the denoising predictions began as.

        Returns:
            Losses by name; the same names for every batch.
        """
        # The encoder's tokens are matched like one more layer of the decoder.
        logits = torch.cat([output.decoder.logits, output.encoder.logits])
        boxes = torch.cat([output.decoder.boxes, output.encoder.boxes])
        pending = self.matcher.start(logits, boxes, targets)
        num_layers, num_queries = len(output.decoder.logits), logits.shape[2]
        num_matched = sum(min(count, num_queries) for count in targets.counts)
        num_noisy = 0 if noisy is None else noisy.num_groups * len(targets.labels)
        norms = _average_over_processes([num_matched, num_noisy], logits.device)
        losses: dict[str, Tensor] = {}
        if noisy is not None and output.denoising is not None:
            # Computed while the costs of the assignment are on their way.
            slots = noisy.good_slots(targets).flatten().expand(num_layers, -1)
            objects = torch.arange(len(targets.labels), device=slots.device)
            objects = objects.repeat(noisy.num_groups).expand(num_layers, -1)
            terms = self._terms(output.denoising, targets, slots, objects) / norms[1]
            losses |= self._named(terms * self.denoising_weight, "_dn")
        queries, objects = pending.result()
        terms = self._terms(Predictions(logits, boxes), targets, queries, objects) / norms[0]
        losses |= self._named(terms[:num_layers], "")
        encoder_terms = terms[num_layers] * self.encoder_weight
        losses |= {f"{name}_enc": x for name, x in zip(_TERMS, encoder_terms, strict=True)}
        return losses

    def _terms(
        self, predictions: Predictions, targets: Targets, queries: Tensor, objects: Tensor
    ) -> Tensor:
        """(layers, 3) from pairs of queries and objects (layers, pairs); not normalised."""
        layers = torch.arange(len(queries), device=queries.device)[:, None]
        where = (layers, targets.images[objects], queries)
        wanted = torch.zeros_like(predictions.logits)
        wanted[(*where, targets.labels[objects])] = 1.0
        focal = sigmoid_focal_loss(
            predictions.logits, wanted, alpha=self.focal_alpha, gamma=self.focal_gamma
        )
        boxes, target_boxes = predictions.boxes[where], targets.boxes[objects]
        distance = (boxes - target_boxes).abs()
        giou = generalized_iou(to_corners(boxes), to_corners(target_boxes))
        terms = [focal.sum(dim=(1, 2, 3)), distance.sum(dim=(1, 2)), (1.0 - giou).sum(dim=1)]
        return torch.stack(terms, dim=1) * focal.new_tensor(self.term_weights)

    def _named(self, terms: Tensor, suffix: str) -> dict[str, Tensor]:
        """Losses of the layers of the decoder (layers, 3) by name."""
        *others, last = terms
        losses = {name + suffix: x for name, x in zip(_TERMS, last, strict=True)}
        for layer, of_layer in enumerate(others):
            for name, x in zip(_TERMS, of_layer * self.aux_weight, strict=True):
                losses[f"{name}{suffix}_{layer}"] = x
        return losses


def _average_over_processes(counts: list[int], device: torch.device) -> Tensor:
    """Numbers of objects, averaged over all processes, at least 1."""
    numbers = torch.tensor(counts, dtype=torch.float32, device=device)
    if comm.get_world_size() > 1:
        torch.distributed.all_reduce(numbers)
        numbers = numbers / comm.get_world_size()
    return numbers.clamp(min=1.0)
