"""Which modules are sharded together, and what sharding refuses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from detectron2.config import instantiate
from detectron2.modeling.backbone.resnet import BasicBlock
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from piip_d2.engine import load_config
from piip_d2.engine.build import build_trainer
from piip_d2.engine.fully_sharded import (
    average_whole_gradients,
    build_sharded,
    check_fsdp,
    gathered_for_evaluation,
    separate_whole_parameters,
    sharded_norm,
    shards_model,
)
from piip_d2.engine.sharding import sharded_modules
from tests.engine.runs import run_toy, toy_config
from tests.engine.toys import ToyDetector


def _types(config: str) -> Counter[str]:
    cfg = load_config(f"configs/quick/{config}.py")
    with torch.device("meta"):
        model = instantiate(cfg.model)
    modules = sharded_modules(model)
    assert modules[-1] is model
    assert len(set(modules)) == len(modules)
    return Counter(type(module).__name__ for module in modules)


def test_parts_of_a_mask_rcnn() -> None:
    assert _types("mask_rcnn_h6b_structure_scenes") == {
        "ViTBlock": 10,
        "InteractionStage": 2,
        "BranchMerge": 1,
        "FeatureMaps": 1,
        "FastRCNNConvFCHead": 1,
        "MaskRCNNConvUpsampleHead": 1,
        "GeneralizedRCNN": 1,
    }


def test_parts_of_a_dino() -> None:
    counts = _types("dino_scenes")
    assert counts["ViTBlock"] == 9
    assert counts["EncoderLayer"] > 0 and counts["DecoderLayer"] > 0


def test_model_without_known_parts_is_one_part() -> None:
    model = ToyDetector()
    assert sharded_modules(model) == [model]


class _Scaled(nn.Module):
    """A weight that can be sharded and one that cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.factor = nn.Parameter(torch.ones(()))


def test_whole_parameters_get_groups_of_their_own() -> None:
    model = _Scaled()
    groups = [{"params": list(model.parameters()), "lr": 0.5}]
    optimizer = torch.optim.AdamW([*groups, {"params": [nn.Parameter(torch.ones(2))], "lr": 0.1}])
    separate_whole_parameters(optimizer)
    found = [([p.ndim for p in group["params"]], group["lr"]) for group in optimizer.param_groups]
    assert found == [([1], 0.5), ([0], 0.5), ([1], 0.1)]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.fsdp.param_dtype=fp16"], "train.fsdp.param_dtype must be one of"),
        (["train.amp.enabled=True", "train.amp.dtype=fp16"], "goes together with bf16 and fp32"),
    ],
)
def test_what_sharding_refuses(tmp_path: Path, overrides: list[str], message: str) -> None:
    check_fsdp(toy_config(tmp_path, *overrides))
    cfg = toy_config(tmp_path, "train.fsdp.enabled=True", *overrides)
    with pytest.raises(ValueError, match=message):
        check_fsdp(cfg)


def test_single_process_is_not_sharded(tmp_path: Path) -> None:
    assert not shards_model(toy_config(tmp_path, "train.fsdp.enabled=True"))


def test_gradients_are_compressed_in_one_way(tmp_path: Path) -> None:
    both = ["train.ddp.bf16_compression=True", "train.ddp.fp16_compression=True"]
    cfg = toy_config(tmp_path, *both)
    model = ToyDetector()
    with pytest.raises(ValueError, match="both bf16_compression and fp16_compression"):
        build_trainer(cfg, model, torch.optim.SGD(model.parameters(), lr=0.1))


def test_files_and_folders_are_not_mixed_up(tmp_path: Path) -> None:
    run_toy(tmp_path, "train.max_iter=1")
    with pytest.raises(ValueError, match="was not written with train.fsdp.enabled=True"):
        run_toy(tmp_path, "train.fsdp.enabled=True", resume=True)


def test_folders_need_the_switch(tmp_path: Path) -> None:
    run_toy(tmp_path, "train.max_iter=1", "train.fsdp.enabled=True")
    with pytest.raises(ValueError, match="resume with train.fsdp.enabled=True"):
        run_toy(tmp_path, resume=True)


def test_interruption_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sharded = ("train.max_iter=2", "train.fsdp.enabled=True")
    run_toy(tmp_path, *sharded)

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dcp.FileSystemReader, "read_data", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_toy(tmp_path, *sharded, resume=True)


@pytest.fixture
def process_group() -> Iterator[None]:
    """Joins this process with itself."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("reshards", [True, False])
def test_evaluation_keeps_the_choice_to_reshard(reshards: bool) -> None:
    options = OmegaConf.create(
        {
            "param_dtype": "fp32",
            "reduce_dtype": "fp32",
            "reshard_after_forward": reshards,
            "cpu_offload": False,
        }
    )
    block = {"in_channels": 2, "out_channels": 2, "norm": ""}
    model = build_sharded(lambda: nn.Sequential(BasicBlock(**block)), options, "cpu")
    images = torch.ones(1, 2, 4, 4)
    kept = []
    for _ in range(2):
        model(images).sum().backward()
        model(images)
        kept.append(not isinstance(model[0].conv1.weight, DTensor))
        with gathered_for_evaluation(model, reshard_after_forward=reshards):
            model(images)
            assert not isinstance(model[0].conv1.weight, DTensor)
        assert isinstance(model[0].conv1.weight, DTensor)
    assert kept == [not reshards] * 2


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize(("norm_type", "expected"), [(2.0, 13.0), (float("inf"), 12.0)])
def test_norm_where_a_share_is_empty(norm_type: float, expected: float) -> None:
    mesh = init_device_mesh("cpu", (1,))
    shares = [torch.tensor([3.0, -4.0]), torch.empty(0), torch.tensor([12.0])]
    gradients: list[Tensor] = [DTensor.from_local(share, mesh, [Shard(0)]) for share in shares]
    norm = sharded_norm(gradients, norm_type, torch.device("cpu"))
    assert float(norm) == pytest.approx(expected)


@pytest.mark.usefixtures("process_group")
def test_missing_gradients_of_whole_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _Scaled()
    model.factor.grad = torch.tensor(3.0)
    average_whole_gradients(model)
    assert model.factor.grad == 3
    assert model.weight.grad is None

    def exchange(total: Tensor) -> None:
        total += 0.5

    # As if another process had one.
    monkeypatch.setattr(dist, "all_reduce", exchange)
    average_whole_gradients(model)
    assert model.factor.grad == 3.5
    model.factor.grad = None
    average_whole_gradients(model)
    assert model.factor.grad == 0.5
