"""What a mirroring process receives from its parent's environment."""

from drillyard.tracking.environment import child_environment


def test_a_mirror_joins_no_run_and_no_service_of_its_parent() -> None:
    parent = {
        "PATH": "/bin",
        "WANDB_API_KEY": "key",
        "WANDB_RUN_ID": "mine",
        "MLFLOW_RUN_ID": "mine",
        # W&B's client sets it in a process that has begun a run, and looks there first.
        "WANDB_SERVICE": "3-4711-unix-s-service",
    }
    child = child_environment(parent)
    assert not {"WANDB_RUN_ID", "MLFLOW_RUN_ID", "WANDB_SERVICE"} & set(child)
    assert (child["PATH"], child["WANDB_API_KEY"]) == ("/bin", "key")
