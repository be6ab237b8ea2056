"""The parts of an experiment that say on what it runs, where results go, and its named values."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from drillyard.documents.json_types import Json
from drillyard.errors import BadValue
from drillyard.spec.strict import NotBool, Strict, later
from drillyard.spec.tunables import Group

Gpu = Literal["T4", "L4", "A10", "A100", "A100-80GB", "H100", "H200", "B200"]
"""Models of GPUs that can be asked for, by the field's names; ``A100`` is the one with 40 GB."""
MODEL_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"
"""What MLflow can call a model, and a shell, too."""


class ResourcesSpec(Strict):
    """Resources of runs."""

    workers: Annotated[int, Field(ge=1, le=10_000), NotBool] | None = Field(
        None,
        description="Number of parallel runs; default: 2, or on rented machines one for each "
        "run that is known beforehand.",
    )
    threads: Annotated[int, Field(ge=1, le=1024), NotBool] = Field(
        1, description="Threads for each run."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="Device that trains; `auto` chooses it by a fixed table.",
    )
    gpus: Annotated[int, Field(ge=0, le=64), NotBool] = Field(
        0,
        description="Number of GPUs for each run; runs share them if there are fewer. Setup "
        "refuses GPUs that cannot be used.",
    )
    gpu: Gpu | None = later(
        description="Model of the GPUs; rented machines get a type that has `gpus` of them "
        "(default: 1)."
    )
    cpus: Annotated[int, Field(ge=1, le=1024), NotBool] | None = later(
        description="Virtual CPUs that a run needs; rented machines get a type that has them."
    )
    memory_gb: Annotated[float, Field(gt=0, le=100_000), NotBool] | None = later(
        description="Memory that a run needs, in GB; rented machines get a type that has it."
    )
    spot: bool | None = later(
        description="Whether to rent cheaper machines that can be preempted; default: the "
        "backend's setting."
    )
    runs_per_machine: Annotated[int, Field(ge=1, le=256), NotBool] | None = later(
        description="Number of parallel runs on one rented machine; `gpus`, `cpus` and "
        "`memory_gb` are for each of them; default: the backend's setting, else 1."
    )
    runs_per_gpu: Annotated[int, Field(ge=1, le=64), NotBool] | None = later(
        description="Number of runs that share a GPU, so that rented machines need fewer; "
        "default: the backend's setting, else 1."
    )
    runs_per_process: Annotated[int, Field(ge=1, le=256), NotBool] | None = Field(
        None,
        exclude_if=lambda value: value in (None, 1),
        description="Trainings that one process computes together, each as a separate run; "
        "needs `train.copies: compiled`. Useful on GPUs; default: 1.",
    )
    precision: Literal["full", "mixed"] = later(
        "full",
        description="`mixed`: compute updates in bfloat16 where that is safe; for `device: "
        "cuda` and algorithms that estimate the value of actions.",
    )
    deterministic: bool = later(
        False, description="Use only deterministic operations, also on a GPU; slower there."
    )
    limit: Annotated[str, Field(min_length=1, max_length=200)] | None = later(
        description="Name of a global concurrency limit in Prefect: the experiment starts when "
        "as many of its slots are free as there are workers, and keeps them until "
        "its teardown."
    )

    @model_validator(mode="before")
    @classmethod
    def _a_gpu_is_at_least_one(cls, value: Json) -> Json:
        if not isinstance(value, dict) or value.get("gpu") is None:
            return value
        if value.get("device") == "cpu":
            raise BadValue(
                "a GPU is asked for, and the device is cpu",
                key="gpu",
                allowed="with resources.device: auto or cuda",
                hint="remove `gpu`, or `device: cpu`",
            )
        if value.get("gpus") == 0:
            raise BadValue(
                "a GPU is asked for, and their number is 0",
                key="gpus",
                allowed="a number above 0 with resources.gpu",
                hint="remove `gpus: 0`, or `gpu`",
            )
        return {"gpus": 1, **value}


class BudgetSpec(Strict):
    """Limits of time and cost."""

    max_hours: Annotated[float, Field(gt=0, le=24 * 120), NotBool] | None = Field(
        None, description="Lifetime of the lease; mandatory on clouds."
    )
    max_cost: Annotated[float, Field(gt=0), NotBool] | None = Field(
        None, description="Most that machines may cost, in the price list's currency."
    )
    no_cost_limit: bool = later(
        False,
        description="Set no cost limit, instead of `max_cost`, if the price of the machines is "
        "not known. `max_hours` still applies.",
    )
    stall_s: Annotated[float, Field(gt=0), NotBool] | None = Field(
        600.0,
        description="Longest time without an environment step, in seconds: a training or "
        "evaluation that hangs ends as TIMED_OUT; null: no limit.",
    )
    check_s: Annotated[float, Field(gt=0), NotBool] | None = Field(
        20.0,
        description="The same for one reset or step while the simulator is checked before a run.",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_word_on_cost(cls, value: Json) -> Json:
        if isinstance(value, dict) and value.get("no_cost_limit") and value.get("max_cost"):
            raise BadValue(
                "no limit of cost is asked for, and there is one",
                key="no_cost_limit",
                allowed="`max_cost`, or `no_cost_limit: true`",
                hint="remove one of them",
            )
        return value


class StoreTarget(Strict):
    """A target that results are copied to."""

    url: str = Field(description="A folder, `mlflow`, `gs://bucket/prefix`, …")
    include: list[str] = Field(default_factory=lambda: ["*"], description="Globs of file names.")
    exclude: list[str] = Field(default_factory=list, description="Globs of file names.")


class TrackingSpec(Strict):
    """Tracking servers that show curves."""

    mlflow: str | None = Field(
        "auto",
        description="`auto`: MLFLOW_TRACKING_URI or the store's own `mlflow.db`; a URI; "
        "null: off.",
    )
    wandb: str | None = later(
        description="A project of Weights & Biases: `project` or `entity/project`."
    )
    csv: str | None = later(
        description="A folder for the curves as CSV files, which grow while runs train."
    )
    plugins: dict[str, str] = later(dict, description="Installed trackers: `{name: address}`.")
    tensorboard: bool = Field(True, description="Write TensorBoard event files too.")
    register_as: Annotated[str, Field(pattern=MODEL_NAME, max_length=200)] | None = later(
        description="Name of a model in MLflow's "
        "registry: once every run is finished, the best policy becomes a version of it."
    )


class PerRun(Strict):
    """A value that each run gives anew, because it names the seed, the trial or a tunable."""

    at: list[int | str] = Field(description="Path of the value in the experiment.")
    text: str = Field(description="Text of the value, with `${name}` for each value of the run.")


class ParametersSpec(Strict):
    """Named values of the experiment."""

    const_args: dict[str, Any] = Field(
        default_factory=dict, description="Name: value; changed by globals or `--name value`."
    )
    required_args: list[str] = Field(
        default_factory=list, description="Names that must be given from outside."
    )
    tunables: dict[str, Group] = Field(
        default_factory=dict,
        description="Groups of values that trials vary: `{group: {cost, params: {name: {type, "
        "range or values, default}}}}`.",
    )
    include_tunables: list[str] = Field(
        default_factory=list, description="Files with more groups, beside this one."
    )
    tunable_params: list[str] = Field(
        default_factory=list,
        description="Active groups, or `$name` looked up in the globals' `tunable_params_map`.",
    )
    tunable_values: dict[str, Any] = Field(
        default_factory=dict,
        description="Values of active tunables instead of their defaults; `--tunable name=value`.",
    )
    per_run: list[PerRun] | None = Field(
        None, description="Written by drillyard: what each run fills in. Not for people."
    )


class ReportSpec(Strict):
    """Content of the report."""

    units: dict[str, str] = Field(default_factory=dict, description="Unit of a logged state.")
    observations: list[str] = later(
        list,
        description="Names of the observation's values, in order, if the simulator gives none.",
    )
