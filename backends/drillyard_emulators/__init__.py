"""Emulated clouds on loopback: the product runs on them unmodified, its machines are processes.

The product imports nothing of this, but for ``drillyard rehearse``. The real client libraries
reach the emulator through two environment variables only (``HTTPS_PROXY`` and
``REQUESTS_CA_BUNDLE``), with their real host names, tokens and TLS; every other host is refused,
so that a test cannot spend money.
"""
