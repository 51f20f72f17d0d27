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
        self._counts: tuple[int, int] | None = None
        self._has_word: bool | None = None

    def points(self, place: int) -> int:
        """1 or 2 in private matters, 0 or -1 where nothing tells, less in news."""
        key = place // self._FAR
        if key not in self._known:
            start = max(0, (key - 1) * self._FAR)
            part = self.text[start : start + 3 * self._FAR]
            whole = len(part) == len(self.text)
            near = _matters(len(part), self._of_all() if whole else _count(part))
            if len(self.text) > 3 * self._FAR and not self._is_private():
                near = -3
            self._known[key] = near
        return self._known[key]

    def may_name(self) -> bool:
        """Whether names are worth a search: a private word, and no long public text."""
        if len(self.text) > 3 * self._FAR:
            return self._is_private()
        return len(self.text) < self._FAR or self.has_private_word()

    def has_private_word(self) -> bool:
        """Whether there is a private word at all; cheaper than counting them."""
        if self._has_word is None:
            self._has_word = bool(MATTER.search(self.text))
        return self._has_word

    def is_service(self) -> bool:
        """Whether the whole text is private, so that a generous look is in place."""
        private, public = self._of_all()
        few = len(self.text) < 2 * self._FAR
        if not few and private < 6:
            return False
        return private > (public - 1 if few else 10 * public + 3) and private > 0

    def is_clear(self) -> bool:
        """Whether a short text speaks of private matters and of no public one."""
        private, public = self._of_all()
        enough = private > (len(self.text) > 80)
        return enough and not public and len(self.text) < 2 * self._FAR

    def _is_private(self) -> bool:
        """Whether a long text is about private matters throughout."""
        private, public = self._of_all()
        return private >= 5 and private >= 8 * public

    def _of_all(self) -> tuple[int, int]:
        """The words of the whole text; counted once."""
        if self._counts is None:
            self._counts = _count(self.text)
        return self._counts


def _count(part: str) -> tuple[int, int]:
    """How many different words for private and for public matters there are."""
    return len(set(MATTER.findall(part))), len(set(_PUBLIC.findall(part)))


def _one_of(words: tuple[str, ...]) -> re.Pattern:
    """Any of ``words``, first come first served; by first character, to be quick."""
    by_head: dict[str, list[str]] = {}
    for word in words:
        by_head.setdefault(word[0], []).append(re.escape(word))
    heads, groups = sorted(by_head), []
    for place in range(0, len(heads), _GROUP):
        some = heads[place : place + _GROUP]
        inside = "|".join(word for head in some for word in by_head[head])
        groups.append(f"(?=[{re.escape(''.join(some))}])(?:{inside})")
    return re.compile(f"(?=[{re.escape(''.join(heads))}])(?:{'|'.join(groups)})")


_GROUP = 20
MATTER = _one_of(PRIVATE)
_PUBLIC = _one_of(PUBLIC)


def _matters(length: int, counted: tuple[int, int]) -> int:
    private, public = counted
    if public > private + (length < 200):
        return -2
    if length > 200 and public > 1 and 2 * public >= private:
        return -2
    if private > 2 and not public:
        return 2
    return 1 if private else -(length > 120)
