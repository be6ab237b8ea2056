"""Machines reached by SSH: a backend, and a store over SFTP."""
