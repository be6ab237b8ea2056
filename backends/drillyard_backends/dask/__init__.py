"""Dask as a backend: join a cluster by its address, or start one that ends with the lease."""
