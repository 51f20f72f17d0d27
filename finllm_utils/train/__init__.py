"""Packed bins, the mixture schedule, the pre-training loop and supervised tuning."""
