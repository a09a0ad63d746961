"""Predictions in COCO's results format, on disk after every image."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Instances


class JSONListFile:
    """A JSON list that grows on disk and is complete after every `extend`.

    A killed program or a full disk costs no more than the entries being written.

    Args:
        path: File to write; an older one is replaced.
    """

    _END = b"\n]\n"

    def __init__(self, path: Path) -> None:
        self.path = path
        # Unbuffered: what `extend` has written survives the end of the process.
        self._file = path.open("wb", buffering=0)
        self._file.write(b"[" + self._END)
        self._length = 1
        self.num_entries = 0

    def extend(self, entries: Sequence[dict[str, Any]]) -> None:
        """Appends entries.

        Args:
            entries: What to add; each can be written as JSON.

        Raises:
            OSError: If they cannot be written; the file then ends with those before.
        """
        if not entries:
            return
        text = ",\n".join(json.dumps(entry) for entry in entries)
        data = (",\n" if self.num_entries else "\n").encode() + text.encode()
        try:
            self._write(data)
        except OSError as error:
            self._file.truncate(self._length)
            self._write(b"")
            raise OSError(
                error.errno,
                f"cannot write {self.path} ({error.strerror}); its first {self.num_entries} "
                "entries are kept",
            ) from error
        self._length += len(data)
        self.num_entries += len(entries)

    def close(self) -> None:
        self._file.close()

    def _write(self, data: bytes) -> None:
        self._file.seek(self._length)
        rest = memoryview(data + self._END)
        while rest:
            rest = rest[self._file.write(rest) :]


class COCOResultsWriter:
    """Writes ``predictions.json`` and ``images.json`` for a run over images or frames.

    ``predictions.json`` is a list in COCO's results format whose entries also name the file.
    ``images.json`` holds the images, without objects too, in the form in which COCO's annotation
    files list them, so that the two load together in pycocotools.

    Args:
        folder: Where the two files go.
        prefix: What their names start with.
        class_names: Names by class index.
        category_ids: The data set's category ids by class index; the class indices when empty.
    """

    def __init__(
        self,
        folder: Path,
        *,
        prefix: str = "",
        class_names: Sequence[str] = (),
        category_ids: Sequence[int] = (),
    ) -> None:
        self.predictions_path = folder / f"{prefix}predictions.json"
        self.images_path = folder / f"{prefix}images.json"
        self._category_ids = list(category_ids) or list(range(len(class_names)))
        self._categories = [
            {"id": number, "name": name}
            for number, name in zip(self._category_ids, class_names, strict=False)
        ]
        self._predictions = JSONListFile(self.predictions_path)
        self._images: list[dict[str, Any]] = []

    def __enter__(self) -> COCOResultsWriter:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._predictions.close()
        # Written also when something went wrong: it belongs to the predictions already there.
        content = {"images": self._images, "categories": self._categories, "annotations": []}
        self.images_path.write_text(json.dumps(content, indent=1), encoding="utf-8")

    @property
    def num_objects(self) -> int:
        """Number of predictions written so far."""
        return self._predictions.num_entries

    def add(self, image_id: int, file_name: str, instances: Instances) -> None:
        """Adds what was found in one image.

        Args:
            image_id: Number of the image, different for each.
            file_name: Its file name.
            instances: The predictions to write.
        """
        entries = instances_to_coco_json(instances.to("cpu"), image_id)
        for entry in entries:
            index = entry["category_id"]
            if index < len(self._category_ids):
                entry["category_id"] = self._category_ids[index]
            entry["file_name"] = file_name
        self._predictions.extend(entries)
        height, width = instances.image_size
        image = {"id": image_id, "file_name": file_name, "width": width, "height": height}
        self._images.append(image)

    def note_drawing(self, file_name: str) -> None:
        """Notes the file into which the objects of the last image were drawn."""
        self._images[-1]["drawing"] = file_name
