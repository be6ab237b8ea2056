"""Which metrics a server with few names for them gets."""

from drillyard.tracking.limits import AZURE, Limits, admitted, limits_of


def test_a_workspace_of_azure_takes_less_than_mlflow():
    assert limits_of("azureml://") is AZURE
    assert limits_of("https://mlflow.example.com") == Limits() == limits_of("sqlite:///a.db")


def test_everything_fits_where_there_is_room():
    assert admitted(["a", "b"], ["c"], None) == {"a", "b"}
    assert admitted(["a", "b"], ["c"], 3) == {"a", "b"}


def test_what_people_chart_goes_before_curves_of_machines():
    names = [f"telemetry/m{n}" for n in range(9)] + ["train/loss", "rollout/ep_rew_mean"]
    assert admitted(names, [], 4) == {"rollout/ep_rew_mean", "train/loss", "telemetry/m0"}


def test_what_is_there_stays_and_a_full_run_takes_no_other():
    there = ["telemetry/a", "telemetry/b", "x", "y"]
    assert admitted(["telemetry/a", "train/loss"], there, 4) == {"telemetry/a"}
    assert admitted(["train/loss"], [], 0) == set()
