"""Google Cloud: machines from managed instance groups, a bucket as the mailbox.

``backend`` is the port's implementation, ``store`` the bucket, ``machine`` what runs on a machine.
Google's libraries are imported inside methods: reading settings must not cost seconds.
"""

from drillyard_backends.gcp import boundary_lookups

boundary_lookups.silence()
