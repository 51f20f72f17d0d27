"""Cleaning steps, from raw files to a deduplicated corpus, and instruction data."""
