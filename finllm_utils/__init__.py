"""FinLLM: what the course notebooks call to build a Chinese financial LLM."""

import logging

__version__ = "0.1.0"

# Imported by peft wherever it is installed, bitsandbytes asks on CPUs for a package
# that fetches kernels from a model hub; its own kernels do without.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
