"""How each kind of command in the documents is checked, and how a long one is made short."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement

from tests.documents.markdown import ROOT

# Two steps on two small images, in this process.
_SHORT_DATA = [
    "dataloader.train.num_workers=0",
    "dataloader.train.total_batch_size=2",
    "dataloader.test.num_workers=0",
    *(
        f"dataloader.test.mapper.augmentations.0.{key}=64"
        for key in ("max_size", "short_edge_length")
    ),
]
_ONE_SCALE = [
    f"dataloader.train.mapper.augmentations.0.{key}=64" for key in ("max_size", "short_edge_length")
]
_MANY_SCALES = [
    f"dataloader.train.mapper.augmentations.1.{setting}"
    for setting in (
        *("short_edge_lengths=[48,64]", "max_size=64", "max_crop=64"),
        *("zoom_short_edge_lengths=[32]", "zoom_crop_range=[16,32]"),
    )
]
# A rate too small to change anything: random heads find something everywhere, so that there is an
# AP to choose the best checkpoint by.
SHORT_TRAINING = [
    *("train.max_iter=2", "train.log_period=1", "optimizer.lr=1e-6"),
    *_SHORT_DATA,
]

# The published networks in the sizes of the reference data that stand in for their checkpoint.
_SMALL_MASK_HEAD = [
    "model.backbone.out_channels=32",
    "model.proposal_generator.head.in_channels=32",
    "model.roi_heads.mask_head.input_shape.channels=32",
    "model.roi_heads.mask_head.conv_dims=[24,24,24,24,24]",
]
_SMALL_HEADS = [
    *_SMALL_MASK_HEAD,
    "model.roi_heads.box_head.input_shape.channels=32",
    "model.roi_heads.box_head.fc_dims=[48,48]",
    "model.roi_heads.box_predictor.input_shape.channels=48",
]
_SMALL_CASCADE = [
    *_SMALL_MASK_HEAD,
    *(
        f"model.roi_heads.{setting}"
        for stage in range(3)
        for setting in (
            f"box_heads.{stage}.input_shape.channels=32",
            f"box_heads.{stage}.fc_dims=[48,48]",
            f"box_predictors.{stage}.input_shape.channels=48",
        )
    ),
]
_SMALL_DINO = [
    *("model.backbone.out_channels=32", "model.backbone.num_groups=8"),
    *("model.transformer.num_queries=30", "model.transformer.feedforward_dim=48"),
    *("model.transformer.num_encoder_layers=1", "model.transformer.num_decoder_layers=2"),
    # One for all blocks, of which there are fewer.
    *(f"model.backbone.bottom_up.branches.{number}.window_size=14" for number in range(3)),
]
_SMALL_PIIP = [
    "model.backbone.bottom_up.num_interactions=4",
    "model.backbone.bottom_up.num_heads=4",
    *(
        f"model.backbone.bottom_up.branches.{number}.{key}={value}"
        for number, (embed_dim, num_heads) in enumerate([(16, 2), (32, 2), (64, 4)])
        for key, value in (
            ("embed_dim", embed_dim),
            ("num_heads", num_heads),
            ("depth", 4),
            ("pretrain_img_size", 96),
        )
    ),
]
# Overrides that the sizes of a config ask for, by the beginning of its path.
_SMALLER = {
    f"configs/{detector}/piip_{family}_": [*heads, *_SMALL_PIIP]
    for detector, heads in (
        ("mask_rcnn", _SMALL_HEADS),
        ("cascade_rcnn", _SMALL_CASCADE),
        ("dino", _SMALL_DINO),
    )
    for family in ("tsb", "sbl")
}
_SMALLER["resnet_config.py"] = ["model.backbone.bottom_up.branches.1.name=resnet10t"]
# In bfloat16, PyTorch's gradient of a strided convolution of a single cell is not always a number.
_SMALLER["retinanet_config.py"] = ["train.amp.enabled=False"]
# The quick one, for what comes behind its export.
_ONNX_FILE_THAT_IS_USED = "dino.onnx"
_SHALLOW_DINO = [
    *("model.transformer.num_encoder_layers=1", "model.transformer.num_decoder_layers=1"),
    "model.backbone.bottom_up.num_interactions=1",
    *(f"model.backbone.bottom_up.branches.{number}.depth=1" for number in range(3)),
]
# Names of configs that train at many scales.
_AT_MANY_SCALES = r"configs/(dino/.*_3x|.*_ms)\.py"


@dataclass(frozen=True)
class Shortened:
    """A command to run in place of a documented one.

    Args:
        script: Program below the repository, or "torchrun".
        arguments: Its arguments.
    """

    script: str
    arguments: tuple[str, ...]


def shorten(words: tuple[str, ...]) -> Shortened | None:
    """Returns what to run for a command, or None if its form alone was checked.

    Raises:
        AssertionError: If no rule is for this command, or if its form is wrong.
    """
    command = words
    while re.fullmatch(r"[A-Z]\w*=\S+", command[0]):
        name = command[0].partition("=")[0]
        assert name in (ROOT / "piip_d2" / "csrc" / "extension.py").read_text(), name
        command = command[1:]
    for pattern, rule in _RULES.items():
        if re.match(pattern, " ".join(command)):
            return rule(command)
    raise AssertionError(f"no rule for {' '.join(words)!r}: add one, or write another command")


def _make(words: tuple[str, ...]) -> Shortened | None:
    targets = re.findall(r"^(\w+):.*##", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    for word in words[1:]:
        assert word in targets or re.fullmatch(r"DATA=(trees|scenes)", word), word
    if words != ("make", "demo"):
        return None
    # What comes next uses its run.
    return _train(("python", "train_net.py", "--config-file", "configs/quick/faster_rcnn_trees.py"))


def _activate(words: tuple[str, ...]) -> None:
    assert words == ("source", ".venv/bin/activate"), words


def _pip(words: tuple[str, ...]) -> None:
    known_options = {"--no-build-isolation", "-e"}
    for word in words[2:]:
        if word in known_options or word == ".":
            continue
        address = re.fullmatch(r"git\+https://github\.com/[\w./-]+\.git", word)
        try:
            assert address or Requirement(word)
        except InvalidRequirement as error:
            raise AssertionError(f"pip cannot read {word!r}") from error


def _build(words: tuple[str, ...]) -> None:
    # Too long for here; the tests of packaging run it.
    assert words == ("python", "-m", "build", "--no-isolation"), words


def _compute_sanitizer(words: tuple[str, ...]) -> None:
    assert words[:3] == ("compute-sanitizer", "--tool", "memcheck"), words
    assert words[3:6] == (".venv/bin/python", "-m", "pytest"), words
    assert (ROOT / words[6]).is_dir() and words[7:] == ("-m", "cuda"), words


def _example(words: tuple[str, ...]) -> None:
    # They download a network or need a trained one; slow tests of their own run them.
    _check_options(words[2:], (ROOT / words[1]).read_text())


def _benchmark(words: tuple[str, ...]) -> None:
    # Tests of their own run them with tiny networks.
    parser = (ROOT / "benchmarks" / "command.py").read_text()
    place = ROOT / words[2].replace(".", "/")
    program = (place / "__main__.py" if place.is_dir() else place.with_suffix(".py")).read_text()
    _check_options(words[3:], parser + program)


def _check_options(words: tuple[str, ...], program: str) -> None:
    for word in words:
        assert not word.startswith("--") or f'"{word}"' in program, word


def _train(words: tuple[str, ...]) -> Shortened:
    arguments = list(words[2:])
    if "--version" in arguments:
        return _as_it_is(words)
    if "--num-gpus" in arguments:
        # No GPU is seen here: two processes on the CPU.
        arguments[arguments.index("--num-gpus") + 1] = "2"
    arguments += SHORT_TRAINING + _short_augmentation(arguments) + _smaller(arguments)
    if "--resume" in arguments:
        arguments.append("train.max_iter=3")
    if "train.preset=one_gpu" in arguments:
        arguments.append("train.accumulate=2")
    return Shortened(words[1], tuple(arguments))


def _torchrun(words: tuple[str, ...]) -> Shortened:
    assert words[1:4] == ("--nproc-per-node", "8", "train_net.py"), words
    short = _train(("python", *words[3:]))
    return Shortened("torchrun", ("--nproc-per-node", "2", short.script, *short.arguments))


def _demo(words: tuple[str, ...]) -> Shortened:
    arguments = words[2:] if "--opts" in words else (*words[2:], "--opts")
    smaller = [*_short_augmentation(list(arguments)), *_smaller(list(arguments))]
    return Shortened(words[1], (*arguments, *_SHORT_DATA, *smaller))


def _convert(words: tuple[str, ...]) -> Shortened:
    config = words[words.index("--config") + 1]
    return Shortened(words[1], (*words[2:], *_smaller(["--config-file", config])))


def _export(words: tuple[str, ...]) -> Shortened:
    # Any weights do.
    arguments = list(words[2:])
    overrides = ["train.init_checkpoint="]
    place = arguments.index("--checkpoint")
    del arguments[place : place + 2]
    place = arguments.index("--image-size")
    arguments[place + 1 : place + 3] = ["64", "64"]
    if "--time" in arguments:
        arguments[arguments.index("--time") + 1] = "1"
    place = arguments.index("--output") + 1
    if arguments[place] == _ONNX_FILE_THAT_IS_USED:
        # Detections of random weights, whose scores are much the same, may change places.
        arguments.append("--no-check")
        overrides += _SHALLOW_DINO
    else:
        # Made in a tenth of the time.
        arguments[place] = arguments[place].replace(".onnx", ".pt2")
    return Shortened(words[1], (*arguments, "--opts", *overrides))


def _visualize(words: tuple[str, ...]) -> Shortened | None:
    if "output/quick/scenes/sweep" in words:
        # What would make it takes too long.
        _check_options(words[2:], (ROOT / words[1]).read_text())
        return None
    # There is one run alone.
    known = (word for word in words[2:] if word != "output/quick/scenes_half_rate")
    return Shortened(words[1], tuple(known))


def _as_it_is(words: tuple[str, ...]) -> Shortened:
    return Shortened(words[1], words[2:])


def _smaller(arguments: list[str]) -> list[str]:
    config = arguments[arguments.index("--config-file") + 1]
    return next((short for start, short in _SMALLER.items() if config.startswith(start)), [])


def _short_augmentation(arguments: list[str]) -> list[str]:
    config = arguments[arguments.index("--config-file") + 1]
    return _MANY_SCALES if re.match(_AT_MANY_SCALES, config) else _ONE_SCALE


_RULES: dict[str, Callable[[tuple[str, ...]], Shortened | None]] = {
    r"make( \w+(=\w+)?)+$": _make,
    r"source ": _activate,
    r"pip install ": _pip,
    r"python -m build": _build,
    r"compute-sanitizer ": _compute_sanitizer,
    r"python train_net\.py ": _train,
    r"torchrun ": _torchrun,
    r"python demo\.py ": _demo,
    r"python tools/convert_checkpoint\.py ": _convert,
    r"python tools/sweep_resolutions\.py ": _example,
    r"python tools/export_model\.py ": _export,
    r"python tools/visualize_piip\.py ": _visualize,
    r"python tools/\w+\.py ": _as_it_is,
    r"python -m benchmarks\.": _benchmark,
    r"python docs/examples/\w+\.py ": _example,
}
