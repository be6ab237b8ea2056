"""One or two examples for the help of each command."""

from __future__ import annotations

_ON_GCP = "--project my-project --region europe-west1"
EXAMPLES: dict[str, tuple[str, ...]] = {
    "generate": (
        "drillyard generate -a sac -s cstr -o sac.yaml",
        "drillyard generate --short -a ppo -s CartPole-v1 --steps 50k --seeds 3",
    ),
    "explain": ("drillyard explain cstr.yaml --set train.steps=50k",),
    "check": ("drillyard check cstr.yaml", "drillyard check module:Class --picture episode.svg"),
    "plan": ("drillyard plan cstr.yaml --on gcp",),
    "list": ("drillyard list", "drillyard list algorithms"),
    "list points": ("drillyard list points small_office --like setpoint",),
    "schema": ("drillyard schema -o experiment.schema.json",),
    "new": ("drillyard new simulator my-boiler --from boiler.py",),
    "run": (
        "drillyard run cstr.yaml --seeds 3",
        "drillyard run -a ppo -s CartPole-v1 --steps 50k",
    ),
    "launch": ("drillyard launch cstr.yaml",),
    "resume": ("drillyard resume cstr-ppo --store gs://bucket/runs",),
    "cancel": ("drillyard cancel cstr-ppo", "drillyard cancel cstr-ppo --drain"),
    "status": ("drillyard status", "drillyard status cstr-ppo"),
    "logs": ("drillyard logs cstr-ppo/t0001-s1 --follow",),
    "watch": ("drillyard watch cstr-ppo --open", "drillyard watch gs://bucket/runs/cstr-ppo"),
    "bench": ("drillyard bench comparison.yaml",),
    "rehearse": (
        "drillyard rehearse cstr.yaml --on gcp",
        "drillyard rehearse cstr.yaml --on gcp --fault preempt=2",
    ),
    "results": ("drillyard results cstr-ppo", "drillyard results cstr-ppo --csv results.csv"),
    "compare": (
        "drillyard compare cstr-ppo cstr-sac --open",
        "drillyard compare cstr-ppo gs://bucket/runs/cstr-ppo",
    ),
    "archive": ("drillyard archive cstr-ppo --out cstr-ppo.drillyard",),
    "restore": ("drillyard restore cstr-ppo.drillyard --store gs://bucket/runs",),
    "delete": ("drillyard delete cstr-ppo --dry-run", "drillyard delete cstr-ppo"),
    "replay": (
        "drillyard replay tank/t0001-s1 --to 30",
        "drillyard replay tank/t0001-s1 --debug",
    ),
    "report": ("drillyard report cstr-ppo --open",),
    "assess": ("drillyard assess cstr-ppo --conditions conditions.csv",),
    "tensorboard": ("drillyard tensorboard cstr-ppo",),
    "sync": ("drillyard sync cstr-ppo --uri http://127.0.0.1:5000",),
    "cost": ("drillyard cost", "drillyard cost cstr-ppo"),
    "export": (
        "drillyard export cstr-ppo --out policy",
        "drillyard export cstr-ppo/t0001-s1 --format safetensors --out policy",
    ),
    "serve": ("drillyard serve policy --port 8080",),
    "simulator-host": (
        "drillyard simulator-host --invite den.example.org:7700",
        "drillyard simulator-host hosts-invitation.json --offers plant:Boiler --copies 4",
    ),
    "evaluate": ("drillyard evaluate policy --simulator cstr --episodes 100",),
    "record": ("drillyard record cstr --policy hold --episodes 20 --out expert.npz",),
    "promote": ("drillyard promote cstr-ppo --name reactor",),
    "import": ("drillyard import model.zip --algorithm ppo --simulator CartPole-v1 --out policy",),
    "deploy-policy": ("drillyard deploy-policy cstr-ppo --on azure --name reactor",),
    "undeploy-policy": ("drillyard undeploy-policy reactor --on azure",),
    "doctor": ("drillyard doctor", "drillyard doctor --on gcp"),
    "prove": (
        "drillyard prove gcp --max-cost 2",
        "drillyard prove experiments/cstr.yaml --on azure --dry-run",
    ),
    "prices": ("drillyard prices refresh azure",),
    "prices refresh": ("drillyard prices refresh azure",),
    "schedule": (
        'drillyard schedule mine.yaml --cron "0 3 * * *"',
        'drillyard schedule mine.yaml --cron "0 2 * * 1" --continue seeds=1',
    ),
    "configure": (
        "drillyard configure gcp --set project=my-project",
        "drillyard configure gcp --show",
    ),
    "up": ("drillyard up", "drillyard up --prefect-port 4300 --mlflow-port 5100"),
    "down": ("drillyard down",),
    "deploy": ("drillyard deploy", "drillyard deploy --alerts file:~/.alerts-webhook"),
    "undeploy": ("drillyard undeploy",),
    "reap": ("drillyard reap --on gcp --dry-run",),
    "protect": (
        "drillyard protect dy-0123456789ab --until 2h",
        "drillyard protect dy-0123456789ab --off",
    ),
    "simulate-preemption": ("drillyard simulate-preemption cstr-ppo/t0001-s1",),
    **dict.fromkeys(("mlflow", "mlflow gcp"), (f"drillyard mlflow gcp up {_ON_GCP}",)),
    "mlflow gcp up": (f"drillyard mlflow gcp up {_ON_GCP} --member user:me@example.org",),
    "mlflow gcp status": (f"drillyard mlflow gcp status {_ON_GCP}",),
    "mlflow gcp down": (f"drillyard mlflow gcp down {_ON_GCP}",),
}
"""Command -> lines of its help."""


def epilog_of(path: str) -> str | None:
    """Returns the end of a command's help.

    Args:
        path: The command, with its group: ``list algorithms``.
    """
    group, _, rest = path.partition(" ")
    lines = EXAMPLES.get(path) or ((f"drillyard {path}",) if rest and group == "list" else ())
    if not lines:
        return None
    # The mark \b keeps the lines as they are.
    return "\n".join(
        ["\b", "Example:" if len(lines) == 1 else "Examples:", *(f"  {o}" for o in lines)]
    )
