"""How large a model is, from the headers of its safetensors files alone: no weight is read or fetched."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Bytes of one element of each dtype that biaslab computes in.
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
#: safetensors' names of dtypes that a loader casts to the dtype it was asked for.
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})


@dataclass(frozen=True)
class Weights:
    """What the weight files hold.

    file_bytes : of all weight files together. n_floats : elements stored as floating point numbers, which are
    cast when loaded. other_bytes : of everything else (packed codes), which is loaded as it is. packed :
    the checkpoint is quantized already, so that its floats are scales and what was left alone.
    """

    file_bytes: int
    n_floats: int
    other_bytes: int = 0
    packed: bool = False

    def memory(self, dtype: str) -> int:
        """Bytes of the weights in memory when loaded in `dtype`; a tied head is in the files, and counts, once."""
        return self.n_floats * ITEM_BYTES[dtype] + self.other_bytes


def count(tensors: Iterable[tuple[str, int, int]], file_bytes: int, config: Mapping[str, Any]) -> Weights:
    """The Weights of (safetensors dtype, number of elements, bytes) of every tensor."""
    listed = list(tensors)
    floats = sum(n for dtype, n, _ in listed if dtype in FLOATS)
    other = sum(size for dtype, _, size in listed if dtype not in FLOATS)
    return Weights(file_bytes, floats, other, packed="quantization_config" in config)


def of_files(files: Iterable[Path], config: Mapping[str, Any]) -> Weights:
    """The Weights of local files whose headers were checked already."""
    tensors, total = [], 0
    for file in files:
        total += file.stat().st_size
        with file.open("rb") as handle:
            header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
        tensors += [_tensor(entry) for name, entry in header.items() if name != "__metadata__"]
    return count(tensors, total, config)


def _tensor(entry: Mapping[str, Any]) -> tuple[str, int, int]:
    n = 1
    for size in entry["shape"]:
        n *= int(size)
    start, end = entry["data_offsets"]
    return str(entry["dtype"]), n, int(end) - int(start)
