"""Everything that the author of a plug-in imports, in one module.

Backends, simulators, learners, baselines, workloads, stores, choosers and trackers use the names
below; docs/how-to/plugins.md shows how. Other modules of drillyard may change between versions.
The tests of a plug-in import their suite from ``drillyard.testing``.
"""

from __future__ import annotations

from drillyard.agents.base import Declares, Inherits, Learner, Policy
from drillyard.agents.spaces import space_from_json, space_to_json
from drillyard.backend import (
    Alternative,
    Backend,
    CanBeIdle,
    Cost,
    Delays,
    Egress,
    ExplainsLosses,
    ExplainsWaits,
    FindsLeases,
    HasAlternatives,
    HasClock,
    HasConsole,
    HasDelays,
    HasMachineTypes,
    HasSettings,
    Lease,
    Liveness,
    NeedsExtra,
    Order,
    PacksRuns,
    PricesEgress,
    PriceUpdate,
    ProtectsLeases,
    ProvidesStore,
    RefreshesPrices,
    SimulatesPreemption,
    TendsLeases,
    Trait,
)
from drillyard.backend.hardware import Hardware, MachineList, MachineType, Place
from drillyard.backend.settings.model import configured
from drillyard.backend.translation import translating
from drillyard.errors import (
    AccessDenied,
    BadValue,
    ConfigError,
    ControlPlaneError,
    CorruptObject,
    DrillyardError,
    InfrastructureError,
    NoCapacity,
    NotFound,
    PluginError,
    RunFailed,
    SignInRefused,
    SimulatorError,
    StoreUnavailable,
    UserError,
    WorkerLost,
    nearest,
)
from drillyard.findings import Finding, Severity
from drillyard.mailbox import Mailbox, ObjectInfo, Store, open_store
from drillyard.mailbox.records import AttemptStart, Manifest, Phase, TrialOutcome, TrialRecord
from drillyard.metrics.streams import StreamWriter
from drillyard.registry import register
from drillyard.runs import checkpoints
from drillyard.runs.workload import HandsRunsOn, PhaseOutcome, RunContext, SpreadsRuns, Workload
from drillyard.simulators.batch_protocol import VectorSimulator
from drillyard.simulators.channels import Channel
from drillyard.simulators.hosts.posted import PostedHosts
from drillyard.simulators.hosts.providers import Hosting, HostProvider
from drillyard.simulators.make import make_env
from drillyard.spec import ExperimentSpec
from drillyard.studies.choosers import Choice, Chooser, ChooserKind, Memoryless
from drillyard.studies.factory import checked as checked_study
from drillyard.system.clock import SYSTEM, Clock
from drillyard.tracking.curves import CurveTracker
from drillyard.tracking.sync_report import SyncReport
from drillyard.tracking.tracker import CurveWriter, Row, RunFacts, Sent, Tracker

__all__ = [
    "SYSTEM",
    "AccessDenied",
    "Alternative",
    "AttemptStart",
    "Backend",
    "BadValue",
    "CanBeIdle",
    "Channel",
    "Choice",
    "Chooser",
    "ChooserKind",
    "Clock",
    "ConfigError",
    "ControlPlaneError",
    "CorruptObject",
    "Cost",
    "CurveTracker",
    "CurveWriter",
    "Declares",
    "Delays",
    "DrillyardError",
    "Egress",
    "ExperimentSpec",
    "ExplainsLosses",
    "ExplainsWaits",
    "Finding",
    "FindsLeases",
    "HandsRunsOn",
    "Hardware",
    "HasAlternatives",
    "HasClock",
    "HasConsole",
    "HasDelays",
    "HasMachineTypes",
    "HasSettings",
    "HostProvider",
    "Hosting",
    "InfrastructureError",
    "Inherits",
    "Learner",
    "Lease",
    "Liveness",
    "MachineList",
    "MachineType",
    "Mailbox",
    "Manifest",
    "Memoryless",
    "NeedsExtra",
    "NoCapacity",
    "NotFound",
    "ObjectInfo",
    "Order",
    "PacksRuns",
    "Phase",
    "PhaseOutcome",
    "Place",
    "PluginError",
    "Policy",
    "PostedHosts",
    "PriceUpdate",
    "PricesEgress",
    "ProtectsLeases",
    "ProvidesStore",
    "RefreshesPrices",
    "Row",
    "RunContext",
    "RunFacts",
    "RunFailed",
    "Sent",
    "Severity",
    "SignInRefused",
    "SimulatesPreemption",
    "SimulatorError",
    "SpreadsRuns",
    "Store",
    "StoreUnavailable",
    "StreamWriter",
    "SyncReport",
    "TendsLeases",
    "Tracker",
    "Trait",
    "TrialOutcome",
    "TrialRecord",
    "UserError",
    "VectorSimulator",
    "WorkerLost",
    "Workload",
    "checked_study",
    "checkpoints",
    "configured",
    "make_env",
    "nearest",
    "open_store",
    "register",
    "space_from_json",
    "space_to_json",
    "translating",
]
