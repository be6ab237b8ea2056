"""Trees of Python values as three safe files: JSON, ``.npz`` and ``.safetensors``. No pickle.

Arrays and tensors are taken out of the tree, named, and replaced by a marker; everything else must
be JSON. What comes back equals what went in, bit by bit and type by type.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from drillyard.errors import Bug, CorruptObject

JSON_NAME, ARRAYS_NAME, TENSORS_NAME = "state.json", "arrays.npz", "tensors.safetensors"
SCHEMA_VERSION = 1


def pack(tree: Any) -> dict[str, bytes]:
    """The three files of a tree.

    Args:
        tree: None, booleans, numbers, texts, tuples, lists, dicts (also with integer keys), numpy
            arrays and scalars, torch tensors.

    Raises:
        Bug: Something else is in it.
    """
    arrays: dict[str, np.ndarray] = {}
    tensors: dict[str, torch.Tensor] = {}
    body = _out(tree, arrays, tensors)
    document = {"schema_version": SCHEMA_VERSION, "tree": body}
    return {
        JSON_NAME: json.dumps(document, allow_nan=False, separators=(",", ":")).encode(),
        ARRAYS_NAME: npz_bytes(arrays),
        TENSORS_NAME: save_tensors(tensors),
    }


def unpack(files: dict[str, bytes]) -> Any:
    """The tree of three files.

    Raises:
        CorruptObject: A file is missing or not what ``pack`` writes.
    """
    try:
        document = json.loads(files[JSON_NAME])
        arrays = npz_arrays(files[ARRAYS_NAME])
        return _in(document["tree"], arrays, load_tensors(files[TENSORS_NAME]))
    except CorruptObject:
        raise
    except Exception as error:
        raise CorruptObject(f"the checkpoint cannot be read: {error}") from error


def npz_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    """Arrays as an uncompressed ``.npz``."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def npz_arrays(data: bytes) -> dict[str, np.ndarray]:
    """Arrays of an ``.npz``.

    Raises:
        CorruptObject: Not such a file, or it holds objects.
    """
    return dict(npz_each(data))


def npz_each(data: bytes) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of an ``.npz``, one after the other, so that only one is in memory.

    Raises:
        CorruptObject: Not such a file, or it holds objects.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            for name in file.files:
                yield name, file[name]
    except Exception as error:
        raise CorruptObject(f"not an .npz without objects: {error}") from error


def _out(value: Any, arrays: dict[str, np.ndarray], tensors: dict[str, torch.Tensor]) -> Any:
    if value is None or isinstance(value, bool | str | int):
        return value if not isinstance(value, np.generic) else value.item()
    if isinstance(value, torch.Tensor):
        name = f"t{len(tensors):05d}"
        # A copy: safetensors refuses memory that two tensors share.
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"$tensor": name}
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.hasobject:
            raise Bug("an array of Python objects is in the state of a run")
        name = f"a{len(arrays):05d}"
        arrays[name] = np.array(value)
        return {"$array": name} if isinstance(value, np.ndarray) else {"$scalar": name}
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, list | tuple):
        items = [_out(v, arrays, tensors) for v in value]
        return {"$tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, dict):
        if all(isinstance(k, str) and not k.startswith("$") for k in value):
            return {k: _out(v, arrays, tensors) for k, v in value.items()}
        return {"$items": [_out(list(item), arrays, tensors) for item in value.items()]}
    raise Bug(f"a {type(value).__name__} cannot go into a checkpoint")


def _in(value: Any, arrays: dict[str, np.ndarray], tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_in(v, arrays, tensors) for v in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        (key, inner), *_ = value.items()
        if key == "$tensor":
            return tensors[inner]
        if key == "$array":
            return arrays[inner]
        if key == "$scalar":
            return arrays[inner][()]
        if key == "$float":
            return float(inner)
        if key == "$tuple":
            return tuple(_in(v, arrays, tensors) for v in inner)
        if key == "$items":
            return {_hashable(_in(k, arrays, tensors)): _in(v, arrays, tensors) for k, v in inner}
    return {k: _in(v, arrays, tensors) for k, v in value.items()}


def _hashable(key: Any) -> Any:
    if isinstance(key, list | dict | np.ndarray | torch.Tensor):
        raise CorruptObject("a checkpoint's key is not a plain value")
    return key
