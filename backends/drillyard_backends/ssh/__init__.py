"""Machines that are reached by SSH: a backend, and a store over SFTP."""
