"""What the recursive parts of the index carry from bar to bar, as something that can be stored: one block of bytes per asset.

A block is an Arrow IPC stream with one value, the arrays one after another; names, types and shapes stand in the metadata of its schema.
The same arrays give the same bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

State = dict[str, NDArray[np.generic]]

#: name under which arrays that belong to no asset are stored
POOLED: Final = "*"


@dataclass(frozen=True)
class Checkpoint:
    """State after the bar `as_of`: arrays by name for each asset (first axis taken off), and those of all assets together under POOLED."""

    as_of: datetime
    blocks: Mapping[str, State] = field(repr=False)

    @property
    def assets(self) -> list[str]:
        """Assets it knows."""
        return sorted(asset for asset in self.blocks if asset != POOLED)


def packed(state: State) -> bytes:
    """Bytes of one block."""
    arrays = {name: np.asarray(state[name]) for name in sorted(state)}
    layout = {name: {"dtype": array.dtype.str, "shape": array.shape} for name, array in arrays.items()}
    body = b"".join(array.tobytes() for array in arrays.values())
    schema = pa.schema([pa.field("arrays", pa.binary())], metadata={"layout": json.dumps(layout)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(pa.record_batch([pa.array([body], type=pa.binary())], schema=schema))
    return bytes(sink.getvalue().to_pybytes())


def unpacked(block: bytes) -> State:
    """Arrays of one block."""
    table = pa.ipc.open_stream(pa.py_buffer(block)).read_all()
    body: bytes = table.column("arrays")[0].as_py()
    found: State = {}
    at = 0
    for name, how in json.loads((table.schema.metadata or {})[b"layout"]).items():
        kind = np.dtype(how["dtype"])
        count = math.prod(how["shape"])
        found[name] = np.frombuffer(body, dtype=kind, count=count, offset=at).reshape(how["shape"]).copy()
        at += count * kind.itemsize
    return found


def joined(fresh: State, blocks: Mapping[str, State], assets: list[str], prefix: str) -> State:
    """Arrays of one module for these assets: stored ones where a block holds them, else those of `fresh` (a state just started).

    Names are stored as `prefix.name`. An array whose first axis is 1 while there are several assets belongs to all of them; with a single
    asset the module declares such arrays under names that start with `pooled_`.
    """
    found: State = {}
    for name, array in fresh.items():
        key = f"{prefix}.{name}"
        if _pooled(name):
            found[name] = blocks.get(POOLED, {}).get(key, array)
            continue
        filled = array.copy()
        for n, asset in enumerate(assets):
            if asset in blocks and key in blocks[asset]:
                filled[n] = blocks[asset][key]
        found[name] = filled
    return found


def split(state: State, assets: list[str], prefix: str, blocks: dict[str, State]) -> None:
    """Put a module's arrays into the blocks of these assets."""
    for name, array in state.items():
        key = f"{prefix}.{name}"
        if _pooled(name):
            blocks.setdefault(POOLED, {})[key] = array
            continue
        for n, asset in enumerate(assets):
            blocks.setdefault(asset, {})[key] = np.array(array[n])


def _pooled(name: str) -> bool:
    return name.startswith("pooled_")
