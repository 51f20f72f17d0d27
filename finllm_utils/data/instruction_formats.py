"""A team's own conversations, in the formats that teams have: read, checked, one form.

Known are messages (OpenAI, trl), ShareGPT's conversations, Alpaca's instruction and
output, and our own records; one file may hold all of them. Notebooks 05 and 06 read
``sft.own_instructions`` with it. Nothing is repaired: a fault is named with its line.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from finllm_utils.records import ChatTurn, Instruction, numbered_lines

_ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
}
_AFTER = {
    "": {"system", "user"},
    "system": {"user"},
    "user": {"assistant"},
    "assistant": {"user", "tool"},
    "tool": {"assistant", "tool"},
}
"""Roles that may follow a role; the empty one is the beginning."""
_BROKEN = ("\ufffd", "锟斤拷", "烫烫烫")
"""What text of another encoding turns into when it is read as UTF-8 and saved."""
_KINDS = "messages, conversations (ShareGPT), or instruction and output (Alpaca)"


def read_instructions(
    path: Path | str, *, task: str = "own", domain: str = "finance"
) -> list[Instruction]:
    """All conversations of a ``.jsonl`` file, or of a ``.json`` file with one list.

    Args: task and domain stand on items that name none.
    Raises: ValueError naming the file, the line (or the item of a list) and the fault:
    an unknown form or role, roles out of order, an empty turn, broken characters, an
    identifier that was there before.
    """
    path, found = Path(path), []
    seen: dict[str, str] = {}
    for number, row in _rows(path):
        where = f"{path}, {'line' if path.suffix == '.jsonl' else 'item'} {number}"
        item = _instruction(row, where, f"{path.name}/{number}", task, domain)
        require_new_id(item.id, where, seen)
        found.append(item)
    if not found:
        raise ValueError(f"{path}: no conversation in it; give at least one")
    return found


def require_new_id(item_id: str, where: str, seen: dict[str, str]) -> None:
    """Notes in ``seen``, {id: place}, that ``item_id`` stands at ``where``.

    Raises: ValueError naming both places when it stood somewhere before.
    """
    if item_id in seen:
        raise ValueError(
            f"{where}: id {item_id!r} stands at {seen[item_id]} already; give each "
            "item its own, since reports tell items apart by it"
        )
    seen[item_id] = where


def require_conversation(messages: Iterable[ChatTurn], where: str) -> None:
    """Raises ValueError unless the turns make a conversation that can be learnt from.

    An optional system turn, then user and assistant in turn; tool results stand between
    a call by the assistant and its answer; the assistant has the last word.
    """
    before = ""
    for number, turn in enumerate(messages, 1):
        place = f"{where}, message {number}"
        if turn.role not in _AFTER[before]:
            allowed = " or ".join(sorted(_AFTER[before]))
            raise ValueError(
                f"{place}: role {turn.role!r} cannot stand "
                f"{f'after {before!r}' if before else 'first'}; {allowed} must"
            )
        if not turn.content.strip():
            raise ValueError(
                f"{place}: the {turn.role}'s text is empty; fill or drop it"
            )
        if broken := next((mark for mark in _BROKEN if mark in turn.content), ""):
            raise ValueError(
                f"{place}: {broken!r} stands where text of another encoding was read "
                "as UTF-8; export the file again in UTF-8"
            )
        before = turn.role
    if before != "assistant":
        raise ValueError(
            f"{where}: the conversation ends with {before or 'nothing'!r}, so there is "
            "no answer to learn; end it with an assistant's message"
        )


def _rows(path: Path) -> Iterator[tuple[int, Mapping]]:
    if path.suffix == ".jsonl":
        yield from numbered_lines(path)
        return
    if path.suffix != ".json":
        raise ValueError(f"{path}: unknown suffix {path.suffix!r}; use .jsonl or .json")
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not UTF-8 at byte {error.start}; convert the file, for example "
            "with iconv -f GB18030 -t UTF-8"
        ) from error
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}, line {error.lineno}: broken JSON ({error.msg} at column "
            f"{error.colno}); one record a line belongs into a .jsonl file"
        ) from error
    if not isinstance(rows, list):
        raise ValueError(f"{path}: a list of conversations was expected")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise ValueError(
                f"{path}, item {number}: expected an object, got {row!r:.40}"
            )
        yield number, row


def _instruction(
    row: Mapping, where: str, key: str, task: str, domain: str
) -> Instruction:
    messages = tuple(_messages(row, where))
    require_conversation(messages, where)
    named = {name: str(row.get(name) or default) for name, default in (
        ("id", key), ("task", task), ("domain", domain), ("source", key),
    )}  # fmt: skip
    if named["domain"] not in ("general", "finance"):
        raise ValueError(
            f"{where}: domain {named['domain']!r}; write general or finance, which the "
            "ratio sft.general_to_finance counts"
        )
    return Instruction(messages=messages, **named)


def _messages(row: Mapping, where: str) -> Iterator[ChatTurn]:
    """The turns of a row in any known form."""
    if "messages" in row:
        if row.get("system"):
            yield _turn("system", row["system"], where, 0)
        yield from _listed(row["messages"], "role", "content", where)
    elif "conversations" in row:
        if row.get("system"):
            yield _turn("system", row["system"], where, 0)
        yield from _listed(row["conversations"], "from", "value", where)
    elif "instruction" in row and "output" in row:
        yield from _alpaca(row, where)
    else:
        raise ValueError(
            f"{where}: fields {', '.join(sorted(row)) or '(none)'} are of no known "
            f"form; write {_KINDS}"
        )


def _listed(turns: object, role: str, text: str, where: str) -> Iterator[ChatTurn]:
    if not isinstance(turns, list) or not turns:
        raise ValueError(f"{where}: the conversation is no list, or an empty one")
    for number, turn in enumerate(turns, 1):
        if not isinstance(turn, Mapping) or role not in turn or text not in turn:
            raise ValueError(
                f"{where}, message {number}: expected an object with {role!r} and "
                f"{text!r}, got {turn!r:.60}"
            )
        yield _turn(turn[role], turn[text], where, number)


def _alpaca(row: Mapping, where: str) -> Iterator[ChatTurn]:
    if row.get("system"):
        yield _turn("system", row["system"], where, 0)
    history = row.get("history") or []
    for number, pair in enumerate(history, 1):
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError(
                f"{where}, history {number}: expected a pair of question and answer, "
                f"got {pair!r:.60}"
            )
        yield _turn("user", pair[0], where, 2 * number - 1)
        yield _turn("assistant", pair[1], where, 2 * number)
    last = 2 * len(history)
    asked = [row["instruction"], *([row["input"]] if row.get("input") else [])]
    for text in asked:
        _turn("user", text, where, last + 1)
    yield ChatTurn(role="user", content="\n".join(asked))
    yield _turn("assistant", row["output"], where, last + 2)


def _turn(role: object, content: object, where: str, number: int) -> ChatTurn:
    place = f"{where}, message {number}" if number else f"{where}, system"
    if role not in _ROLES:
        raise ValueError(
            f"{place}: unknown role {role!r}; use {', '.join(sorted(_ROLES))}"
        )
    if not isinstance(content, str):
        raise ValueError(
            f"{place}: text was expected, got {content!r:.60}; pictures and parts in "
            "lists are not read"
        )
    return ChatTurn(role=_ROLES[role], content=content)
