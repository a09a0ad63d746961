"""Vision transformers and ConvNeXts of timm, by their names, as branches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import timm
import torch
from timm.layers import resample_abs_pos_embed
from timm.models.convnext import ConvNeXt
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from piip_d2.modeling.backbone.branch import Branch
from piip_d2.modeling.backbone.convnext import flat_blocks
from piip_d2.modeling.backbone.patch_embed import drop_rest


class TimmBranch(Branch):
    """The patch embedding and the blocks of a network of timm, by timm's names of weights.

    Any ``VisionTransformer``, ``Eva`` or ``ConvNeXt`` of timm will do, among them those of DeiT,
    DINOv2, CLIP, SigLIP, EVA-02, DINOv3 and ConvNeXt V2. Class and register tokens, the final norm
    and the head are left out: only the cells of the map attend to one another. Position tables are
    stretched to the map as timm stretches them, rotary positions are made for it.

    Args:
        model_name: timm's name of the network, with or without the tag of its weights.
        img_size: Nominal image side in pixels, see :class:`Branch`. The size that the network was
            trained for comes with its name.
        pretrained: Fetch the weights that timm knows for this name, each time the branch is built
            with memory for them: for a resumed run and an evaluation too, which have weights of
            their own. ``train.branch_weights`` with ``timm://`` and the name fetches the same ones
            only where a training begins.
        drop_path_rate: Stochastic depth, grown from 0 to this over the blocks.
        use_act_checkpoint: What is recomputed in the backward pass, see :class:`Branch`.
        **timm_options: Further arguments of ``timm.create_model``.

    Raises:
        ValueError: If timm has no such network or no weights for it, or if it is of another class.
    """

    def __init__(
        self,
        model_name: str,
        *,
        img_size: int,
        pretrained: bool = False,
        drop_path_rate: float = 0.0,
        use_act_checkpoint: bool | str = False,
        **timm_options: Any,
    ) -> None:
        super().__init__(img_size, use_act_checkpoint=use_act_checkpoint)
        self.model_name = model_name
        options = {"num_classes": 0, "drop_path_rate": drop_path_rate, **timm_options}
        family = _find_family(model_name, options)
        options = {**family.options, **options}
        if pretrained and torch.empty(0).device.type != "meta":
            model: Any = create_pretrained(model_name, **options)
        else:
            model = timm.create_model(model_name, **options)
        self._family = family(model)
        for name, part in self._family.parts(model).items():
            if isinstance(part, nn.Module):
                self.add_module(name, part)
            else:
                self.register_parameter(name, part)

    @property
    def block_list(self) -> Sequence[nn.Module]:
        """All blocks in the order they run in; a ConvNeXt's down-sampling layers are blocks."""
        return self._family.block_list(self)

    def channels_after(self, block: int) -> int:
        """Channels of the map behind ``block``."""
        return self._family.channels[block]

    def stride_after(self, block: int) -> int:
        """Image pixels per cell behind ``block``."""
        return self._family.strides[block]

    def embed(self, images: Tensor) -> Tensor:
        """Turns images (B, 3, h, w) into the map (B, H, W, C) that the first block takes."""
        return self._family.embed(self, drop_rest(images, self._family.strides[0]))

    def forward_blocks(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Runs the blocks ``start`` to ``stop - 1`` on a map (B, H, W, C)."""
        return self._family.run(self, x, range(start, stop))


def create_pretrained(model_name: str, **options: Any) -> nn.Module:
    """Builds a network of timm with the weights that timm knows for it.

    Args:
        model_name: timm's name of the network, with or without the tag of its weights.
        **options: Further arguments of ``timm.create_model``.

    Returns:
        The network.

    Raises:
        ValueError: If there are none, or if they cannot be fetched.
    """
    try:
        model: nn.Module = timm.create_model(model_name, pretrained=True, **options)
    except Exception as error:  # each way to fetch weights fails in ways of its own
        reason = str(error).split("\n")[0][:200] or type(error).__name__
        raise ValueError(f"timm gives no weights for the name {model_name!r}: {reason}") from error
    return model


class _Family(ABC):
    """What differs between the classes of timm; the modules themselves are the branch's.

    Args:
        model: A network of the class.
    """

    options: Mapping[str, Any] = {}
    channels: Sequence[int]
    strides: Sequence[int]

    @abstractmethod
    def parts(self, model: Any) -> dict[str, nn.Module | nn.Parameter | None]:
        """Takes from a network, by timm's names, what the branch keeps."""

    @abstractmethod
    def block_list(self, branch: Any) -> Sequence[nn.Module]:
        """Lists the blocks in the order they run in."""

    @abstractmethod
    def embed(self, branch: Any, images: Tensor) -> Tensor:
        """Turns images (B, 3, h, w) into a map (B, H, W, C)."""

    @abstractmethod
    def run(self, branch: Any, x: Tensor, numbers: range) -> Tensor:
        """Runs some blocks on a map (B, H, W, C)."""


class _ConvNeXtFamily(_Family):
    def __init__(self, model: Any) -> None:
        stages = [stage for stage, _ in flat_blocks(model.stages)]
        self.channels = [model.feature_info[stage]["num_chs"] for stage in stages]
        self.strides = [model.feature_info[stage]["reduction"] for stage in stages]

    def parts(self, model: Any) -> dict[str, nn.Module | nn.Parameter | None]:
        return {"stem": model.stem, "stages": model.stages}

    def block_list(self, branch: Any) -> Sequence[nn.Module]:
        return [block for _, block in flat_blocks(branch.stages)]

    def embed(self, branch: Any, images: Tensor) -> Tensor:
        x: Tensor = branch.stem(images)
        return x.permute(0, 2, 3, 1)

    def run(self, branch: Any, x: Tensor, numbers: range) -> Tensor:
        blocks = self.block_list(branch)[numbers.start : numbers.stop]
        x = branch.run_steps(blocks, x.permute(0, 3, 1, 2))
        return x.permute(0, 2, 3, 1)


class _TransformerFamily(_Family):
    # Patches as a map, of any size.
    options: Mapping[str, Any] = {"dynamic_img_size": True}

    def __init__(self, model: Any) -> None:
        height, width = model.patch_embed.feat_ratio(as_scalar=False)
        if height != width or not isinstance(model.patch_embed.grid_size, tuple):
            raise ValueError(f"patches must be square and on a grid, got {height} x {width}")
        self.channels = [model.embed_dim] * len(model.blocks)
        self.strides = [height] * len(model.blocks)
        self.grid_size: tuple[int, int] = model.patch_embed.grid_size
        self.has_layered_positions: bool = getattr(model, "rope_mixed", False)

    def parts(self, model: Any) -> dict[str, nn.Module | nn.Parameter | None]:
        pos_embed = model.pos_embed
        if pos_embed is not None and not model.no_embed_class:
            pos_embed = nn.Parameter(pos_embed.detach()[:, model.num_prefix_tokens :].clone())
        for module in model.blocks.modules():
            # Attention with rotary positions spares as many tokens as there are no more.
            if hasattr(module, "num_prefix_tokens"):
                module.num_prefix_tokens = 0
        return {
            "patch_embed": model.patch_embed,
            "pos_embed": pos_embed,
            "pos_drop": model.pos_drop,
            "norm_pre": model.norm_pre,
            "rope": getattr(model, "rope", None) or nn.Identity(),
            "blocks": model.blocks,
        }

    def block_list(self, branch: Any) -> Sequence[nn.Module]:
        return list(branch.blocks)

    def embed(self, branch: Any, images: Tensor) -> Tensor:
        x: Tensor = branch.patch_embed(images)
        height, width = x.shape[1:3]
        tokens = x.flatten(1, 2)
        if branch.pos_embed is not None:
            tokens = tokens + resample_abs_pos_embed(
                branch.pos_embed,
                new_size=[height, width],
                old_size=list(self.grid_size),
                num_prefix_tokens=0,
            )
        tokens = branch.norm_pre(branch.pos_drop(tokens))
        return tokens.unflatten(1, (height, width))

    def run(self, branch: Any, x: Tensor, numbers: range) -> Tensor:
        height, width = x.shape[1:3]
        tokens, positions = x.flatten(1, 2), None
        if not isinstance(branch.rope, nn.Identity):
            positions = branch.rope.get_embed(shape=[height, width])
        blocks = []
        for number in numbers:
            block = branch.blocks[number]
            if positions is not None:
                rope = positions[number] if self.has_layered_positions else positions
                block = partial(block, rope=rope)
            blocks.append(block)
        tokens = branch.run_steps(blocks, tokens)
        return tokens.unflatten(1, (height, width))


_FAMILIES: dict[type[nn.Module], type[_ConvNeXtFamily] | type[_TransformerFamily]] = {
    VisionTransformer: _TransformerFamily,
    Eva: _TransformerFamily,
    ConvNeXt: _ConvNeXtFamily,
}


def _find_family(
    model_name: str, options: Mapping[str, Any]
) -> type[_ConvNeXtFamily] | type[_TransformerFamily]:
    """Finds out what a network is before there are weights, and what to ask for with them."""
    if options.get("patch_drop_rate", 0.0) > 0:
        raise ValueError("patch_drop_rate must be 0: a branch needs all cells of its map")
    try:
        with torch.device("meta"):
            model = timm.create_model(model_name, **options)
    except RuntimeError as error:
        if timm.is_model(model_name):
            raise
        raise ValueError(f"timm has no network of the name {model_name!r}") from error
    for kind, family in _FAMILIES.items():
        if isinstance(model, kind):
            return family
    raise ValueError(
        f"a branch can be any {', '.join(kind.__name__ for kind in _FAMILIES)} of timm, "
        f"but {model_name} is a {type(model).__name__}"
    )
