"""Compute Engine: templates, managed groups, instances whose machines are local processes.

Not emulated: networks, firewalls, images' content, disks' content, live migration, autoscalers and
health checks. A managed instance that failed under ``DO_NOTHING`` stays listed without a status
(assumed; to be checked on a real project).
"""
