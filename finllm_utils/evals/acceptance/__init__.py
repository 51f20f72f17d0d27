"""Is the model after PPO to be accepted? What it is asked, measured and told."""
