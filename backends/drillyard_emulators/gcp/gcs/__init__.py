"""Cloud Storage: JSON API with uploads, batches and every precondition, and the XML API.

Not emulated: access control lists, encryption keys, notifications, object holds, soft delete.
"""
