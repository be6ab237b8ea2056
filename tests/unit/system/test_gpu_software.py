"""The driver of a machine and the CUDA of its packages, without a GPU or an import of torch."""

from __future__ import annotations

import importlib.machinery
from types import SimpleNamespace

import pytest

from drillyard.backend import Order
from drillyard.errors import UserError
from drillyard.system import gpu_software
from drillyard.worker import gpu
from tests.helpers.played_gpu import TOO_OLD

pytestmark = pytest.mark.heavy


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Gives this machine a driver, a torch and plugins of JAX."""

    def prepare(driver=None, torch=None, plugins=(), kernel="", newest=0):
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir(exist_ok=True)
        answer = f"echo {driver}" if driver else "echo NVIDIA-SMI has failed; exit 9"
        program.write_text(f"#!/bin/sh\n{answer}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
        (tmp_path / "proc").write_text(kernel)
        monkeypatch.setattr(gpu_software, "NVIDIA", tmp_path / "proc")
        (tmp_path / "torch").mkdir(exist_ok=True)
        version, cuda = torch or ("2.13.0", None)
        text = f"__version__ = {version!r}\ndebug = False\ncuda: Optional[str] = {cuda!r}\n"
        (tmp_path / "torch" / "version.py").write_text(text + "git_version = 'x'\n")
        origin = str(tmp_path / "torch" / "__init__.py")
        known = {f"jax_{plugin}_plugin" for plugin in plugins} | ({"torch"} if torch else set())

        def find(name):
            return (
                importlib.machinery.ModuleSpec(name, None, origin=origin)
                if name in known
                else None
            )

        monkeypatch.setattr(gpu_software, "find_spec", find)
        library = SimpleNamespace(cuDriverGetVersion=lambda version: answered(version, newest))
        monkeypatch.setattr("ctypes.CDLL", lambda name: library)

    def answered(version, number):
        version._obj.value = number

    return prepare


CUDA_13, CUDA_12, CPU = ("2.13.0", "13.0"), ("2.13.0+cu126", "12.6"), ("2.13.0+cpu", None)


@pytest.mark.parametrize(
    ("driver", "torch", "words"),
    [
        (
            "535.183.01",
            CUDA_13,
            "driver 535.183.01, and torch 2.13.0 is built for CUDA 13.0, which",
        ),
        ("579.99", CUDA_13, "needs driver 580 or newer"),
        ("524.1", CUDA_12, "torch 2.13.0+cu126 is built for CUDA 12.6, which needs driver 525"),
        ("580.65.06", CPU, "torch 2.13.0+cpu is built without CUDA"),
        (None, CPU, "no NVIDIA driver, and torch 2.13.0+cpu is built without CUDA"),
        ("580.65.06", CUDA_13, None),
        ("535.183.01", CUDA_12, None),
        ("600.1", ("9.0", "99.1"), None),
        (None, CUDA_13, None),
        ("535.183.01", None, None),
    ],
)
def test_a_driver_that_is_too_old_for_a_build_is_said_with_both_numbers(
    machine, driver, torch, words
):
    machine(driver, torch)
    order = Order(lease_id="dy-0", experiment="e", store_url="/x", gpus=1)
    if words is None:
        gpu.compare(order)
        return
    with pytest.raises(UserError, match="no GPU is usable here") as refused:
        gpu.compare(order)
    assert words in refused.value.message
    gpu.compare(order.model_copy(update={"gpus": 0}))
    gpu.compare(order.model_copy(update={"requirements": ["torch==2.13.0"]}))
    with pytest.raises(UserError):
        gpu.compare(
            order.model_copy(update={"requirements": ["torchvision==0.1", "jaxtyping==1"]})
        )


@pytest.mark.parametrize(
    ("plugins", "words"),
    [
        ((), "NVIDIA driver 570.10, and JAX has no CUDA plugin"),
        (("cuda13",), "the plugin of JAX is built for CUDA 13, which needs driver 580"),
        (("cuda12",), None),
    ],
)
def test_a_learner_in_jax_needs_a_plugin_that_the_driver_runs(machine, plugins, words):
    machine("570.10", CUDA_12, plugins)
    found = gpu_software.misfit(jax=True)
    assert found is None if words is None else words in str(found)
    assert gpu_software.misfit(jax=False) is None


@pytest.mark.parametrize(
    ("driver", "torch", "words"),
    [
        (
            "535.183.01",
            CUDA_13,
            "driver 535.183.01 runs CUDA up to 12.2, and torch 2.13.0 is built",
        ),
        (None, CUDA_13, "the NVIDIA driver runs CUDA up to 12.2, and torch 2.13.0 is built for"),
        ("535.183.01", None, "runs CUDA up to 12.2, and torch is built for a newer one"),
    ],
)
def test_torchs_own_sentence_of_an_old_driver_becomes_one_with_both_numbers(
    machine, driver, torch, words
):
    machine(driver, torch)
    assert words in str(gpu_software.too_old(f"line 3: RuntimeError: {TOO_OLD}"))
    assert gpu_software.too_old("RuntimeError: CUDA error: out of memory") is None


def test_a_newer_library_of_the_driver_runs_more_than_the_driver(machine):
    """NVIDIA's cuda-compat, as its own images have it."""
    machine("535.183.01", CUDA_13, newest=13000)
    assert gpu_software.misfit(jax=False) is None
    machine("535.183.01", CUDA_13, newest=12020)
    assert "needs driver 580 or newer" in str(gpu_software.misfit(jax=False))


def test_the_kernel_names_the_driver_where_nvidias_program_does_not(machine):
    line = (
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024"
    )
    machine(None, kernel=line)
    assert gpu_software.driver() == "535.183.01"
    line = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.126.09  Release Build"
    machine(None, kernel=line)
    assert gpu_software.driver() == "580.126.09"
    machine(None)
    assert gpu_software.driver() is None


def test_the_build_of_the_torch_that_is_installed_here():
    torch = pytest.importorskip("torch")
    assert gpu_software.torch_build() == (torch.__version__, torch.version.cuda or "")
