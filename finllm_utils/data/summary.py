"""What notebook 01 says about a finished run: its cost at scale, and examples."""

import os.path
from collections.abc import Iterable, Mapping

from finllm_utils.data.shingles import jaccard, shingle_set
from finllm_utils.records import Document

_LEAD = 10  # characters shown ahead of the first difference
LEFT_OUT = (
    "the memory of dedup, whose tasks hold the columns of a class; reading and moving "
    "the files; tasks that wait or are started again"
)


def cost_estimate(rate_mb_per_s_core: float, terabytes: float = 10) -> dict:
    """Core-hours to clean ``terabytes`` of text, and hours on 64 and 2,000 cores.

    Args: rate_mb_per_s_core is the measured speed of one core in MB (10^6 bytes) of
    UTF-8 text a second; terabytes are of 10^12 bytes.
    Returns: core_hours, hours_64_cores, hours_2000_cores, and left_out, which says what
    the figures do not hold. They assume that speed grows with the cores.
    Raises: ValueError unless both numbers are above 0.
    """
    if rate_mb_per_s_core <= 0 or terabytes <= 0:
        raise ValueError(
            f"rate_mb_per_s_core={rate_mb_per_s_core} and terabytes={terabytes} must "
            "be above 0; measure the rate on one core first"
        )
    core_hours = terabytes * 1e6 / rate_mb_per_s_core / 3_600
    return {
        "core_hours": core_hours,
        "hours_64_cores": core_hours / 64,
        "hours_2000_cores": core_hours / 2_000,
        "left_out": LEFT_OUT,
    }


def examples_before_after(
    before: Mapping[str, str],
    kept: Iterable[Document],
    *,
    count: int = 3,
    width: int = 80,
) -> list[dict]:
    """The ``count`` kept documents whose text changed most, most first.

    Args: before is the text by document id as it was read; others are passed over.
    Returns: rows with id, changed (1 minus the Jaccard similarity of their shingles)
    and ``width`` characters before and after, on one line, from a little ahead of where
    the two begin to differ.
    """
    rows = []
    for document in kept:
        if document.id not in before:
            continue
        old, new = (" ".join(t.split()) for t in (before[document.id], document.text))
        start = max(len(os.path.commonprefix([old, new])) - _LEAD, 0)
        similarity = jaccard(shingle_set(old, 5), shingle_set(new, 5))
        rows.append(
            {
                "id": document.id,
                "changed": 1 - similarity,
                "before": old[start : start + width],
                "after": new[start : start + width],
            }
        )
    return sorted(rows, key=lambda row: (-row["changed"], row["id"]))[:count]
