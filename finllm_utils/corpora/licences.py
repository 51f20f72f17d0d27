"""What may be done with the text of each source; the reasons are in DATA.md."""

from typing import NamedTuple


class Licence(NamedTuple):
    """``clean`` text may be used and passed on by anyone, for anything."""

    name: str
    clean: bool


_PUBLIC = Licence("public domain", True)
_RESEARCH = Licence("research use only", False)
_OWN = Licence("CC-BY-4.0, FinLLM authors", True)

LICENCES = {
    "laws": _PUBLIC,  # Copyright Law of the PRC, article 5
    "sotu": _PUBLIC,  # works of the US government
    "python_help": Licence("PSF-2.0", False),  # free, but neither public nor ours
    "insurance_zh": _RESEARCH,
    "insurance_en": _RESEARCH,
    "peoples_daily": _RESEARCH,
    "reviews": Licence("unclear", False),
    "raw": _OWN,
}
"""By ``Document.source``."""

YOURS = Licence("as you supplied it", True)
"""Text from data.sources: its owner knows."""


def licence_of(source: str) -> Licence:
    """The licence of a shipped source or of data_samples/raw; else ``YOURS``."""
    return LICENCES.get(source, YOURS)
