"""Loading, embedding initialisation, generation and scoring of causal models."""
