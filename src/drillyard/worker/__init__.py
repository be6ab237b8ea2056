"""The worker: claims tickets, runs each in a forked process of its own, reports in the mailbox.

``python -m drillyard.worker`` is the program; the same one runs on a laptop and on a VM.
``worker`` decides, ``loop`` has its threads and signals, ``machine`` is what it needs of where it
runs.
"""
