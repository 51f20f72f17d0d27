"""The hub's exam: frozen numeric questions, generated statute questions, refusals.

The numeric questions were written by someone who saw only the list of tools, and frozen
by their SHA-256 before the router existed.
"""

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from finllm_utils.corpora.insurance import InsuranceQuestion
from finllm_utils.corpora.laws import Law
from finllm_utils.files import file_digest
from finllm_utils.hub.search import SearchIndex
from finllm_utils.hub.session import Hub, HubAnswer
from finllm_utils.records import read_lines

DATA_FILES = ("data_samples/hub",)
FOLDER = Path(__file__).resolve().parents[2] / "data_samples" / "hub"


@dataclass(frozen=True, kw_only=True, slots=True)
class Marked:
    """One exam question with the hub's answer and whether it is right."""

    row: dict
    answer: HubAnswer
    right: bool


def frozen_questions(folder: Path = FOLDER) -> list[dict]:
    """The numeric questions, after their SHA-256 was compared.

    Raises: ValueError when the file differs from the one that was frozen.
    """
    path = Path(folder) / "numeric_questions.jsonl"
    expected = path.with_suffix(".sha256").read_text(encoding="utf-8").split()[0]
    if (found := file_digest(path)) != expected:
        raise ValueError(
            f"{path}: SHA-256 {found[:12]}... is not the frozen {expected[:12]}...; "
            "restore the file, since an edited exam proves nothing"
        )
    return list(read_lines(path))


def mark_numeric(hub: Hub, rows: list[dict]) -> list[Marked]:
    """Right means: the same decimal number, and the source that the key asks for."""
    marked = []
    for row in rows:
        answer = hub.ask(row["question"])
        right = (
            answer.value is not None
            and answer.value == Decimal(str(row["answer"]).replace(",", ""))
            and row.get("source_contains", "") in answer.source
        )
        marked.append(Marked(row=row, answer=answer, right=right))
    return marked


def statute_questions(laws: tuple[Law, ...], number: int, seed: int) -> list[dict]:
    """Generated look-ups with the law and article they are about.

    Half name the article (第十六条, 第 16 条); a quarter quote a clause and
    name the law; a quarter quote a clause only. A clause occurs once in all laws.
    """
    rng = random.Random(seed)
    long_laws = [
        law
        for law in laws
        if len(law.articles) >= 20 and law.articles[0].number_zh == "第一条"
    ]
    whole = "\n".join(law.text for law in laws)
    rows: list[dict] = []
    while len(rows) < number:
        law = rng.choice(long_laws)
        article = rng.choice(law.articles)
        form = len(rows) % 4
        if form < 2:
            name = law.short_name if form else f"《{law.name}》"
            said = article.number_zh if form else f"第{article.number}条"
            question = f"{name}{said}是怎么规定的？"
        else:
            clause = _clause(article.text, whole, rng)
            if not clause:
                continue
            where = f"《{law.short_name}》里" if form == 2 else "哪条法律规定了"
            question = f"{where}“{clause}”，是哪一条？"
        rows.append({"question": question, "law": law.name, "article": article.number})
    return rows


def _clause(text: str, whole: str, rng: random.Random) -> str:
    """A clause of 10 to 24 characters that occurs once, without a cross-reference."""
    clauses = [c for c in re.split(r"[，。；：、\s]", text) if 10 <= len(c) <= 24]
    clauses = [c for c in clauses if not re.search("第.*[条章]|[《（]", c)]
    clauses = [c for c in clauses if whole.count(c) == 1]
    return rng.choice(clauses) if clauses else ""


def mark_statutes(hub: Hub, rows: list[dict]) -> list[Marked]:
    """Right means: the first article shown is the one asked about."""
    marked = []
    for row in rows:
        answer = hub.ask(row["question"])
        found = (answer.details.get("law"), answer.details.get("article"))
        right = found == (row["law"], row["article"])
        marked.append(Marked(row=row, answer=answer, right=right))
    return marked


def refusal_questions(folder: Path = FOLDER) -> list[dict]:
    """Questions that must not be answered: out of scope, or an argument is missing."""
    return list(read_lines(Path(folder) / "refusals.jsonl"))


def mark_refusals(hub: Hub, rows: list[dict]) -> list[Marked]:
    """Right means: not answered, and the missing argument is asked for by name."""
    marked = []
    for row in rows:
        answer = hub.ask(row["question"])
        right = answer.status == row["status"] and set(row["missing"]) <= set(
            answer.missing
        )
        marked.append(Marked(row=row, answer=answer, right=right))
    return marked


def share(marked: list[Marked]) -> float:
    """The share of right answers."""
    return sum(m.right for m in marked) / len(marked)


def search_hits(
    index: SearchIndex, questions: Sequence[InsuranceQuestion], top_k: int
) -> list[dict[str, float]]:
    """One row a question: is a right passage among the first ``top_k``?

    whole: among all passages; pool: among its own right and 200 retrieved wrong ones;
    chance_*: what drawing ``top_k`` passages at random would give.
    """
    rows = []
    for question in questions:
        right = set(question.positives)
        pool = sorted(right | set(question.negatives))
        whole = {p.id for p in index.search(question.zh, top_k)}
        near = set(index.rank_within(question.zh, pool, top_k))
        rows.append(
            {
                "whole": float(bool(right & whole)),
                "pool": float(bool(right & near)),
                "chance_whole": _chance(len(index.ids), len(right), top_k),
                "chance_pool": _chance(len(pool), len(right), top_k),
            }
        )
    return rows


def _chance(total: int, right: int, drawn: int) -> float:
    return 1 - math.comb(total - right, drawn) / math.comb(total, drawn)
