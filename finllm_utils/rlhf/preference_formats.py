"""Preference pairs of the user's own, read from and written to files that trl reads.

Two forms are known, and one JSONL file may hold both. trl's: ``prompt``, ``chosen`` and
``rejected``, each a text or a list of messages; a side may repeat the question before
its answer, and may then stand without ``prompt``. This project's: the fields of
``PreferencePair``, or of data_samples/preferences with ``value``. ``id``, ``source``
and ``margin`` may be left out; other fields are not read. Nothing is repaired: a fault
is named with its line and the remedy.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from unicodedata import normalize

from transformers import PreTrainedTokenizerBase

from finllm_utils.data.instruction_formats import require_conversation, require_new_id
from finllm_utils.files import atomic_file
from finllm_utils.records import ChatTurn, PreferencePair, numbered_lines

VALUE_SOURCE = "value pairs: "
"""What stands before the value in the source of a pair that shows one."""


def read_preferences(
    path: Path | str,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_seq_len: int | None = None,
) -> list[PreferencePair]:
    """All pairs of a ``.jsonl`` file, or of every one in a folder, by name and line.

    A pair without ``id`` is called ``<file>/<line>``, one without ``source`` has the
    file's name there.

    Args: tokenizer and max_seq_len, given together, refuse a pair that takes more
    tokens in the chat template (``reward_model.encode_pair``).
    Raises: ValueError naming file, line and remedy for a missing field, an empty or
    garbled text, equal sides, a prompt of several turns, sides with different
    questions, a margin outside [0, 1], a repeated id, a pair that is too long.
    """
    path = Path(path)
    if (tokenizer is None) != (max_seq_len is None):
        raise ValueError(
            "tokenizer and max_seq_len belong together; give both or neither"
        )
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"{path}: no .jsonl file in it; give the folder of the pairs")
    pairs: list[PreferencePair] = []
    seen: dict[str, str] = {}
    for file in files:
        for pair, where in _pairs_of(file):
            require_new_id(pair.id, where, seen)
            if tokenizer is not None:
                _require_short(pair, tokenizer, max_seq_len, where)
            pairs.append(pair)
    return pairs


def _pairs_of(path: Path) -> Iterator[tuple[PreferencePair, str]]:
    """Each checked pair of a file, with its place."""
    if path.suffix != ".jsonl":
        raise ValueError(
            f"{path}: unknown suffix {path.suffix!r}; write one pair a line into a "
            ".jsonl file"
        )
    where = ""
    for number, row in numbered_lines(path):
        where = f"{path}, line {number}"
        pair = _pair(row, where, path.name, number)
        require_pair(pair, where)
        yield pair, where
    if not where:
        raise ValueError(f"{path}: no pair in it; give at least one")


def write_trl_pairs(path: Path | str, pairs: Iterable[PreferencePair]) -> int:
    """Writes ``pairs`` as JSONL for trl's trainers, atomically; the number written.

    prompt, chosen and rejected are lists with one message, since trl puts only messages
    into the chat template and joins texts as they are. margin is what the pair has; trl
    subtracts it in the loss. id and source stand beside it, which trl drops.
    ``read_preferences`` gives equal pairs back.
    Raises: ValueError naming a pair that could not be read back.
    """
    seen: dict[str, str] = {}
    with atomic_file(Path(path)) as handle:
        for number, pair in enumerate(pairs, 1):
            where = f"pair {number} ({pair.id})"
            require_pair(pair, where)
            require_new_id(pair.id, where, seen)
            row = {
                "prompt": [{"role": "user", "content": pair.prompt}],
                "chosen": [{"role": "assistant", "content": pair.chosen}],
                "rejected": [{"role": "assistant", "content": pair.rejected}],
                "margin": pair.margin,
                "id": pair.id,
                "source": pair.source,
            }
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")
        if not seen:
            raise ValueError(f"{path}: there is no pair to write")
    return len(seen)


def require_pair(pair: PreferencePair, where: str) -> None:
    """Raises ValueError unless a model can learn from ``pair``; ``where`` names it.

    All texts hold something and are not garbled, the sides differ by more than spaces
    and width, and the margin lies in [0, 1].
    """
    question = ChatTurn(role="user", content=pair.prompt)
    for side in ("chosen", "rejected"):
        answer = ChatTurn(role="assistant", content=getattr(pair, side))
        require_conversation((question, answer), f"{where}, {side}")
    require_two_sides(pair, where)
    if not (math.isfinite(pair.margin) and 0 <= pair.margin <= 1):
        raise ValueError(
            f"{where}: margin {pair.margin} is not in [0, 1]; divide all margins by "
            "the largest one, or leave them out"
        )


def require_two_sides(pair: PreferencePair, where: str) -> None:
    """Raises ValueError when the sides agree, spaces and width aside."""
    if text_key(pair.chosen) == text_key(pair.rejected):
        raise ValueError(
            f"{where}: chosen and rejected are the same text, so there is nothing to "
            "prefer (spaces and full-width forms aside); correct one side or delete "
            "the pair"
        )


def text_key(text: str) -> str:
    """``text`` without spaces and differences of width, to tell whether two agree."""
    return "".join(normalize("NFKC", text).split())


def _pair(row: Mapping, where: str, name: str, number: int) -> PreferencePair:
    prompt, chosen, rejected = _texts(row, where)
    own_source = f"{VALUE_SOURCE}{row['value']}" if row.get("value") else name
    margin = row.get("margin", 0.0)
    if isinstance(margin, bool) or not isinstance(margin, (int, float)):
        raise ValueError(
            f"{where}: margin must be a number in [0, 1], got {margin!r:.40}; correct "
            "it or leave it out"
        )
    named = {
        "id": row.get("id", f"{name}/{number}"),
        "source": row.get("source", own_source),
    }
    for field, value in named.items():
        if not isinstance(value, str) or (field == "id" and not value):
            raise ValueError(
                f"{where}: {field} must be text, got {value!r:.40}; write it in "
                "quotation marks or leave it out"
            )
    return PreferencePair(
        prompt=prompt, chosen=chosen, rejected=rejected, margin=float(margin), **named
    )


def _texts(row: Mapping, where: str) -> tuple[str, str, str]:
    """Prompt, chosen and rejected answer of a row in either form."""
    for field in ("chosen", "rejected"):
        if field not in row:
            raise _missing(row, field, where)
    asked = _turns(row["prompt"], "user", f"{where}, prompt") if "prompt" in row else []
    answers = []
    for field in ("chosen", "rejected"):
        place = f"{where}, {field}"
        *before, answer = _turns(row[field], "assistant", place)
        if answer.role != "assistant":
            raise ValueError(
                f"{place}: ends with a message of {answer.role!r}; end it with the "
                "assistant's answer"
            )
        if before and asked and before != asked:
            raise ValueError(
                f"{place}: repeats another question than "
                f"{'prompt' if 'prompt' in row else 'chosen'} has; both answers must "
                "be to one question, written the same"
            )
        if not before and not asked:
            raise _missing(row, "prompt", where)
        asked = asked or before
        answers.append(answer.content)
    if [turn.role for turn in asked] != ["user"]:
        roles = ", ".join(turn.role for turn in asked)
        raise ValueError(
            f"{where}, prompt: has the turns {roles}; a pair holds one question of the "
            "user: write what the answer needs to know into that question"
        )
    return asked[0].content, answers[0], answers[1]


def _missing(row: Mapping, field: str, where: str) -> ValueError:
    return ValueError(
        f"{where}: field {field!r} is missing, the line has "
        f"{', '.join(sorted(row)) or 'none'}; write prompt, chosen and rejected, each "
        "as text or as a list of messages"
    )


def _turns(value: object, role: str, place: str) -> list[ChatTurn]:
    """The turns of a text, said by ``role``, or of a list of messages."""
    if isinstance(value, str):
        return [ChatTurn(role=role, content=value)]
    if not isinstance(value, list) or not value:
        raise ValueError(
            f"{place}: expected text or a list of messages, got {value!r:.60}; fill it "
            "or delete the line"
        )
    for number, turn in enumerate(value, 1):
        fits = isinstance(turn, Mapping) and {"role", "content"} <= set(turn)
        if not fits or not all(
            isinstance(turn[name], str) for name in ("role", "content")
        ):
            raise ValueError(
                f"{place}, message {number}: expected role and content as text, got "
                f"{turn!r:.60}; pictures and tool calls are not read"
            )
    return [ChatTurn(role=turn["role"], content=turn["content"]) for turn in value]


def _require_short(
    pair: PreferencePair,
    tokenizer: PreTrainedTokenizerBase,
    max_seq_len: int,
    where: str,
) -> None:
    from finllm_utils.rlhf.reward_model import encode_pair  # trl takes seconds

    encode_pair(tokenizer, pair, max_seq_len, where)
