"""Flows, commands and the embedded server: every part of drillyard that needs Prefect."""
