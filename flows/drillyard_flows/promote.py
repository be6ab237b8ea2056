"""The flow ``promote``: a bundle against the champion of MLflow's registry, as a flow run.

``drillyard promote`` is the same without Prefect.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact

from drillyard.errors import ConfigError


@flow(name="promote", flow_run_name="promote-{name}", retries=0)
def promote(
    bundle: str,
    name: str,
    episodes: int = 50,
    seed: int = 1,
    margin: float = 0.0,
    tracking: str = "auto",
) -> dict[str, Any]:
    """Register a policy; it becomes champion when it beats the one there is.

    Args:
        bundle: Folder of an ONNX bundle, on the machine that runs this.
        name: Of the registered model.
        episodes: Fresh ones, the same for both.
        seed: Of these.
        margin: By how much the return has to be higher.
        tracking: MLflow's URI; ``auto``: MLFLOW_TRACKING_URI, else that of the default store.

    Returns:
        The decision, with its numbers.

    Raises:
        UserError: See ``drillyard.policies.champions.promote``.
    """
    from drillyard.cli.common import store_url
    from drillyard.policies.champions import promote as decide
    from drillyard.tracking.uris import resolve_uri

    uri = resolve_uri(tracking, store_url(None))
    if uri is None:
        raise ConfigError("there is no registry: a bucket cannot hold a database",
                          field="tracking", value=tracking, hint="name a server")  # fmt: skip
    made = decide(Path(bundle), name, uri, episodes=episodes, seed=seed, margin=margin)
    found = made.comparison
    row: dict[str, Any] = {
        "model": name, "challenger": f"version {made.version}",
        "champion": "none" if made.champion is None else f"version {made.champion}",
        "promoted": made.promoted,
    }  # fmt: skip
    if found is not None:
        row |= {
            "return": f"{found.challenger:.2f}", "champion's": f"{found.champion:.2f}",
            "difference": f"{found.difference:.2f}",
            "95 %": f"{found.interval[0]:.2f} to {found.interval[1]:.2f}", "margin": margin,
        }  # fmt: skip
    create_table_artifact(table=[row], key="drillyard-promote", description="The decision")
    get_run_logger().info("%s: %s", name, row)
    return made.to_json()
