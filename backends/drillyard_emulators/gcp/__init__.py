"""Google Cloud on loopback: Compute Engine, Cloud Storage, metadata server, IAM."""
