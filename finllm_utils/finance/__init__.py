"""Exact calculators and rules in plain code, used by data, rewards and hub alike."""
