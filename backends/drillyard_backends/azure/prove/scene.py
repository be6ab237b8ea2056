"""Where the probes of Azure work: the calls of the backend, and the jobs of the proof."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from drillyard.documents.json_types import JsonObject
from drillyard.errors import DrillyardError
from drillyard_backends.azure import clusters, job_body, naming
from drillyard_backends.azure import job as program
from drillyard_backends.azure.clusters import Cluster
from drillyard_backends.azure.errors import Exists, Missing
from drillyard_backends.azure.jobs import OVER, Job
from drillyard_backends.azure.rest import section
from drillyard_backends.azure.service import Service
from drillyard_backends.azure.settings import AzureConfig
from drillyard_backends.prove.probes import Scene

KEY = "DRILLYARD_PROVE_KEY"
"""Environment variable of a job: the object that it writes."""
EMPTY_TAG = "drillyard-prove-empty"
"""Tag without a value."""
_LINES = (
    "import json, os, time",
    "from azure.identity import DefaultAzureCredential as Login",
    "from azure.storage.blob import ContainerClient as Blobs",
    "me = os.environ.get('DEFAULT_IDENTITY_CLIENT_ID', '')",
    "login = Login(managed_identity_client_id=me) if len(me) == 36 else Login()",
    f"store = os.environ['{program.STORE}'][len('az://'):].rstrip('/')",
    "account, box, *prefix = store.split('/', 2)",
    "blobs = Blobs('https://' + account + '.blob.core.windows.net', box, login)",
    "told = dict(client=len(me), endpoint='MSI_ENDPOINT' in os.environ)",
    f"told['name'] = os.environ.get('AZUREML_RUN_ID') == os.environ['{program.JOB}']",
    f"key = '/'.join([*prefix, os.environ['{KEY}']])",
    "blobs.upload_blob(key, json.dumps(told), overwrite=True)",
    "time.sleep(900)",
)
SPEAK = f'python -c "{"; ".join(_LINES)}"'
"""Signs in as a worker does, writes an object, and waits to be cancelled."""
LEAVE = 'python -c "print(1)"'
"""Ends at once."""


@dataclass
class AzureScene(Scene):
    """The scene of Azure.

    Attributes:
        config: The settings.
        service: Makes the calls.
        jobs: Every state of each job of the proof that was seen, in order.
    """

    config: AzureConfig = field(kw_only=True)
    service: Service = field(kw_only=True)
    jobs: dict[str, list[str]] = field(default_factory=dict)

    @property
    def cluster_name(self) -> str:
        """Name of the proof's own cluster."""
        return clusters.name_of(self.config, self.order)

    def cluster(self) -> Cluster | None:
        """The proof's cluster, or None."""
        return clusters.find(self.service, self.cluster_name)

    def name_of(self, number: int) -> str:
        """Name of a job of the proof."""
        return naming.job_name(self.order.lease_id, "prove", number)

    def key_of(self, name: str) -> str:
        """Key of the object that a job writes."""
        return self.mailbox.key(f"jobs/{name}.json")

    def body(self, name: str, command: str | None) -> dict[str, object]:
        """The properties of a job, as drillyard submits them; None: with drillyard's command."""
        properties = job_body.body(
            self.config,
            self.order,
            self.service.root,
            name,
            "prove.job",
            self.rented.created_at,
        )
        tags = properties.get("tags")
        variables = properties.get("environmentVariables")
        assert isinstance(tags, dict) and isinstance(variables, dict)
        properties.pop("outputs", None)
        return {
            **properties,
            "command": command or properties["command"],
            "tags": {**tags, EMPTY_TAG: ""},
            "environmentVariables": {**variables, KEY: self.key_of(name)},
        }

    def submit(self, number: int, command: str | None) -> Job:
        """Submits a job of the proof; None: the worker of one."""
        name = self.name_of(number)
        job = Job.of(self.service.submit(name, self.body(name, command)))
        self.jobs[name] = [job.status]
        return job

    def state(self, name: str) -> str:
        """The state of a job now; empty: it is not found."""
        try:
            status = Job.of(self.service.job(name)).status
        except Missing:
            return ""
        seen = self.jobs.setdefault(name, [])
        if not seen or seen[-1] != status:
            seen.append(status)
        return status

    def over(self, name: str) -> bool:
        """Whether a job has ended."""
        return self.state(name) in OVER

    def listed(self, name: str) -> bool:
        """Whether a job is in the listing by the lease's tag."""
        return any(job.get("name") == name for job in self.service.jobs(self.order.lease_id))

    def told(self, name: str) -> JsonObject | None:
        """What a job wrote into the store; None: nothing."""
        store, key = self.mailbox.store, self.key_of(name)
        return None if store.stat(key) is None else dict(json.loads(store.get(key)))

    def trouble(self, name: str) -> tuple[str, str]:
        """Code and text of a failed job's error; empty where the service does not tell them."""
        location = str(self.service.workspace().get("location", ""))
        try:
            return self.service.trouble(name, location)
        except (Missing, Exists, DrillyardError):
            return "", ""

    def last_words(self, name: str) -> str:
        """What a job printed last, as far as Azure ML has collected it."""
        lines = self.backend.logs(self.rented, {"job": name})
        return " | ".join(line.partition(": ")[2].strip() for line in [*lines][-5:])[-500:]

    def tags_of(self, name: str) -> JsonObject:
        """The tags of a job as the service tells them."""
        return section(section(self.service.job(name), "properties"), "tags")
