"""The language of each paragraph: foreign blocks leave a Chinese document.

Scripts decide nearly everything: kana is Japanese, Hangul Korean. Only a paragraph of
Latin letters, or one that mixes a little kana into Han, is put to a model: py3langid
(langid.py's method, Lui and Baldwin 2012; its model ships with the package).
English stays, as a Chinese report quotes and translates it, unless it advertises.
"""

import functools
import re
from typing import Any

_HAN = "\u3400-\u9fff"
_SCRIPTS = {  # ranges of characters that one language, or none of ours, writes
    "ja": re.compile("[\u3041-\u3096\u30a1-\u30fa\uff66-\uff9f]"),
    "ko": re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]"),
    "ru": re.compile("[\u0400-\u04ff]"),
    "ar": re.compile("[\u0590-\u08ff]"),
    "th": re.compile("[\u0900-\u109f\u1780-\u17ff]"),
}
_LATIN = re.compile("[A-Za-z\u00c0-\u024f\u1e00-\u1eff]")
_HAN_LETTER = re.compile(f"[{_HAN}]")
# What makes a text worth a closer look: a foreign letter, or a dozen Latin words.
_SUSPECT = re.compile(
    "[\u0400-\u109f\u1100-\u11ff\u1780-\u17ff\u1ea0-\u1ef9\u3041-\u3096\u30a1-\u30fa"
    "\u3130-\u318f\uac00-\ud7af\uff66-\uff9f]"
    "|[A-Za-z\u00c0-\u024f][A-Za-z\u00c0-\u024f0-9 ,.'’!?&$%:;/()\\-]{40}"
)
_MIN_LETTERS = 12  # below, a paragraph is a name or a term
MIN_SCRIPT_SHARE = 0.25  # of letters; Japanese has half its letters in kana
_DOUBTFUL_SHARE = 0.08  # a Chinese line that names の, an album or a brand has less
MIN_LATIN_SHARE = 0.8
MIN_CERTAINTY = 0.9  # of the model, to call a paragraph anything but English
MAX_FOREIGN_SHARE = 0.5  # of a document's letters; above, it is no Chinese document
_PROSE = re.compile(f"{_LATIN.pattern[:-1]} ,.'’!?-]")
_MIN_WORDS = 6
_MODEL_LANGUAGES = "de en es fr id it ja ms nl pl pt ru tl tr vi zh".split()
_PROMOTION = re.compile(
    r"buy now|order now|free shipping|discount|click here|sign up|subscribe|log ?in"
    r"|cookies?|shop now|best price|cheap|replica|casino|jackpot|betting|bonus"
    r"|100% (?:free|safe)|limited time|promo|coupon|loan approval|viagra|cialis"
    r"|pharmacy|unsubscribe|all rights reserved|terms of (?:use|service)"
    r"|privacy policy|add to cart|contact us|hot sale|wholesale|manufacturer|supplier"
    r"|whatsapp|telegram|get started|download now|join now|earn money|make money"
    r"|guaranteed",
    re.IGNORECASE,
)


def drop_foreign(text: str) -> tuple[str, dict[str, int]]:
    """``text`` without its foreign paragraphs, and the letters dropped per language.

    A document that is mostly foreign comes back whole: ``check_chinese_share`` says so.
    """
    if not _SUSPECT.search(text):
        return text, {}
    lines = text.split("\n")
    kept, dropped, letters = [], {}, 0
    for line in lines:
        size = num_letters(line)
        letters += size
        if language := foreign_language(line):
            dropped[language] = dropped.get(language, 0) + size
        else:
            kept.append(line)
    if not dropped or sum(dropped.values()) > MAX_FOREIGN_SHARE * letters:
        return text, {}
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip(), dropped


def foreign_language(paragraph: str) -> str:
    """Code of the language that makes a paragraph foreign, "" when it may stay.

    ``foreign_language("Free shipping! Buy now and save.")`` is ``"en"``: English goes
    only when it advertises.
    """
    language = language_of(paragraph) if _SUSPECT.search(paragraph) else "zh"
    if language == "en":
        words = len(paragraph.split())
        hits = {found.lower() for found in _PROMOTION.findall(paragraph)}
        return "en" if len(hits) >= 2 and len(hits) * 20 >= words else ""
    return "" if language in ("zh", "") else language


def language_of(paragraph: str) -> str:
    """``zh``, ``en``, ``ja``, ``ko``, ``ru``, ``vi`` and so on; "" for few letters."""
    total = num_letters(paragraph)
    if total < _MIN_LETTERS:
        return ""
    counts = {code: len(p.findall(paragraph)) for code, p in _SCRIPTS.items()}
    script = max(counts, key=counts.get)
    if counts[script] >= MIN_SCRIPT_SHARE * total:
        return script
    latin = len(_LATIN.findall(paragraph)) >= MIN_LATIN_SHARE * total
    if latin and not _is_prose(paragraph):
        return ""
    if latin or counts[script] >= _DOUBTFUL_SHARE * total:
        return _ask_model(paragraph, "en" if latin else "zh")
    return "zh"


def _is_prose(paragraph: str) -> bool:
    """Sentences rather than code, formulae or a list of names."""
    if len(paragraph.split()) < _MIN_WORDS:
        return False
    return len(_PROSE.findall(paragraph)) >= 0.9 * len(paragraph)


def num_letters(text: str) -> int:
    """Letters of all scripts that are told apart here."""
    patterns = (_HAN_LETTER, _LATIN, *_SCRIPTS.values())
    return sum(len(pattern.findall(text)) for pattern in patterns)


def _ask_model(paragraph: str, otherwise: str) -> str:
    """The model's answer where it is sure, else ``otherwise``."""
    language, certainty = _model().classify(paragraph)
    return language if certainty >= MIN_CERTAINTY else otherwise


@functools.cache
def _model() -> Any:  # the package has no types
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # 0.3 s, 19 MB

    model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    model.set_languages(_MODEL_LANGUAGES)
    return model
