"""FinLLM: what the course notebooks call to build a Chinese financial LLM."""

__version__ = "0.1.0"
