"""The scoring script of a managed online endpoint; Azure ML runs it, without drillyard.

``{"states": {...}}`` in (one mapping, or a list), ``{"actions": {...}}`` out, by name and in their
units, as ``drillyard serve`` has it; what cannot be answered is named under ``problems``.
"""

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

MAX_BATCH = 4096
_policy: Any = None
_channels: dict[str, Any] = {}


def init() -> None:
    """Loads the policy with the bundle's own loader, from where Azure ML put it."""
    global _policy, _channels
    folder = next(Path(os.environ["AZUREML_MODEL_DIR"]).rglob("bundle.json")).parent
    spec = importlib.util.spec_from_file_location("drillyard_act", folder / "act.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} has no act.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    _policy = module.Policy(folder)
    _channels = {c["name"]: c for c in _policy.spaces["channels"]["observation"]}


def run(raw_data: str) -> dict[str, Any]:
    """Answer one request.

    Args:
        raw_data: JSON: ``states``, and perhaps ``deterministic`` and ``masks``.
    """
    try:
        asked = json.loads(raw_data)
        states = asked["states"]
        rows = states if isinstance(states, list) else [states]
        problems = [text for row in rows for text in _problems(row)]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return {"problems": [f'send {{"states": {{name: value}}}}: {error!r}']}
    if not 0 < len(rows) <= MAX_BATCH:
        problems.append(f"a batch has 1 to {MAX_BATCH} observations")
    if problems:
        return {"problems": problems[:20]}
    acted = _policy.act_named(states, asked.get("deterministic", True), masks=asked.get("masks"))
    return {"actions": acted}


def _problems(row: dict[str, Any]) -> list[str]:
    problems = [
        f"{n} is unknown; there are: {', '.join(_channels)}" for n in row.keys() - _channels
    ]
    for name, channel in _channels.items():
        value, low, high = row.get(name), channel["low"], channel["high"]
        if isinstance(value, bool) or not isinstance(value, int | float):
            problems.append(f"{name} is missing or not a number (in {channel['unit']})")
        elif not abs(value) < float("inf"):
            problems.append(f"{name} is not finite")
        elif low is not None and not low <= value <= high:
            problems.append(f"{name}: {value:g} is outside {low:g} to {high:g} {channel['unit']}")
    return problems
