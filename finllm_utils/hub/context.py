"""What each quantity of a question is for, read from the words around it.

``assign`` gives quantities to roles so that the sum of their scores is greatest; a cue
word close before or after a quantity scores high, a quantity without a cue low.
"""

import itertools
import re
from dataclasses import dataclass, field

from finllm_utils.hub.amounts import Quantity, read

_STOP = re.compile(r"[，。；？！;?!、:：]|,(?!\d)")
_ASKED = re.compile(r"多少|几(?!年|个月|天|千|万|百|十)|求|算|啥|什么|怎么|呢|？|\?")
UNCUED = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Role:
    """One argument to fill: which kinds fit, and the words that announce it."""

    name: str
    kinds: tuple[str, ...]
    before: str = ""
    after: str = ""
    needs_cue: bool = False


@dataclass(kw_only=True)
class Question:
    """A question's normalised text with its quantities."""

    text: str
    quantities: list[Quantity] = field(default_factory=list)

    @classmethod
    def parse(cls, question: str) -> "Question":
        """Reads a question."""
        text, quantities = read(question)
        return cls(text=text, quantities=quantities)

    def has(self, pattern: str) -> bool:
        """Whether the regular expression occurs in the text."""
        return re.search(pattern, self.text) is not None

    def of(self, *kinds: str) -> list[Quantity]:
        """The quantities of these kinds, left to right."""
        return [q for q in self.quantities if q.kind in kinds]

    def left(self, quantity: Quantity) -> str:
        """The words between the quantity before and this one."""
        ends = [q.end for q in self.quantities if q.end <= quantity.start]
        return self.text[max(ends, default=0) : quantity.start]

    def right(self, quantity: Quantity) -> str:
        """The words from this quantity to the next one or the next stop."""
        starts = [q.start for q in self.quantities if q.start >= quantity.end]
        words = self.text[quantity.end : min(starts, default=len(self.text))]
        return _STOP.split(words)[0]

    def cue(self, role: Role, quantity: Quantity) -> float:
        """How strongly the words around ``quantity`` announce ``role``, or 0."""
        best = 0.0
        left = self.left(quantity)
        for match in re.finditer(role.before, left) if role.before else ():
            gap = left[match.end() :]
            score = 2.0 - 0.05 * len(gap) - 0.7 * bool(_STOP.search(gap))
            best = max(best, score)
        right = self.right(quantity)
        for match in re.finditer(role.after, right) if role.after else ():
            best = max(best, 1.6 - 0.08 * match.start())
        return best

    def assign(self, *roles: Role) -> dict[str, Quantity]:
        """The best one-to-one assignment of quantities to roles, by name."""
        options = []
        for role in roles:
            scored = [(self._fit(role, q), q) for q in self.of(*role.kinds)]
            options.append([(s, q) for s, q in scored if s > 0] + [(0.0, None)])
        best: tuple[float, tuple] = (-1.0, ())
        for choice in itertools.product(*options):
            taken = [q.start for _, q in choice if q is not None]
            if len(taken) == len(set(taken)):
                score = sum(s for s, _ in choice)
                if score > best[0] + 1e-9:
                    best = (score, choice)
        pairs = zip(roles, best[1], strict=True)
        return {role.name: q for role, (_, q) in pairs if q is not None}

    def _fit(self, role: Role, quantity: Quantity) -> float:
        if quantity.kind == "number" and quantity.unit:
            return 0.0  # 一次, 三笔, 500 股 are no amounts
        score = self.cue(role, quantity)
        if score <= 0 and not role.needs_cue:
            return UNCUED
        return max(score, 0.0)

    def asked(self, options: dict[str, str], default: str) -> str:
        """The option whose words stand closest to 多少, 几, 求 or the question mark."""
        end_of_text = (len(self.text), len(self.text))
        marks = [m.span() for m in _ASKED.finditer(self.text)] or [end_of_text]
        best, chosen = 1e9, default
        for name, pattern in options.items():
            for match in re.finditer(pattern, self.text):
                for start, end in marks:
                    gap = (
                        self.text[match.end() : start]
                        if start >= match.end()
                        else self.text[end : match.start()]
                    )
                    if start < match.end() and end > match.start():
                        gap = ""  # the mark is part of the words
                    distance = len(gap) + 8 * len(_STOP.findall(gap))
                    distance += 30 * any(c.isdigit() or c == "%" for c in gap)
                    if end <= match.start() and not gap:
                        distance -= 0.5  # 付多少利息 asks for the interest
                    distance -= 0.01 * len(match[0])  # of two, the more specific
                    if distance < best:
                        best, chosen = distance, name
        return chosen
