"""The parts that every emulated cloud is made of: proxy, certificates, faults, recording."""
