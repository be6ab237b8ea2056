"""Flows, commands and the embedded server: everything of drillyard that needs Prefect."""
