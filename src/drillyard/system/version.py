"""The version of drillyard."""

VERSION = "0.1.0"
