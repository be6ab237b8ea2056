"""The flow ``promote``: compares a policy with the champion of MLflow's registry.

``drillyard promote`` does the same without Prefect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact

from drillyard.documents.json_types import JsonObject
from drillyard_flows import plain_errors

if TYPE_CHECKING:
    from drillyard.policies.promotion import Decision


@flow(name="promote", flow_run_name="promote-{name}", retries=0)
def promote(
    policy: str,
    name: str,
    episodes: int = 150,
    seed: int = 1,
    margin: float = 0.0,
    rarest_failure: float = 0.02,
    tracking: str = "auto",
    store: str | None = None,
) -> JsonObject:
    """Registers a policy; it becomes champion if it beats the current one.

    Args:
        policy: An ONNX bundle's folder on the machine that runs the flow, a run
            (NAME/t0001-s1), or NAME for its best run.
        name: Name of the registered model.
        episodes: Number of new episodes, the same for both policies.
        seed: Seed of the episodes.
        margin: Smallest improvement of the return.
        rarest_failure: Rarest failure that the episodes must show: 0.02 is one in 50.
        tracking: MLflow's URI; ``auto``: MLFLOW_TRACKING_URI, or else that of the default store.
        store: URL of the store that has the run; None: the default store.

    Returns:
        The decision and its numbers.

    Raises:
        UserError: See ``drillyard.policies.promotion.promote``.
    """
    from drillyard.policies.promotion import promote as decide
    from drillyard.policies.resolve import exported, registry

    plain_errors.install()
    uri = registry(tracking, store)
    with exported(policy, store) as folder:
        promotion = decide(
            folder, name, uri, episodes=episodes, seed=seed, margin=margin, rarest=rarest_failure
        )
    row = {"model": name, **_row(promotion, margin)}
    create_table_artifact(
        table=[row], key="drillyard-promote", description="Decision on the champion"
    )
    get_run_logger().info("%s: %s", name, row)
    return promotion.to_json()


def _row(promotion: Decision, margin: float) -> dict[str, str | float]:
    comparison = promotion.comparison
    row: dict[str, str | float] = {
        "challenger": f"version {promotion.version}",
        "champion": "none" if promotion.champion is None else f"version {promotion.champion}",
        "promoted": promotion.promoted,
    }
    if comparison is not None:
        row |= {
            "return": f"{comparison.challenger:.2f}",
            "champion's": f"{comparison.champion:.2f}",
            "difference": f"{comparison.difference:.2f}",
            "95 %": comparison.sure,
            "margin": margin,
            "worst tenth": f"{comparison.tail.challenger:.2f}",
            "champion's worst tenth": f"{comparison.tail.champion:.2f}",
            "not promoted because": "; ".join(comparison.obstacles),
        }
    return row
