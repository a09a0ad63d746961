"""Every experiment loads, builds, can be saved and overridden, and says only what is its own."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.utils.registry import _convert_target_to_string, locate
from omegaconf import DictConfig, OmegaConf

from piip_d2.data.overrides import set_num_classes
from piip_d2.engine.config import load_config
from tests.configs.loading import (
    CONFIGS,
    FILES,
    build,
    each_config,
    each_detector,
    each_network,
    instantiate_on_meta,
    load,
    load_once,
)

SECTIONS = {"model", "dataloader", "optimizer", "lr_multiplier", "train", "data"}
# Runs of different length or schedule.
RECIPES = [
    "quick/mask_rcnn_scenes",
    "quick/faster_rcnn_trees",
    "quick/dino_scenes",
    "cascade_rcnn/piip_tsb_1568_1120_672_3x_ms",
    "mask_rcnn/piip_tsb_1120_896_448_1x",
    "mask_rcnn/piip_lh6b_1536_1024_512_1x_ms",
    "dino/piip_sbl_1792_1120_672_3x",
    "dino/piip_lh6b_1536_1024_512_2x",
    "lvis/mask_rcnn_piip_tsb_1120_896_448",
]
each_recipe = pytest.mark.parametrize("name", RECIPES)


@each_config
def test_has_the_sections_of_a_run_and_no_more(name: str) -> None:
    assert set(load_once(name)) == SECTIONS


@each_detector
def test_builds_without_memory(name: str) -> None:
    model = build(name)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    piip = load_once(name).model.backbone.bottom_up
    assert len(model.backbone.bottom_up.branches) == len(piip.branches)
    # The neck above hands the padding on, whatever its own strides are.
    assert model.backbone.size_divisibility == piip.size_divisibility
    levels = range(2, 7) if "res2" in model.backbone.bottom_up.output_shape() else range(3, 7)
    assert list(model.backbone.output_shape()) == [f"p{level}" for level in levels]


@each_detector
def test_optimizer_takes_every_parameter(name: str) -> None:
    cfg = load(name)
    cfg.optimizer.params.model = build(name)
    optimizer = instantiate(cfg.optimizer)
    grouped = [p for group in optimizer.param_groups for p in group["params"]]
    trained = [parameter for parameter in build(name).parameters() if parameter.requires_grad]
    assert len(grouped) == len(trained)
    assert max(group["lr"] for group in optimizer.param_groups) == cfg.optimizer.lr
    # What a checkpoint carries must be plain, or torch.load refuses the file.
    options = {type(v) for group in optimizer.state_dict()["param_groups"] for v in group.values()}
    assert options <= {int, float, bool, str, tuple, list, type(None)}


@each_network
def test_backbone_trains_all_of_its_parameters_or_says_so(name: str) -> None:
    network = build(name).backbone.bottom_up.train()
    side = 4 * network.size_divisibility if network.size_divisibility < 128 else 448
    maps = network(torch.zeros(1, 3, side, side, device="meta"))
    for map_name, shape in network.output_shape().items():
        cells = side // shape.stride
        assert maps[map_name].shape == (1, shape.channels, cells, cells)
    torch.stack([x.sum() for x in maps.values()]).sum().backward()
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    has_unused = any(parameter.grad is None for parameter in trained)
    network.zero_grad()
    assert load_once(name).train.ddp.find_unused_parameters == has_unused


@each_config
def test_schedule_is_one_of_those_tested_below(name: str) -> None:
    def schedule(name: str) -> Any:
        cfg = load_once(name)
        return plain(cfg.lr_multiplier), cfg.train.max_iter

    assert schedule(name) in [schedule(recipe) for recipe in RECIPES]


@each_recipe
def test_learning_rate_warms_up_and_falls(name: str) -> None:
    cfg = load(name)
    multiplier = instantiate(cfg.lr_multiplier)
    step = max(1, cfg.train.max_iter // 2000)
    rates = [multiplier(i / cfg.train.max_iter) for i in range(0, cfg.train.max_iter, step)]
    highest = rates.index(max(rates))
    assert rates[0] <= 0.02 and rates[-1] <= 0.03 and max(rates) > 0.95
    assert 0 < highest < len(rates) / 3
    assert rates[: highest + 1] == sorted(rates[: highest + 1])
    assert rates[highest:] == sorted(rates[highest:], reverse=True)


@pytest.mark.parametrize("max_iter", [1, 2, 1000])
@each_recipe
def test_any_length_of_run_has_a_schedule(name: str, max_iter: int) -> None:
    cfg = LazyConfig.apply_overrides(load(name), [f"train.max_iter={max_iter}"])
    multiplier = instantiate(cfg.lr_multiplier)
    assert all(0 < multiplier(i / max_iter) <= 1 for i in range(max_iter))


@each_detector
def test_saving_and_loading_changes_nothing(name: str, tmp_path: Path) -> None:
    cfg = load(name)
    file = tmp_path / "config.yaml"
    LazyConfig.save(cfg, str(file))
    # Where YAML does not do, Detectron2 writes a pickle beside it.
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
    loaded = plain(LazyConfig.load(str(file)))
    assert loaded == plain(cfg)
    assert [target for target in _targets(loaded) if locate(target) is None] == []


@each_detector
def test_command_line_overrides_arrive(name: str) -> None:
    overrides = [
        "model.backbone.bottom_up.branches.0.img_size=2240",
        "model.backbone.bottom_up.branches.0.drop_path_rate=0.25",
        "model.backbone.bottom_up.directions=all_pairs",
        "dataloader.train.total_batch_size=2",
        "dataloader.train.num_workers=0",
        "optimizer.lr=0.001",
        "train.max_iter=2",
    ]
    cfg = load_config(str(CONFIGS / f"{name}.py"), overrides)
    piip = cfg.model.backbone.bottom_up
    assert (piip.branches[0].img_size, piip.branches[0].drop_path_rate) == (2240, 0.25)
    assert piip.directions == "all_pairs"
    assert cfg.dataloader.train.total_batch_size == 2
    assert cfg.optimizer.params.base_lr == 0.001
    assert cfg.lr_multiplier.warmup_length.max_iter == 2


@each_recipe
def test_one_gpu_preset_keeps_the_batch(name: str) -> None:
    released = 32 if load_once(name).dataloader.train.total_batch_size == 32 else 16
    cfg = load_config(str(CONFIGS / f"{name}.py"), ["train.preset=one_gpu"])
    assert cfg.dataloader.train.total_batch_size * cfg.train.accumulate == released


@each_recipe
def test_number_of_classes_stands_in_one_place(name: str) -> None:
    cfg = load(name)
    # Weights for classes of data that are known would contradict.
    cfg.dataloader.train.dataset.names = "elsewhere_train"
    model = cfg.model
    set_num_classes(model, 7)
    if "roi_heads" not in model:
        detector = instantiate_on_meta(model)
        assert detector.num_classes == detector.transformer.num_classes == 7
        assert detector.denoising.label_enc.num_embeddings == 7
        return
    heads = instantiate_on_meta(model.roi_heads)
    predictors = (
        heads.box_predictor if "box_predictors" in model.roi_heads else [heads.box_predictor]
    )
    assert {heads.num_classes, *(predictor.num_classes for predictor in predictors)} == {7}
    if heads.mask_on:
        assert heads.mask_head.predictor.out_channels == 7


@each_recipe
def test_evaluation_follows_the_test_set(name: str) -> None:
    cfg = LazyConfig.apply_overrides(load(name), ["dataloader.test.dataset.names=elsewhere_val"])
    assert cfg.dataloader.evaluator.dataset_name == "elsewhere_val"


@each_config
def test_experiment_is_short_and_documented(name: str) -> None:
    text = (CONFIGS / f"{name}.py").read_text(encoding="utf-8")
    assert 10 <= len(text.splitlines()) <= 20
    docstring = ast.get_docstring(ast.parse(text)) or ""
    assert f"python train_net.py --config-file configs/{name}.py" in docstring
    assert "lambda" not in text


@each_config
def test_experiment_shares_no_line_with_two_siblings(name: str) -> None:
    path = CONFIGS / f"{name}.py"
    siblings = [_own_lines(other) for other in FILES if other.parent == path.parent]
    counts = Counter(line for lines in siblings for line in lines)
    assert [line for line in _own_lines(path) if counts[line] > 2] == []


def plain(cfg: DictConfig) -> Any:
    """Nested built-in containers, with targets by their names as a saved file has them."""

    def simplify(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: simplify(value) for key, value in node.items()}
        if isinstance(node, list | tuple):
            return [simplify(value) for value in node]
        return _convert_target_to_string(node) if callable(node) else node

    return simplify(OmegaConf.to_container(cfg, resolve=False))


def _targets(node: Any) -> Iterator[str]:
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    if isinstance(node, dict) and "_target_" in node:
        yield node["_target_"]
    for child in children:
        yield from _targets(child)


def _own_lines(path: Path) -> set[str]:
    lines = {line.strip() for line in path.read_text(encoding="utf-8").splitlines()}
    # The last of these ends a long command.
    lines -= {"", '"""', "--num-gpus 8"}
    return {line for line in lines if "import " not in line}
