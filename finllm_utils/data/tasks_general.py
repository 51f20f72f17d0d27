"""General instruction tasks: made from real text, or with a computed answer.

A task is a generator: (texts, rng) -> Instructions, at most one a text. Answers come
from the text itself, from its own label, or from arithmetic; none is invented.
"""

import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from finllm_utils.data.wordings import (
    Source,
    chinese_number,
    endless,
    fill,
    one_turn,
    sentences,
)
from finllm_utils.records import Instruction

Task = Iterator[Instruction]
_QUOTED = re.compile(r"[《“]([^《》“”]{2,12})[》”]")
_NUMBER = re.compile(r"\d[\d.,]*\d%?|\d%?")
_CLOZE = re.compile(
    r"[《“][^《》“”]{2,12}[》”]|\d+(?:\.\d+)?[%年月日个元亿万人次]{1,2}"
    r"|[一二三四五六七八九十百]+(?:日|年|个月|倍|万元|以上|以下)"
)
_CLAUSE = re.compile(r"[，、。！？；：]")


@dataclass(frozen=True, slots=True)
class GeneralTexts:
    """Text of general tasks.

    Prose from a newspaper is labelled 新闻, a review 正面 or 负面, an article with its
    law's short name.
    """

    prose: tuple[Source, ...]
    reviews: tuple[Source, ...]
    articles: tuple[Source, ...]


def shuffled(sources: tuple[Source, ...], rng: random.Random) -> list[Source]:
    """A shuffled copy."""
    return rng.sample(sources, len(sources))


def next_sentence(texts: GeneralTexts, rng: random.Random) -> Task:
    """First sentence of a news paragraph -> the sentence after it."""
    wordings = (
        "请接着写下一句：{text}",
        "续写：{text}",
        "“{text}”后面一句话可能是什么？",
        "下面是一则新闻的开头，请写出紧接着的一句。\n{text}",
    )
    for source in shuffled(texts.prose, rng):
        found = sentences(source.text, low=10)
        if len(found) >= 2 and found[0] + found[1] in source.text:
            question = fill(wordings, rng, text=found[0])
            yield one_turn("next_sentence", "general", source.id, question, found[1])


def cloze(texts: GeneralTexts, rng: random.Random) -> Task:
    """A sentence with a number, title or term left out -> what was left out."""
    wordings = (
        "请填空：{text}",
        "下面的句子缺了一处，用____标出，请补上。\n{text}",
        "____处应填什么？{text}",
    )
    for source in shuffled(texts.prose + texts.articles, rng):
        for sentence in sentences(source.text, low=15):
            spans = list(_CLOZE.finditer(sentence))
            if not spans:
                continue
            span = rng.choice(spans)
            gap = sentence[: span.start()] + "____" + sentence[span.end() :]
            question = fill(wordings, rng, text=gap)
            yield one_turn("cloze", "general", source.id, question, span.group())
            break


def text_kind(texts: GeneralTexts, rng: random.Random) -> Task:
    """A sentence -> 法律条文, 新闻 or 评论, by the collection that it comes from."""
    wordings = (
        "判断文体（法律条文、新闻、评论）：{text}",
        "下面这段话是法律条文、新闻还是评论？\n{text}",
        "这句话出自法律条文、新闻还是评论：{text}",
    )
    news = tuple(s for s in texts.prose if s.label == "新闻")
    kinds = {"新闻": news, "评论": texts.reviews, "法律条文": texts.articles}
    pools = {kind: shuffled(pool, rng) for kind, pool in kinds.items()}
    while all(pools.values()):
        for kind, pool in pools.items():
            source = pool.pop()
            if found := sentences(source.text, low=12):
                question = fill(wordings, rng, text=found[0])
                yield one_turn("text_kind", "general", source.id, question, f"{kind}。")


def sentiment(texts: GeneralTexts, rng: random.Random) -> Task:
    """A review -> 正面 or 负面, the site's own label; the two take turns."""
    wordings = (
        "这条评论是正面还是负面？{text}",
        "判断情感倾向：{text}",
        "买家的态度是正面的还是负面的？\n{text}",
        "请做情感分类，只回答正面或负面：{text}",
    )
    pool = [s for s in shuffled(texts.reviews, rng) if 8 <= len(s.text) <= 70]
    for positive, negative in zip(
        [s for s in pool if s.label == "正面"],
        [s for s in pool if s.label == "负面"],
        strict=False,
    ):
        for source in (positive, negative):
            question = fill(wordings, rng, text=source.text)
            answer = f"{source.label}。"
            yield one_turn("sentiment", "general", source.id, question, answer)


def extract_titles(texts: GeneralTexts, rng: random.Random) -> Task:
    """A sentence -> the titles or quoted words in it, joined by 、."""
    wordings = (
        "找出句中书名号或引号里的内容：{text}",
        "请列出下面这句话里被书名号或引号括起来的词。\n{text}",
        "提取书名号、引号内的文字：{text}",
    )
    for source in shuffled(texts.prose, rng):
        for sentence in sentences(source.text, low=15):
            if found := _QUOTED.findall(sentence):
                question = fill(wordings, rng, text=sentence)
                answer = "、".join(found) + "。"
                yield one_turn("extract_titles", "general", source.id, question, answer)
                break


def extract_numbers(texts: GeneralTexts, rng: random.Random) -> Task:
    """A sentence -> its numbers as a JSON list: a format the reader can parse."""
    wordings = (
        "把句中的数字按顺序写成 JSON 列表：{text}",
        "提取下面句子里的所有数字，用 JSON 数组回答。\n{text}",
        "用 JSON 列表给出这句话里出现的数字：{text}",
    )
    for source in shuffled(texts.prose, rng):
        for sentence in sentences(source.text, low=15):
            found = _NUMBER.findall(sentence)
            if 1 <= len(found) <= 4:
                question = fill(wordings, rng, text=sentence)
                answer = json.dumps(found, ensure_ascii=False)
                yield one_turn(
                    "extract_numbers", "general", source.id, question, answer
                )
                break


def order_clauses(texts: GeneralTexts, rng: random.Random) -> Task:
    """Three shuffled sentences of one paragraph -> their order, such as 2、3、1。."""
    wordings = (
        "把下面三句话排成通顺的顺序，只写编号。\n{text}",
        "句子排序，请写出正确的编号顺序：\n{text}",
        "这三句话的顺序乱了，正确顺序是什么？\n{text}",
    )
    for source in shuffled(texts.prose, rng):
        found = sentences(source.text, low=8, high=24)[:3]
        if len(set(found)) < 3:
            continue
        shown = rng.sample(range(3), 3)
        text = "\n".join(f"{i + 1}. {found[k]}" for i, k in enumerate(shown))
        answer = "、".join(str(shown.index(k) + 1) for k in range(3)) + "。"
        question = fill(wordings, rng, text=text)
        yield one_turn("order_clauses", "general", source.id, question, answer)


def punctuate(texts: GeneralTexts, rng: random.Random) -> Task:
    """A sentence without its marks -> the sentence as printed."""
    wordings = (
        "给下面的文字加上标点：{text}",
        "请断句并加标点。\n{text}",
        "补上标点符号：{text}",
    )
    for source in shuffled(texts.prose + texts.articles, rng):
        for sentence in sentences(source.text, low=14, high=45):
            if len(_CLAUSE.findall(sentence)) >= 2:
                bare = _CLAUSE.sub("", sentence)
                question = fill(wordings, rng, text=bare)
                yield one_turn("punctuate", "general", source.id, question, sentence)
                break


def mentions(texts: GeneralTexts, rng: random.Random) -> Task:
    """A sentence and a term -> whether the term stands in the sentence."""
    wordings = (
        "“{text}”这句话提到了“{term}”吗？",
        "下面的句子里有没有“{term}”？\n{text}",
        "句子：{text}\n问题：句中是否出现“{term}”？",
    )
    terms = [t for s in texts.prose for t in _QUOTED.findall(s.text)]
    for source in shuffled(texts.prose, rng):
        for sentence in sentences(source.text, low=15):
            if found := _QUOTED.findall(sentence):
                present = rng.random() < 0.5
                term = rng.choice(found if present else terms)
                answer = "提到了" if term in sentence else "没有提到"
                question = fill(wordings, rng, text=sentence, term=term)
                answer = f"{answer}“{term}”。"
                yield one_turn("mentions", "general", source.id, question, answer)
                break


def law_of_article(texts: GeneralTexts, rng: random.Random) -> Task:
    """An article of a law outside finance -> the law's name."""
    wordings = (
        "这一条出自哪部法律？{text}",
        "“{text}”是哪部法律的规定？",
        "下面的条文属于哪部法律？\n{text}",
    )
    for source in shuffled(texts.articles, rng):
        if 15 <= len(source.text) <= 60 and source.label:
            question = fill(wordings, rng, text=source.text)
            answer = f"《{source.label}》。"
            yield one_turn("law_of_article", "general", source.id, question, answer)


def arithmetic(texts: GeneralTexts, rng: random.Random) -> Task:
    """Sums, differences and products below 1,000."""
    wordings = (
        "{text} = ？",
        "计算：{text}",
        "{text}等于多少？",
        "请算出 {text} 的结果。",
    )
    for number, _ in endless(rng):
        sign = rng.choice("+-×")
        high = 30 if sign == "×" else 500
        left, right = rng.randint(2, high), rng.randint(2, high)
        left, right = max(left, right), min(left, right)
        value = {"+": left + right, "-": left - right, "×": left * right}[sign]
        text = f"{left} {sign} {right}"
        question = fill(wordings, rng, text=text)
        answer = f"{text} = {value}。"
        yield one_turn("arithmetic", "general", f"computed-{number}", question, answer)


def read_number(texts: GeneralTexts, rng: random.Random) -> Task:
    """A Chinese number <-> Arabic digits."""
    to_digits = ("把“{text}”写成阿拉伯数字。", "{text}用阿拉伯数字怎么写？")
    to_chinese = ("把 {text} 写成中文数字。", "{text} 用汉字怎么写？")
    for number, _ in endless(rng):
        value = rng.randint(11, 9_999)
        if rng.random() < 0.5:
            question = fill(to_digits, rng, text=chinese_number(value))
            answer = f"{value}。"
        else:
            question = fill(to_chinese, rng, text=str(value))
            answer = f"{chinese_number(value)}。"
        yield one_turn("read_number", "general", f"computed-{number}", question, answer)


def list_format(texts: GeneralTexts, rng: random.Random) -> Task:
    """A list of quoted words in news -> the same list sorted, reversed or as JSON."""
    forms: dict[str, Callable[[list[str]], str]] = {
        "倒过来写，用顿号隔开": lambda w: "、".join(reversed(w)) + "。",
        "写成 JSON 列表": lambda w: json.dumps(w, ensure_ascii=False),
        "每个词一行，前面加编号": lambda w: "\n".join(
            f"{i}. {x}" for i, x in enumerate(w, 1)
        ),
    }
    wordings = (
        "把这几个词{form}：{text}",
        "请将“{text}”{form}。",
        "{text}\n要求：{form}。",
    )
    for source in shuffled(texts.prose, rng):
        words = list(dict.fromkeys(_QUOTED.findall(source.text)))[:4]
        if len(words) >= 3:
            form = rng.choice(sorted(forms))
            question = fill(wordings, rng, text="、".join(words), form=form)
            answer = forms[form](words)
            yield one_turn("list_format", "general", source.id, question, answer)


GENERAL_TASKS: dict[str, Callable[[GeneralTexts, random.Random], Task]] = {
    task.__name__: task
    for task in (
        list_format,
        law_of_article,
        mentions,
        extract_titles,
        extract_numbers,
        order_clauses,
        next_sentence,
        cloze,
        punctuate,
        text_kind,
        sentiment,
        arithmetic,
        read_number,
    )
}
"""Every general task by name; the scarcest first, the endless ones last."""
