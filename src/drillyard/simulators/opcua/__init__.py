"""Simulators and plants behind an OPC UA server."""
