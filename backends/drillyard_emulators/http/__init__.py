"""The parts of every emulated cloud: proxy, certificates, faults, recording."""
