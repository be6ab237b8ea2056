"""The worker: claims tickets, runs each in a forked process of its own, reports in the mailbox.

``python -m drillyard.worker`` is the agent. The same program runs on a laptop and on a VM.
"""
