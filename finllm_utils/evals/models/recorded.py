"""Outputs of a model that were recorded elsewhere, as one more model of the table.

``write_prompts`` writes what a suite asks; whoever runs the model puts a line
{"id": ..., "text": ...} for each into a JSONL file, with prompt_sha256 copied, if the
record shall be refused for another wording of the item.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from finllm_utils.data.chat_source import request_sha256
from finllm_utils.data.instruction_formats import require_new_id
from finllm_utils.evals.models.prompts import Failure, Prompt
from finllm_utils.files import atomic_file
from finllm_utils.records import numbered_lines

_FIELDS = {"id", "text", "prompt_sha256"}


def write_prompts(path: Path, prompts: Sequence[Prompt]) -> None:
    """Writes id, messages and prompt_sha256 of each prompt, one JSON object a line."""
    with atomic_file(path) as handle:
        for prompt in prompts:
            row = {
                "id": prompt.id,
                "messages": [asdict(turn) for turn in prompt.messages],
                "prompt_sha256": request_sha256(prompt.messages),
            }
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")


class Recorded:
    """Replays a file of outputs; see ``prompts.Answering``."""

    def __init__(self, name: str, path: Path | str) -> None:
        """Reads the file.

        Raises: ValueError naming file and line for an unknown or missing field, a text
        that is none, or an id that stands twice.
        """
        self.name, self._path = name, Path(path)
        self._rows: dict[str, dict] = {}
        seen: dict[str, str] = {}
        for number, row in numbered_lines(self._path):
            where = f"{path}, line {number}"
            if not {"id", "text"} <= set(row) <= _FIELDS:
                raise ValueError(
                    f"{where}: fields {', '.join(row)}; a record has id and text, and "
                    "may have prompt_sha256"
                )
            if not isinstance(row["text"], str | None) or not isinstance(
                row["id"], str
            ):
                raise ValueError(f"{where}: id and text must be text (or text null)")
            require_new_id(row["id"], where, seen)
            self._rows[row["id"]] = row

    def answers(
        self, prompts: Sequence[Prompt], max_new_tokens: int
    ) -> list[str | Failure]:
        """The recorded texts, as long as they are; max_new_tokens cuts nothing."""
        return [self._answer(prompt) for prompt in prompts]

    def _answer(self, prompt: Prompt) -> str | Failure:
        row = self._rows.get(prompt.id)
        if row is None:
            return Failure(f"no output recorded for this item in {self._path}")
        digest = row.get("prompt_sha256")
        if digest and digest != request_sha256(prompt.messages):
            return Failure("the recorded output answers another wording of this item")
        if row["text"] is None or not row["text"].strip():
            return Failure("the recorded output is empty")
        return row["text"]
