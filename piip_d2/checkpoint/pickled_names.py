"""What a pickle would import, found without unpickling it."""

from __future__ import annotations

import pickletools
import re
from pathlib import Path

from piip_d2.checkpoint.reading import CheckpointReadError

# Plain containers, and parts of tensors; all else that a file asks for could be harmful.
_HARMLESS = re.compile(
    r"(collections\.OrderedDict|argparse\.Namespace|torch\.(\w+Storage|Size|device|\w+\d+)"
    r"|torch\._utils\._rebuild_\w+|_codecs\.encode|copy_?reg\._reconstructor"
    r"|(builtins|__builtin__)\.(set|dict|list|tuple|object))$"
)


def refused_code(path: Path, error: Exception) -> CheckpointReadError | None:
    """Describes what code a file asks for, where that is why it was not read.

    Args:
        path: The file.
        error: What PyTorch said.

    Returns:
        The error to raise, or None if the file asks for nothing.
    """
    wanted = re.search(r"(?:GLOBAL|Unsupported class) ([\w.]+)", str(error))
    names = [*([wanted[1]] if wanted else []), *imported_names(path)]
    suspect = [name for name in names if not _HARMLESS.match(name)]
    if not suspect:
        return None
    # Tensors in plain pickles ask PyTorch to read them, which would hide what else is there.
    suspect.sort(key=lambda name: name.startswith("torch."))
    return CheckpointReadError(
        f"the checkpoint {path} asks for {suspect[0]} while it is read, and whatever a file "
        "asks for could be harmful code; if you trust those who made it, save what torch.load with "
        "weights_only=False gives without that, or convert a detector with --unsafe"
    )


def imported_names(path: Path) -> list[str]:
    """Lists what a plain pickle, which PyTorch did not write, would import.

    Args:
        path: The file.

    Returns:
        Names with their modules, in the order of the file; none if it is no pickle.
    """
    names: list[str] = []
    strings: list[str] = []
    memo: dict[int, str | None] = {}
    top: str | None = None
    with open(path, "rb") as file:
        try:
            for operation, argument, _ in pickletools.genops(file):
                if operation.name == "GLOBAL":
                    names.append(str(argument).replace(" ", "."))
                elif operation.name == "STACK_GLOBAL":
                    names.append(".".join(strings[-2:]))
                if operation.name == "MEMOIZE":
                    memo[len(memo)] = top
                elif operation.name.endswith("PUT"):
                    memo[int(str(argument))] = top
                elif operation.name.endswith(("UNICODE", "UNICODE8", "STRING")):
                    top = str(argument)
                    strings.append(top)
                elif operation.name.endswith("GET"):
                    # A string that comes again is only referred to.
                    top = memo.get(int(str(argument)))
                    strings += [] if top is None else [top]
                else:
                    top = None
        except ValueError:  # what follows is no pickle
            return names
    return names
