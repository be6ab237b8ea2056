"""Sizes of virtual machines that the emulated region has."""

from __future__ import annotations

from collections.abc import Mapping

from drillyard_emulators.http.fields import Document

SIZES = {
    "Standard_DS3_v2": (4, 14, "standardDSv2Family"),
    "Standard_DS11_v2": (2, 14, "standardDSv2Family"),
    "Standard_D2s_v3": (2, 8, "standardDSv3Family"),
    "Standard_D4s_v3": (4, 16, "standardDSv3Family"),
    "Standard_F4s_v2": (4, 8, "standardFSv2Family"),
    "Standard_F8s_v2": (8, 16, "standardFSv2Family"),
    "Standard_F16s_v2": (16, 32, "standardFSv2Family"),
    "Standard_E4s_v3": (4, 32, "standardESv3Family"),
    "Standard_NC6s_v3": (6, 112, "standardNCSv3Family"),
    "Standard_NC4as_T4_v3": (4, 28, "standardNCASv3_T4Family"),
}
"""Name -> cores, memory in GB, family."""


def documents(
    sizes: Mapping[str, tuple[int, int, str]], more: Mapping[str, Document]
) -> list[Document]:
    """Returns the sizes as the service lists them.

    Args:
        sizes: Name -> cores, memory in GB, family.
        more: Name -> properties that replace or extend the usual ones.
    """
    return [
        {
            "name": name,
            "family": family,
            "vCPUs": cores,
            "gpus": int("_NC" in name),
            "osVhdSizeMB": 1,
            "maxResourceVolumeMB": 1,
            "memoryGB": memory,
            "lowPriorityCapable": True,
            "premiumIO": True,
            "supportedComputeTypes": ["AmlCompute", "ComputeInstance"],
            **more.get(name, {}),
        }
        for name, (cores, memory, family) in sizes.items()
    ]
