"""Azure Machine Learning as a backend, and Azure Blob Storage as a store.

The libraries are imported inside functions: the management one takes seconds.
"""
