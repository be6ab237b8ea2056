"""Scaffolds: packages of plug-ins, and experiments for existing simulators."""

from drillyard.authoring.scaffold.write import Scaffold, around, check_name, write

__all__ = ["Scaffold", "around", "check_name", "write"]
