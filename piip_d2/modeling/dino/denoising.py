"""Contrastive denoising queries, https://arxiv.org/abs/2203.03605, section 3.3.

In training, the decoder also gets objects of the batch with noise on classes and boxes. It has to
restore those with a little noise, and to call those with more of it background.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from piip_d2.modeling.dino.boxes import inverse_sigmoid, to_center_and_size, to_corners
from piip_d2.modeling.dino.targets import Targets


@dataclass(frozen=True)
class DenoisingQueries:
    """Noisy objects in slots: ``num_groups`` groups of ``num_places`` good ones, then as many bad.

    So object number j of an image has its good copy in group g at slot ``2 * g * num_places + j``
    and its bad one ``num_places`` slots later. A slot without an object is background, with zeros
    for content and logits.

    Args:
        content: (B, slots, C), with ``slots = 2 * num_groups * num_places``.
        box_logits: (B, slots, 4), logits of centre and size relative to the images.
        num_groups: How often every object occurs.
        num_places: The largest number of objects in an image.
    """

    content: Tensor
    box_logits: Tensor
    num_groups: int
    num_places: int

    def attention_mask(self, num_queries: int) -> Tensor:
        """Says what noisy queries and ``num_queries`` others, behind them, must not see.

        Nobody sees noisy objects but those of the same group.

        Args:
            num_queries: How many others there are.

        Returns:
            (slots + others, slots + others), True where a row must not see a column.
        """
        slots = torch.arange(self.content.shape[1], device=self.content.device)
        groups = slots // max(1, 2 * self.num_places)
        group = torch.cat([groups, groups.new_full((num_queries,), -1)])
        return (group[:, None] != group) & (group != -1)

    def good_slots(self, targets: Targets) -> Tensor:
        """Returns the slots with a little noise, (groups, N) for the N objects of the batch."""
        first = torch.arange(self.num_groups, device=targets.places.device) * 2 * self.num_places
        return first[:, None] + targets.places


class ContrastiveDenoising(nn.Module):
    """Makes noisy queries of the objects of a batch.

    Args:
        num_classes: Kinds of objects.
        embed_dim: Channels of a query.
        num_queries: How many there should be with a little noise, 1 or more; at least one group of
            them is made, however many objects an image has.
        label_noise: Twice the share of objects whose class is drawn anew, 0 to 2.
        box_noise: How far the corners of a box move at most, in halves of its sides, 0 or more.
            Those that are to become background move between once and twice as far.

    Raises:
        ValueError: If a number is out of its range.
    """

    def __init__(
        self,
        num_classes: int,
        embed_dim: int,
        num_queries: int = 100,
        label_noise: float = 0.5,
        box_noise: float = 1.0,
    ) -> None:
        super().__init__()
        if num_queries < 1:
            raise ValueError(
                f"num_queries of denoising must be 1 or more, got {num_queries}; to train without "
                "noisy queries, set model.denoising=null"
            )
        if not 0.0 <= label_noise <= 2.0:
            raise ValueError(
                "label_noise must be from 0 to 2, as it is twice the share of classes that are "
                f"drawn anew, got {label_noise}; 0.5 is usual, and 0 keeps all classes"
            )
        if not 0.0 <= box_noise < math.inf:
            raise ValueError(
                f"box_noise must be a finite number from 0 on, got {box_noise}; 1.0 is usual, and "
                "moves corners by half a side at most"
            )
        self.num_queries = num_queries
        self.label_noise = label_noise
        self.box_noise = box_noise
        self.label_enc = nn.Embedding(num_classes, embed_dim)

    def forward(self, targets: Targets) -> DenoisingQueries:
        """Makes the queries. Noise is drawn where the targets are; the host costs no waiting.

        Args:
            targets: The objects.

        Returns:
            The queries, on the device of the embedding; no slots if there are no objects.
        """
        num_places = max(targets.counts, default=0)
        num_groups = max(1, self.num_queries // num_places) if num_places else 1
        labels = self._noisy_labels(targets, 2 * num_groups)
        logits = inverse_sigmoid(self._noisy_boxes(targets, 2 * num_groups))
        shape = (len(targets.counts), 2 * num_groups, num_places)
        # In the order of the slots: copy by copy, in each the places of an image.
        where = (targets.images, slice(None), targets.places)
        slot_labels = labels.new_zeros(shape)
        slot_labels[where] = labels.T
        slot_logits = logits.new_zeros(*shape, 4)
        slot_logits[where] = logits.transpose(0, 1)
        is_filled = logits.new_zeros(*shape, 1)
        is_filled[where] = 1.0
        device = self.label_enc.weight.device
        slot_labels, slot_logits, is_filled = (
            x.flatten(1, 2).to(device, non_blocking=True)
            for x in (slot_labels, slot_logits, is_filled)
        )
        # Without objects this is empty, but it still gives the embedding a gradient: zero.
        content = self.label_enc(slot_labels) * is_filled
        return DenoisingQueries(content, slot_logits, num_groups, num_places)

    def _noisy_labels(self, targets: Targets, num_copies: int) -> Tensor:
        """(copies, N)."""
        labels = targets.labels.repeat(num_copies, 1)
        is_drawn = torch.rand(labels.shape, device=labels.device) < self.label_noise * 0.5
        labels[is_drawn] = torch.randint_like(labels[is_drawn], self.label_enc.num_embeddings)
        return labels

    def _noisy_boxes(self, targets: Targets, num_copies: int) -> Tensor:
        """(copies, N, 4); every second copy has more noise."""
        boxes = targets.boxes.repeat(num_copies, 1, 1)
        signs = torch.randint_like(boxes, 2) * 2.0 - 1.0
        amounts = torch.rand_like(boxes)
        amounts[1::2] += 1.0
        half_sides = boxes[..., 2:].repeat(1, 1, 2) / 2.0
        corners = to_corners(boxes)
        corners = corners + signs * amounts * half_sides * self.box_noise
        return to_center_and_size(corners.clamp(0.0, 1.0))
