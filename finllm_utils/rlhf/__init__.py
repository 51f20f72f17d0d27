"""Reward model and PPO, one idea a file."""
