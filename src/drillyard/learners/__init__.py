"""What learns: Stable-Baselines3's algorithms, baselines, and the protocol of a plug-in's."""
