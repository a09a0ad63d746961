"""Rendered scenes as files: PNG images, a COCO JSON, semantic maps, and a digest of it all."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from PIL import Image

from .scenes import Scene, SceneOptions, class_names, render_scene

__all__ = ["SCENES_V1", "SCENES_V1_SPLITS", "scene_to_coco", "scenes_digest", "write_scenes"]

# The benchmark scenes-v1. It is fixed for good: whatever changes a pixel or an annotation of
# it needs a new version name. Splits are (number of images, seed).
SCENES_V1 = SceneOptions()
SCENES_V1_SPLITS = {"train": (1000, 0), "val": (200, 1)}


def write_scenes(
    root: str | Path,
    options: SceneOptions,
    num_images: int,
    seed: int,
    split: str = "train",
) -> dict[str, Any]:
    """Renders scenes into ``root/split``, and writes their COCO dictionary beside it.

    Semantic maps go to ``root/semantic/split``, the JSON to ``root/annotations/split.json``. Its
    ``info.digest`` is what ``scenes_digest`` returns.

    Args:
        root: Folder of the data set.
        options: What the scenes look like.
        num_images: How many to render.
        seed: Which series of scenes.
        split: Name of the sub-folder and of the JSON.

    Returns:
        What the JSON holds.
    """
    if num_images < 1:
        raise ValueError(f"num_images must be at least 1, got {num_images}")
    folders = {name: Path(root) / name for name in (split, f"semantic/{split}", "annotations")}
    for name, folder in folders.items():
        if options.with_semantic_map or not name.startswith("semantic"):
            folder.mkdir(parents=True, exist_ok=True)
    coco = _empty_coco(options, seed)
    digest = hashlib.sha256()
    for index in range(num_images):
        scene = render_scene(options, seed, index)
        file_name = f"{split}_{index:06d}.png"
        # Noise hardly compresses: the fastest level costs a few per cent of disk.
        Image.fromarray(scene.image).save(folders[split] / file_name, compress_level=1)
        if scene.semantic_map is not None:
            Image.fromarray(scene.semantic_map).save(folders[f"semantic/{split}"] / file_name)
        _append(coco, scene, file_name)
        _update(digest, scene)
    coco["info"]["digest"] = digest.hexdigest()
    (folders["annotations"] / f"{split}.json").write_text(json.dumps(coco))
    return coco


def scenes_digest(options: SceneOptions, num_images: int, seed: int) -> str:
    """Returns the SHA-256 of the pixels and annotations of rendered scenes."""
    digest = hashlib.sha256()
    for index in range(num_images):
        _update(digest, render_scene(options, seed, index))
    return digest.hexdigest()


def scene_to_coco(
    scene: Scene, image_id: int, first_annotation_id: int = 1
) -> list[dict[str, Any]]:
    """Returns the annotations of a scene as COCO dictionaries; category ids start at 1."""
    return [
        {
            "id": first_annotation_id + number,
            "image_id": image_id,
            "category_id": found.category + 1,
            "bbox": found.bbox,
            "area": found.area,
            "iscrowd": int(found.is_crowd),
            "segmentation": found.segmentation,
        }
        for number, found in enumerate(scene.objects)
    ]


def _empty_coco(options: SceneOptions, seed: int) -> dict[str, Any]:
    names = class_names(options.num_classes)
    return {
        "info": {
            "description": f"Scenes rendered from seed {seed} with {options}",
            "contributor": "piip_d2",
        },
        "licenses": [
            {
                "id": 1,
                "name": "CC0-1.0",
                "url": "https://creativecommons.org/publicdomain/zero/1.0/",
            }
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, 1)],
        "images": [],
        "annotations": [],
    }


def _append(coco: dict[str, Any], scene: Scene, file_name: str) -> None:
    height, width = scene.image.shape[:2]
    image_id = len(coco["images"]) + 1
    coco["images"].append(
        {"id": image_id, "file_name": file_name, "width": width, "height": height, "license": 1}
    )
    coco["annotations"] += scene_to_coco(scene, image_id, len(coco["annotations"]) + 1)


def _update(digest: hashlib._Hash, scene: Scene) -> None:
    # Pixels rather than PNG bytes: compression differs between versions of zlib.
    digest.update(scene.image.tobytes())
    digest.update(json.dumps(scene_to_coco(scene, 0), sort_keys=True).encode())
    if scene.semantic_map is not None:
        digest.update(scene.semantic_map.tobytes())
