"""The flow ``promote``: a policy against the champion of MLflow's registry, as a flow run.

``drillyard promote`` is the same without Prefect.
"""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact

from drillyard_flows import plain_errors


@flow(name="promote", flow_run_name="promote-{name}", retries=0)
def promote(
    policy: str,
    name: str,
    episodes: int = 50,
    seed: int = 1,
    margin: float = 0.0,
    tracking: str = "auto",
    store: str | None = None,
) -> dict[str, Any]:
    """Register a policy; it becomes champion when it beats the one there is.

    Args:
        policy: An ONNX bundle's folder on the machine that runs this, a run (NAME/t0001-s1), or
            NAME: its best run.
        name: Of the registered model.
        episodes: Fresh ones, the same for both.
        seed: Of these.
        margin: By how much the return has to be higher.
        tracking: MLflow's URI; ``auto``: MLFLOW_TRACKING_URI, else that of the default store.
        store: URL of the store that has the run; None: the default one.

    Returns:
        The decision, with its numbers.

    Raises:
        UserError: See ``drillyard.policies.promotion.promote``.
    """
    from drillyard.policies.promotion import promote as decide
    from drillyard.policies.resolve import exported, registry

    plain_errors.install()
    uri = registry(tracking, store)
    with exported(policy, store) as folder:
        made = decide(folder, name, uri, episodes=episodes, seed=seed, margin=margin)
    found = made.comparison
    row: dict[str, Any] = {
        "model": name,
        "challenger": f"version {made.version}",
        "champion": "none" if made.champion is None else f"version {made.champion}",
        "promoted": made.promoted,
    }
    if found is not None:
        row |= {
            "return": f"{found.challenger:.2f}",
            "champion's": f"{found.champion:.2f}",
            "difference": f"{found.difference:.2f}",
            "95 %": found.sure,
            "margin": margin,
        }
    create_table_artifact(table=[row], key="drillyard-promote", description="The decision")
    get_run_logger().info("%s: %s", name, row)
    return made.to_json()
