"""FinLLM: the package that the course notebooks call to build a Chinese financial LLM."""

__version__ = "0.1.0"
