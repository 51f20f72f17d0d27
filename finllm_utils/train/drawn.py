"""The text that a pass of the loop really reads: what a baseline may know."""

from pathlib import Path

import torch

from finllm_utils.config import PretrainConfig
from finllm_utils.train.mixture import DOMAINS, RowSampler
from finllm_utils.train.rows import MixedRows


def drawn_token_ids(
    bins: Path,
    cfg: PretrainConfig,
    *,
    bos_id: int,
    seed: int,
    tokens: int | None = None,
) -> dict[str, list[list[int]]]:
    """Token ids by domain that ``pretrain`` with the same arguments reads.

    Rows are cut at each BOS: a count model sees documents start where the model does.
    It follows the plan, not what ``react_to_loss`` made of it. ``tokens`` cuts it where
    a pass that met a plateau ended; a pass of no steps reads nothing.
    """
    segments: dict[str, list[list[int]]] = {domain: [] for domain in DOMAINS}
    num_rows = cfg.num_steps * cfg.global_batch_size
    if not num_rows:
        return segments
    plan = RowSampler(cfg, num_rows, seed)
    rows = MixedRows(bins, plan, cfg.seq_len, seed, cfg.document_order)
    if tokens is not None:
        num_rows = min(num_rows, tokens // cfg.seq_len)
    for i in range(num_rows):
        row = rows.batch(i, 1)[0]
        cuts = torch.nonzero(row == bos_id).flatten().tolist()
        edges = sorted({0, *cuts, len(row)})
        parts = zip(edges[:-1], edges[1:], strict=True)
        domain = DOMAINS[rows.domains(i, 1)[0]]
        segments[domain] += [row[a:b].tolist() for a, b in parts]
    return segments
