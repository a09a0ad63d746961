"""Memory that DINO keeps between the forward and the backward pass of a training step.

Every storage that an operator makes is watched; what is still alive when the forward pass is over
is kept for the backward pass. That also finds what recomputation keeps: the inputs of what will run
again. Weights and images are there before and do not count.

Without numbers (a model on ``meta``) the network runs as on a CPU, so that sizes come out in which
no CPU could hold it. Kernels for GPUs keep the same tensors: attention its inputs, output and the
logarithm of its sum, deformable attention what its projections gave. Where the compiled operators
are missing, their reference keeps far more, and that is counted then.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from piip_d2.modeling import DINO
from piip_d2.modeling.backbone import PIIPNetwork
from piip_d2.modeling.dino import DenoisingQueries, TransformerOutput

# Parts of a model in the order of a report. Weights in 16 bit are what autocast makes of them.
PARTS = ("branches", "interactions", "other_backbone", "neck", "encoder", "decoder", "other")
WEIGHT_COPIES = "weights_in_16_bit"
# Objects in every image. With any other number there are about as many noisy queries.
_NUM_OBJECTS = 10


def count_activations(
    model: DINO,
    image_size: tuple[int, int],
    *,
    batch_size: int = 1,
    dtype: torch.dtype = torch.float32,
) -> dict[str, int]:
    """Counts what backbone, neck and transformer keep for the backward pass.

    Losses are not part of it: next to the maps they are small.

    Args:
        model: The detector, on ``meta`` or a CPU. Its ``use_act_checkpoint`` are heeded.
        image_size: Height and width of the images in pixels, before padding.
        batch_size: Images in the batch.
        dtype: What autocast computes in; float32 for no autocast.

    Returns:
        Bytes by name: those of ``PARTS``, then the weights that autocast converted.

    Raises:
        ValueError: If the size is not positive, or the model stands on an accelerator.
    """
    if min(*image_size, batch_size) < 1:
        raise ValueError(
            f"image_size and batch_size must be positive, got {tuple(image_size)} and {batch_size}"
        )
    if model.device.type not in ("meta", "cpu"):
        raise ValueError(
            f'the model must be on "meta" or "cpu", got {model.device}; move a copy there'
        )
    with ExitStack() as stack:
        if model.device.type == "meta":
            stack.enter_context(FakeTensorMode())
            model = _copy_onto_fake_cpu(model)
        stack.callback(model.train, model.training)
        model.train()
        images = torch.zeros(batch_size, 3, *padded_size(image_size, model.backbone))
        watch = stack.enter_context(_StorageWatch(model, images))
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            output = run_forward(model, images, image_size)
        counts = watch.count()
        del output
    return counts


def run_forward(model: DINO, images: Tensor, image_size: tuple[int, int]) -> TransformerOutput:
    """Runs all of a training step that comes before the losses.

    Args:
        model: The detector.
        images: (B, 3, H, W), normalised and padded.
        image_size: Height and width of all images without their padding, in pixels.

    Returns:
        The predictions, also for about as many noisy queries as there are with real objects.
    """
    noisy = None
    if model.denoising is not None:
        num_groups = max(1, model.denoising.num_queries // _NUM_OBJECTS)
        labels = images.new_zeros(len(images), 2 * num_groups * _NUM_OBJECTS, dtype=torch.long)
        content = model.denoising.label_enc(labels)
        box_logits = images.new_zeros(*labels.shape, 4)
        noisy = DenoisingQueries(content, box_logits, num_groups, _NUM_OBJECTS)
    maps = list(model.backbone(images).values())
    padded, sizes = (images.shape[2], images.shape[3]), [image_size] * len(images)
    output: TransformerOutput = model.transformer(maps, sizes, padded, noisy)
    return output


def set_act_checkpoint(model: DINO, switches: Mapping[str, bool]) -> None:
    """Chooses the parts whose activations are recomputed in the backward pass.

    Args:
        model: The detector; changed in place.
        switches: By part, any of ``branches``, ``interactions``, ``encoder`` and ``decoder``.

    Raises:
        ValueError: If a part has no such switch.
    """
    modules: dict[str, list[Any]] = {
        "encoder": [model.transformer.encoder],
        "decoder": [model.transformer.decoder],
        "branches": [],
        "interactions": [],
    }
    for network in model.modules():
        if isinstance(network, PIIPNetwork):
            modules["interactions"].append(network)
            modules["branches"] += network.branches
    unknown = sorted(set(switches) - set(modules))
    if unknown:
        raise ValueError(f"parts to recompute must be of {sorted(modules)}, got {unknown}")
    for part, is_on in switches.items():
        for module in modules[part]:
            module.use_act_checkpoint = is_on


def padded_size(image_size: tuple[int, int], backbone: Any) -> tuple[int, int]:
    """Height and width that an image is padded to, as ``backbone.size_divisibility`` asks for."""
    multiple = max(backbone.size_divisibility, 1)
    height, width = (-(-side // multiple) * multiple for side in image_size)
    return height, width


def _copy_onto_fake_cpu(model: DINO) -> DINO:
    """A copy whose tensors have no numbers, but say that they stand on a CPU."""
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        empty = torch.empty(tensor.shape, dtype=tensor.dtype)
        is_weight = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_weight else empty
    return copy.deepcopy(model, memo)


def _parts(model: DINO) -> Iterator[tuple[str, nn.Module]]:
    """Names of parts and the modules whose work is theirs, unless a module inside says more."""
    neck = model.backbone
    network = getattr(neck, "bottom_up", None)
    yield "neck", neck
    if network is not None:
        yield "other_backbone", network
    for module in neck.modules():
        if isinstance(module, PIIPNetwork):
            # A branch is not called itself, but its parts are.
            for child in module.branches.modules():
                yield "branches", child
            for stage in module.interactions:
                yield "interactions", stage
    yield "encoder", model.transformer.encoder
    yield "decoder", model.transformer.decoder


def _key(tensor: Tensor) -> int:
    """Tells storages apart as long as they live."""
    return tensor.untyped_storage()._cdata


class _StorageWatch(TorchDispatchMode):
    """Remembers every storage that is made, and by which part.

    Args:
        model: The detector, whose weights are known already.
        images: The batch, which is known too.
    """

    def __init__(self, model: DINO, images: Tensor) -> None:
        super().__init__()
        self._weights = {_key(tensor) for tensor in (*model.parameters(), *model.buffers())}
        self._images = _key(images)
        self._seen: dict[int, tuple[StorageWeakRef, str, int]] = {}
        self._running = ["other"]
        self._hooks = [
            hook
            for name, module in _parts(model)
            for hook in (
                module.register_forward_pre_hook(self._enter(name)),
                module.register_forward_hook(self._leave, always_call=True),
            )
        ]

    def __exit__(self, *error: Any) -> None:
        for hook in self._hooks:
            hook.remove()
        super().__exit__(*error)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        is_copy = func is torch.ops.aten._to_copy.default and _key(args[0]) in self._weights
        part = WEIGHT_COPIES if is_copy else self._running[-1]
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._remember(tensor, part)
        return result

    def count(self) -> dict[str, int]:
        """Bytes of the storages that are still alive, by part."""
        gc.collect()
        counts = dict.fromkeys((*PARTS, WEIGHT_COPIES), 0)
        for reference, part, size in self._seen.values():
            if not reference.expired():
                counts[part] += size
        return counts

    def _remember(self, tensor: Tensor, part: str) -> None:
        key = _key(tensor)
        if key in self._weights or key == self._images:
            return
        # A storage may stand where another was that is gone.
        if key not in self._seen or self._seen[key][0].expired():
            storage = tensor.untyped_storage()
            self._seen[key] = (StorageWeakRef(storage), part, storage.nbytes())

    def _enter(self, name: str) -> Callable[..., None]:
        def enter(*_: Any) -> None:
            self._running.append(name)

        return enter

    def _leave(self, *_: Any) -> None:
        self._running.pop()
