"""Whether the text around a name is a private matter, news or a book.

Counts different words of either kind. Used by ``pii_people``.
"""

import re

from finllm_utils.data.pii_cues import PRIVATE, PUBLIC


class Passage:
    """How private the text around a place is; counted when asked, and once."""

    _FAR = 160

    def __init__(self, text: str) -> None:
        self.text = text
        self._known: dict[int, int] = {}
        self._private: bool | None = None

    def points(self, place: int) -> int:
        """1 or 2 in private matters, 0 or -1 where nothing tells, less in news."""
        key = place // self._FAR
        if key not in self._known:
            start = max(0, (key - 1) * self._FAR)
            near = _matters(self.text[start : start + 3 * self._FAR])
            if len(self.text) > 3 * self._FAR and not self._is_private():
                near = -3
            self._known[key] = near
        return self._known[key]

    def _is_private(self) -> bool:
        """Whether a long text is about private matters throughout; asked once."""
        if self._private is None:
            private, public = _count(self.text)
            self._private = private >= 3 and private >= 3 * public
        return self._private


def _count(part: str) -> tuple[int, int]:
    """How many different words for private and for public matters there are."""
    return len(set(_PRIVATE.findall(part))), len(set(_PUBLIC.findall(part)))


_PRIVATE = re.compile("|".join(map(re.escape, PRIVATE)))
_PUBLIC = re.compile("|".join(map(re.escape, PUBLIC)))


def _matters(part: str) -> int:
    private, public = _count(part)
    if public > private + (len(part) < 200):
        return -2
    if len(part) > 200 and public > 1 and 2 * public >= private:
        return -2
    if private > 2 and not public:
        return 2
    return 1 if private else -(len(part) > 120)
