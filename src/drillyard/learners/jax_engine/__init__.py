"""``engine: jax``: PPO and A2C whose updates are compiled by JAX, and whose rollouts use NumPy."""
