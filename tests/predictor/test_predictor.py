"""The predictor: inputs of every kind, weights, classes and messages."""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import LazyConfig
from detectron2.data import DatasetCatalog, MetadataCatalog
from omegaconf import DictConfig
from PIL import Image

from piip_d2.data.image_reading import UnusableImageError
from piip_d2.engine import load_config
from piip_d2.predictor import Predictor
from tests.conftest import TinyCoco

CONFIG = Path(__file__).parents[1] / "visualization" / "small_config.py"
RANDOM = ["train.init_checkpoint="]
# For a configuration that has no such key, as it was not completed by `load_config`.
ADDED_RANDOM = ["+train.init_checkpoint="]


def test_answers_in_pixels_of_the_image(predictor: Predictor, picture: np.ndarray) -> None:
    instances = predictor(picture)
    assert instances.image_size == (50, 70)
    assert 0 < len(instances) <= 6
    assert instances.pred_masks.shape[1:] == (50, 70)
    boxes = instances.pred_boxes.tensor
    assert boxes.min() >= 0 and boxes[:, 2].max() <= 70 and boxes[:, 3].max() <= 50


def test_equals_the_model_on_the_resized_image(predictor: Predictor, picture: np.ndarray) -> None:
    resized = np.asarray(Image.fromarray(picture).resize((90, 64), Image.Resampling.BILINEAR))
    tensor = torch.from_numpy(resized.transpose(2, 0, 1).copy())
    with torch.no_grad():
        output = predictor.model([{"image": tensor, "height": 50, "width": 70}])
    expected = output[0]["instances"]
    torch.testing.assert_close(predictor(picture).scores, expected.scores)


def test_takes_the_checkpoint_from_the_config(checkpoint: Path, picture: np.ndarray) -> None:
    given = Predictor(CONFIG, checkpoint)(picture)
    configured = Predictor(CONFIG, overrides=[f"train.init_checkpoint={checkpoint}"])(picture)
    torch.testing.assert_close(given.scores, configured.scores)


def test_all_kinds_of_input_agree(
    predictor: Predictor, picture: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(picture).save(path)
    expected = predictor(picture).scores
    kinds = (str(path), path, Image.open(path), np.dstack([picture, picture[:, :, 0]]))
    for image in kinds:
        torch.testing.assert_close(predictor(image).scores, expected)
    reversed_channels = picture[:, :, ::-1]
    torch.testing.assert_close(predictor(reversed_channels, channel_order="BGR").scores, expected)
    assert not torch.equal(predictor(reversed_channels).scores, expected)


@pytest.mark.parametrize(("wanted", "expected"), [(0.05, 0.05), (0.7, 0.4), (None, 0.4)])
def test_thresholds_of_the_model_are_lowered(
    checkpoint: Path, wanted: float | None, expected: float
) -> None:
    overrides = ["model.roi_heads.box_predictor.test_score_thresh=0.4"]
    predictor = Predictor(CONFIG, checkpoint, overrides=overrides, score_threshold=wanted)
    assert predictor.model.roi_heads.box_predictor.test_score_thresh == expected


def test_device_that_is_not_there(cfg: DictConfig) -> None:
    with pytest.raises(ValueError, match="^device must be auto, cpu or cuda, got 'gpu'"):
        Predictor(cfg, device="gpu")


def test_model_that_wants_bgr_gets_it(checkpoint: Path, picture: np.ndarray) -> None:
    overrides = ["dataloader.test.mapper.image_format=BGR"]
    swapped = Predictor(CONFIG, checkpoint, overrides=overrides)
    expected = Predictor(CONFIG, checkpoint)(picture[:, :, ::-1])
    torch.testing.assert_close(swapped(picture).scores, expected.scores)


def test_published_config_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = [*RANDOM, "dataloader.test.dataset.names=[nothing]"]
    predictor = Predictor("quick/faster_rcnn_scenes", overrides=overrides)
    assert predictor.cfg.model.roi_heads.num_classes == 4
    assert predictor.cfg.train.init_checkpoint == ""
    assert predictor(np.zeros((60, 90, 3), np.uint8)).image_size == (60, 90)
    with pytest.raises(FileNotFoundError, match="faster_rcnn_scene does .*mean quick/faster_rcnn_"):
        Predictor("quick/faster_rcnn_scene")


def test_data_of_ones_own(tiny_coco: TinyCoco, tmp_path: Path) -> None:
    data = {
        "data.train": tiny_coco.json_file,
        "data.val": tiny_coco.json_file,
        "data.images": tiny_coco.image_root,
        "train.init_checkpoint": "",
    }
    config = "quick/faster_rcnn_trees"
    given = Predictor(config, overrides=[f"{key}={value}" for key, value in data.items()])
    assert given.class_names == list(tiny_coco.class_names)
    assert given.cfg.model.roi_heads.num_classes == len(tiny_coco.class_names)
    # As a run saves it; its predictor works where the data are not.
    saved = copy.deepcopy(given.cfg)
    saved.data.train = saved.data.val = str(tmp_path / "gone.json")
    LazyConfig.save(saved, str(tmp_path / "config.yaml"))
    again = Predictor(tmp_path / "config.yaml", overrides=RANDOM)
    assert again.cfg.model.roi_heads.num_classes == len(tiny_coco.class_names)
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from piip_d2.configs import get_config\n"
        f"cfg = get_config({config!r})\n"
        "model, dataloader, train = cfg.model, cfg.dataloader, cfg.train\n"
        "optimizer, lr_multiplier = cfg.optimizer, cfg.lr_multiplier\n"
        f"data = dict(train={str(tiny_coco.json_file)!r}, val={str(tiny_coco.json_file)!r},\n"
        f"    images={str(tiny_coco.image_root)!r})\n"
    )
    written = Predictor(mine, overrides=RANDOM)
    assert written.class_names == list(tiny_coco.class_names)


def test_data_that_are_not_there(cfg: DictConfig) -> None:
    overrides = ["data.train=nowhere.json", "data.val=no.json"]
    with pytest.raises(FileNotFoundError, match="there must be a COCO-format JSON at .*no.json"):
        Predictor("quick/faster_rcnn_trees", overrides=overrides)


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (7, 20), (5, 700), (1500, 900)])
def test_any_size(predictor: Predictor, shape: tuple[int, int]) -> None:
    instances = predictor(np.full((*shape, 3), 90, np.uint8))
    assert instances.image_size == shape


def test_too_elongated_an_image(predictor: Predictor) -> None:
    with pytest.raises(
        UnusableImageError, match="5000 x 1 pixels cannot be resized .* less elongated"
    ):
        predictor(np.zeros((1, 5000, 3), np.uint8))


def test_class_names_of_the_checkpoint(
    cfg: DictConfig, checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        predictor = Predictor(cfg, checkpoint)
    assert predictor.class_names == ["cat", "dog"]
    assert predictor.category_ids == []
    assert "pixel mean [1.0, 2.0, 3.0]" in caplog.text


def test_category_ids_of_the_checkpoint(cfg: DictConfig, checkpoint: Path, tmp_path: Path) -> None:
    content = torch.load(checkpoint)
    content["metadata"] |= {"category_ids": [4, 2]}
    torch.save(content, tmp_path / "with_ids.pth")
    predictor = Predictor(cfg, tmp_path / "with_ids.pth")
    assert (predictor.class_names, predictor.category_ids) == (["cat", "dog"], [4, 2])


def test_class_names_of_the_test_data(cfg: DictConfig, caplog: pytest.LogCaptureFixture) -> None:
    DatasetCatalog.register("small_test", list)
    metadata = MetadataCatalog.get("small_test")
    metadata.set(thing_classes=["a", "b"], thing_dataset_id_to_contiguous_id={7: 1, 9: 0})
    try:
        predictor = Predictor(cfg, overrides=ADDED_RANDOM)
    finally:
        DatasetCatalog.remove("small_test")
        MetadataCatalog.remove("small_test")
    assert predictor.class_names == ["a", "b"]
    assert predictor.category_ids == [9, 7]
    assert "random weights" in caplog.text


def test_no_class_names(cfg: DictConfig) -> None:
    assert Predictor(cfg, overrides=ADDED_RANDOM).class_names == []
    assert "small_test" not in MetadataCatalog.list()


def test_moving_average_is_preferred(cfg: DictConfig, checkpoint: Path, tmp_path: Path) -> None:
    content = torch.load(checkpoint)
    average = {name: 2 * value for name, value in content["model"].items()}
    torch.save(content | {"ema": {"weights": average, "num_updates": 3}}, tmp_path / "ema.pth")
    name = "backbone.layers.0.bias"
    averaged = Predictor(cfg, tmp_path / "ema.pth").model.state_dict()[name]
    torch.testing.assert_close(averaged, 2 * content["model"][name])
    overrides = ["train.ema.evaluate=model"]
    plain = Predictor(CONFIG, tmp_path / "ema.pth", overrides=overrides).model.state_dict()[name]
    torch.testing.assert_close(plain, content["model"][name])


@pytest.mark.parametrize("checkpoint", [None, ""])
def test_random_weights_have_to_be_asked_for(
    checkpoint: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    empty = "there are no weights, as train.init_checkpoint is empty; give some, such as train.init"
    with pytest.raises(ValueError, match=f"{empty}_checkpoint=model_final.pth. Random weights"):
        Predictor(CONFIG, checkpoint)
    Path("model_best.pth").touch()
    with pytest.raises(ValueError, match=r"such as train.init_checkpoint=model_best.pth\."):
        Predictor(CONFIG, checkpoint, overrides=["train.output_dir=evaluation"])
    with pytest.raises(ValueError, match=r"override train.init_checkpoint= with nothing behind"):
        Predictor(load_config(str(CONFIG)), checkpoint)
    # This config file says nothing of weights.
    with pytest.raises(ValueError, match=r"override \+train.init_checkpoint= with nothing behind"):
        Predictor(LazyConfig.load(str(CONFIG)), checkpoint)
    Predictor(load_config(str(CONFIG), RANDOM), checkpoint)


def test_what_a_training_starts_from_is_no_detector() -> None:
    with pytest.raises(ValueError, match=r"^piip://\S+ is what a training starts from, not a tra"):
        Predictor("quick/dino_scenes")


def test_config_is_not_changed(cfg: DictConfig) -> None:
    Predictor(cfg, overrides=["model.roi_heads.num_classes=5", *ADDED_RANDOM])
    assert cfg.model.roi_heads.num_classes == 2


def test_messages_about_config_and_weights(
    cfg: DictConfig, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="the config file nothing.py does not exist"):
        Predictor("nothing.py")
    with pytest.raises(ValueError, match="unknown config key 'model.heads'"):
        Predictor(cfg, overrides=["model.heads=5"])
    with pytest.raises(ValueError, match="no dataloader.test.mapper"):
        Predictor(DictConfig({"model": cfg.model}))
    with pytest.raises(ValueError, match="nothing.pth does not exist"):
        Predictor(cfg, "nothing.pth")
    picture = tmp_path / "picture.jpg"
    picture.write_text("hello")
    with pytest.raises(
        ValueError, match=r"picture.jpg cannot .* \(it is not in PyTorch's format\)$"
    ):
        Predictor(cfg, picture)
    truncated = tmp_path / "truncated.pth"
    truncated.write_bytes(checkpoint.read_bytes()[:3000])
    with pytest.raises(ValueError, match="truncated.pth cannot be read: it is truncated"):
        Predictor(cfg, truncated)
    torch.save({"model": {"other.weight": torch.zeros(2)}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="none of the 1 weights in the checkpoint fits"):
        Predictor(cfg, tmp_path / "other.pth")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_cuda_where_there_is_none(cfg: DictConfig) -> None:
    with pytest.raises(ValueError, match="asks for a GPU, but PyTorch sees none"):
        Predictor(cfg, device="cuda")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_answers_on_the_cpu(cfg: DictConfig, checkpoint: Path, picture: np.ndarray) -> None:
    instances = Predictor(cfg, checkpoint, device="cuda")(picture)
    assert instances.scores.device.type == "cpu"
