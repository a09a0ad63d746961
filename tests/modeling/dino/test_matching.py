"""Boxes, assignment, losses and noise, by their properties."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from piip_d2.modeling.dino import (
    ContrastiveDenoising,
    DenoisingQueries,
    DINOCriterion,
    HungarianMatcher,
    Predictions,
    Targets,
    TransformerOutput,
    join_targets,
)
from piip_d2.modeling.dino.boxes import (
    generalized_iou,
    inverse_sigmoid,
    to_center_and_size,
    to_corners,
)
from tests.modeling.dino.tiny import make_input

NUM_CLASSES = 5


def make_targets(*counts: int) -> Targets:
    return join_targets([make_input((64, 96), count)["instances"] for count in counts])


def random_predictions(layers: int, batch: int, queries: int) -> tuple[Tensor, Tensor]:
    logits = torch.randn(layers, batch, queries, NUM_CLASSES)
    return logits, torch.rand(layers, batch, queries, 4) * 0.5 + 0.2


def test_overlap_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    others = torch.tensor([[1.0, 1.0, 3.0, 3.0], [0.0, 0.0, 2.0, 2.0], [4.0, 0.0, 6.0, 2.0]])
    # Overlap 1 of union 7 in a hull of 9; the same box; no overlap, union 8 in a hull of 12.
    expected = torch.tensor([1 / 7 - 2 / 9, 1.0, -4 / 12])
    torch.testing.assert_close(generalized_iou(boxes, others), expected)


def test_overlap_of_tiny_and_empty_boxes() -> None:
    tiny = torch.tensor([0.5, 0.5, 0.5 + 1e-4, 0.5 + 1e-4])
    torch.testing.assert_close(generalized_iou(tiny, tiny), torch.tensor(1.0))
    empty = torch.zeros(4, requires_grad=True)
    overlap = generalized_iou(empty, torch.zeros(4))
    overlap.backward()
    assert overlap == 0 and empty.grad is not None and empty.grad.isfinite().all()


def test_forms_of_boxes_there_and_back() -> None:
    boxes = torch.rand(3, 7, 4)
    torch.testing.assert_close(to_center_and_size(to_corners(boxes)), boxes)


def test_logits_are_bounded() -> None:
    logits = inverse_sigmoid(torch.tensor([-1.0, 0.0, 0.25, 1.0, 7.0]))
    torch.testing.assert_close(logits[2].sigmoid(), torch.tensor(0.25))
    assert logits[0] == logits[1] == -logits[3] == -logits[4]
    assert 6.9 < logits[3] < 7.0


def test_targets_are_relative_to_their_image() -> None:
    batch = [make_input((50, 200), 2), make_input((80, 40), 0), make_input((30, 60), 1)]
    targets = join_targets([x["instances"] for x in batch])
    assert targets.counts == (2, 0, 1)
    assert targets.images.tolist() == [0, 0, 2] and targets.places.tolist() == [0, 1, 0]
    corners = to_corners(targets.boxes)[2] * torch.tensor([60.0, 30.0, 60.0, 30.0])
    torch.testing.assert_close(corners, batch[2]["instances"].gt_boxes.tensor[0])
    labels, boxes = targets.padded()
    assert labels.shape == (3, 2) and boxes.shape == (3, 2, 4)
    assert torch.equal(boxes[2, 0], targets.boxes[2])


def pair_costs(logits: Tensor, boxes: Tensor, targets: Targets) -> Tensor:
    """Costs (Q, M) in one image, pair by pair, from their definitions."""
    rows = []
    for logit, box in zip(logits, boxes, strict=True):
        score = logit.sigmoid()
        row = []
        for label, wanted in zip(targets.labels, targets.boxes, strict=True):
            p = score[label]
            focal = 0.25 * (1 - p) ** 2 * -p.log() - 0.75 * p**2 * -(1 - p).log()
            overlap = generalized_iou(to_corners(box), to_corners(wanted))
            row.append(2 * focal + 5 * (box - wanted).abs().sum() - 2 * overlap)
        rows.append(torch.stack(row))
    return torch.stack(rows)


def test_assignment_is_the_cheapest() -> None:
    targets = make_targets(3)
    logits, boxes = random_predictions(2, 1, 5)
    queries, objects = HungarianMatcher().start(logits, boxes, targets).result()
    assert queries.shape == objects.shape == (2, 3)
    for layer in range(2):
        costs = pair_costs(logits[layer, 0], boxes[layer, 0], targets)
        cheapest = min(
            sum(costs[query, place] for place, query in enumerate(chosen))
            for chosen in itertools.permutations(range(5), 3)
        )
        assert sorted(objects[layer].tolist()) == [0, 1, 2]
        torch.testing.assert_close(costs[queries[layer], objects[layer]].sum(), cheapest)


def test_images_are_matched_apart() -> None:
    targets = make_targets(2, 0, 4)
    logits, boxes = random_predictions(3, 3, 6)
    queries, objects = HungarianMatcher().start(logits, boxes, targets).result()
    assert queries.shape == (3, 6)
    for layer in range(3):
        assert sorted(objects[layer].tolist()) == list(range(6))
        for image in (0, 2):
            of_image = queries[layer][targets.images[objects[layer]] == image].tolist()
            assert len(set(of_image)) == len(of_image) == targets.counts[image]


def test_more_objects_than_queries() -> None:
    targets = make_targets(9, 2)
    queries, objects = HungarianMatcher().start(*random_predictions(1, 2, 4), targets).result()
    assert queries.shape == (1, 4 + 2)
    assert len(set(objects[0].tolist())) == 6


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("query", [0, 3])
def test_numbers_gone_wrong_reach_the_losses_of_their_layer(query: int, value: float) -> None:
    targets = make_targets(2)
    logits, boxes = random_predictions(3, 1, 4)
    # A single prediction that no object would choose.
    bad_logits, bad_boxes = logits.clone(), boxes.clone()
    bad_logits[0, 0, query] = torch.nan
    bad_boxes[1, 0, query] = value
    output = TransformerOutput(
        encoder=Predictions(logits[:1], boxes[:1]),
        decoder=Predictions(bad_logits, bad_boxes),
        denoising=None,
    )
    losses = DINOCriterion(HungarianMatcher())(output, targets)
    bad = {name for name, loss in losses.items() if not loss.isfinite()}
    assert {"loss_class_0", "loss_bbox_1", "loss_giou_1"} & bad == (
        {"loss_class_0", "loss_bbox_1", "loss_giou_1"} if value != torch.inf else bad
    )
    assert "loss_bbox_1" in bad and not {name for name in bad if name[-1] not in "01"}


def test_unknown_names_of_weights_are_refused() -> None:
    with pytest.raises(TypeError, match="iou_weight"):
        DINOCriterion(HungarianMatcher(), iou_weight=2.0)  # type: ignore[call-arg]


def perfect_output(targets: Targets) -> TransformerOutput:
    logits = torch.full((1, 1, 6, NUM_CLASSES), -20.0)
    boxes = torch.rand(1, 1, 6, 4)
    places = torch.tensor([4, 1, 3])
    logits[0, 0, places, targets.labels] = 20.0
    boxes[0, 0, places] = targets.boxes
    predictions = Predictions(logits, boxes)
    return TransformerOutput(encoder=predictions, decoder=predictions, denoising=None)


def test_perfect_predictions_cost_nothing() -> None:
    targets = make_targets(3)
    losses = DINOCriterion(HungarianMatcher())(perfect_output(targets), targets)
    assert len(losses) == 6
    for name, loss in losses.items():
        assert loss.abs() < 1e-5, name


def test_weights_and_names_of_losses() -> None:
    targets = make_targets(3)
    denoising = ContrastiveDenoising(NUM_CLASSES, 8, num_queries=6)
    noisy = denoising(targets)
    output = TransformerOutput(
        encoder=Predictions(*random_predictions(1, 1, 7)),
        decoder=Predictions(*random_predictions(3, 1, 7)),
        denoising=Predictions(*random_predictions(3, 1, noisy.content.shape[1])),
    )
    plain = DINOCriterion(HungarianMatcher())(output, targets, noisy)
    suffixes = ["", "_0", "_1", "_enc", "_dn", "_dn_0", "_dn_1"]
    terms = {"class": 2.0, "bbox": 3.0, "giou": 0.5}
    assert set(plain) == {f"loss_{term}{suffix}" for term in terms for suffix in suffixes}
    weighted = DINOCriterion(
        HungarianMatcher(),
        class_weight=2.0,
        bbox_weight=5.0 * 3.0,
        giou_weight=2.0 * 0.5,
        aux_weight=7.0,
        encoder_weight=11.0,
        denoising_weight=13.0,
    )(output, targets, noisy)
    for term, factor in terms.items():
        for suffix in suffixes:
            expected = factor * plain[f"loss_{term}{suffix}"]
            expected = expected * (7.0 if suffix[-1:] in ("0", "1") else 1.0)
            expected = expected * (11.0 if suffix == "_enc" else 1.0)
            expected = expected * (13.0 if "dn" in suffix else 1.0)
            torch.testing.assert_close(weighted[f"loss_{term}{suffix}"], expected)


def test_noise_stays_within_its_bounds() -> None:
    targets = make_targets(3, 1)
    denoising = ContrastiveDenoising(NUM_CLASSES, 8, num_queries=300, label_noise=0.0)
    noisy = denoising(targets)
    assert noisy.num_groups == 100 and noisy.content.shape == (2, 600, 8)
    good = noisy.good_slots(targets)
    # Corners that reach the borders of the image are cut off, so sums of distances are compared.
    wanted = to_corners(targets.boxes)
    half_sides = targets.boxes[:, 2:].repeat(1, 2) / 2
    for slots, most in ((good, 1.0), (good + 3, 2.0)):
        boxes = to_corners(noisy.box_logits[targets.images, slots].sigmoid())
        moved = (boxes - wanted).abs()
        assert (moved <= most * half_sides + 2e-3).all()
    assert torch.equal(
        noisy.content[targets.images, good], denoising.label_enc(targets.labels).expand(100, -1, -1)
    )


def test_empty_slots_are_zero() -> None:
    noisy = ContrastiveDenoising(NUM_CLASSES, 8, num_queries=4)(make_targets(2, 0))
    assert noisy.num_groups == 2
    assert noisy.content[1].abs().sum() == noisy.box_logits[1].abs().sum() == 0
    assert (noisy.content[0].abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize(
    ("counts", "groups"), [((0, 0), 1), ((3, 1), 33), ((100, 0), 1), ((101,), 1)]
)
def test_number_of_groups(counts: tuple[int, ...], groups: int) -> None:
    noisy = ContrastiveDenoising(NUM_CLASSES, 8)(make_targets(*counts))
    slots = 2 * groups * max(counts)
    assert (noisy.num_groups, noisy.num_places) == (groups, max(counts))
    assert noisy.content.shape == (len(counts), slots, 8)
    assert noisy.box_logits.shape == (len(counts), slots, 4)


@pytest.mark.parametrize(("num_groups", "num_places"), [(3, 2), (1, 4), (1, 0)])
def test_who_sees_whom(num_groups: int, num_places: int) -> None:
    slots = 2 * num_groups * num_places
    noisy = DenoisingQueries(
        torch.zeros(1, slots, 8), torch.zeros(1, slots, 4), num_groups, num_places
    )
    blocked = noisy.attention_mask(5)
    assert blocked.shape == (slots + 5, slots + 5)
    assert blocked[slots:, :slots].all() and not blocked[:, slots:].any()
    for row in range(slots):
        for column in range(slots):
            is_other = row // (2 * num_places) != column // (2 * num_places)
            assert blocked[row, column] == is_other
