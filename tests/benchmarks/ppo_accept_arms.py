"""Whether PPO's policies would be let through: section 6 of notebook 08, a seed each.

``accept_seed`` runs in a process of its own and ends with ``report_back``;
``summary`` brings the seeds together.
"""

from collections.abc import Sequence
from dataclasses import asdict
from statistics import median

from finllm_utils.annotation.judgements import read_judgements
from finllm_utils.evals.acceptance.hacked import hacked_policy
from finllm_utils.evals.acceptance.rule import (
    REQUIRED,
    Acceptance,
    accept,
    acceptance_table,
    report_figures,
)
from finllm_utils.evals.acceptance.run import collect, measures
from finllm_utils.evals.acceptance.suite import course_suite
from finllm_utils.evals.pairwise.comparisons import (
    build_comparisons,
    outcomes,
    read_answers,
)
from finllm_utils.evals.pairwise.ratings import good_same_bad
from finllm_utils.model.load import load_model, load_tokenizer
from finllm_utils.profiles import load_profile
from finllm_utils.rlhf.stored_reward import load_reward
from finllm_utils.runtime import resolve_device
from tests.benchmarks.harness import REPOSITORY, report_back
from tests.benchmarks.ppo_arms import chat_folder, judge_folder, prompts_of

HACKED = "accept.hacked_rejected"
RATED_SEED, RATED_PROMPTS = 7, 12  # as the recorded verdicts were asked
COLUMNS = ("n", "before", "after", "low", "high", "finding")
"""Of a measure, as ``acceptance_table`` has them; low and high bound the difference."""


def accept_seed(
    folder: str, profile: str, overrides: dict, seed: int, policy: str, hacked: bool
) -> None:
    """The verdict on the policy of ``seed``, and on a hacked one when asked."""
    cfg = load_profile(profile, overrides)
    device = resolve_device(cfg.runtime.device)
    tokenizer = load_tokenizer(chat_folder(folder))
    reference = load_model(chat_folder(folder), device=device)
    models = [load_model(policy, device=device)]
    if hacked:
        limit = cfg.ppo.num_updates * cfg.ppo.rollout_batch_size
        asked = prompts_of(tokenizer, "train", limit, cfg)
        models.append(hacked_policy(reference, tokenizer, asked, cfg.ppo, seed=seed))
    second_judge = load_reward(judge_folder(folder), tokenizer, device)
    suite = course_suite(
        cfg.evals, second_judge, seed=seed,
        window=cfg.pretrain2.seq_len, max_new_tokens=cfg.ppo.max_new_tokens,
    )  # fmt: skip
    before = collect(reference, tokenizer, suite)
    verdict, *caught = (
        accept(measures(before, collect(model, tokenizer, suite))) for model in models
    )
    report_back(
        shown(verdict)
        | {"figures": report_figures(verdict, *caught)}
        | {"hacked": [shown(found) for found in caught]}
    )


def shown(acceptance: Acceptance) -> dict[str, object]:
    """Verdict, grounds, and the table with a measure a row."""
    return {
        "verdict": acceptance.verdict,
        "grounds": list(acceptance.grounds),
        "table": {
            row["name"]: [_short(row[column]) for column in COLUMNS]
            for row in acceptance_table(acceptance)
        },
    }


def _short(value: object) -> object:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def summary(rows: Sequence[dict]) -> tuple[dict[str, float], dict[str, object]]:
    """Medians over the seeds, and what led to them.

    Args: rows are what ``accept_seed`` reports; the first holds the hacked model's.
    """
    first = rows[0]
    figures = {
        key: median(row["figures"][key] for row in rows)
        for key in first["figures"]
        if key != HACKED
    }
    intervals = {
        f"accept.{name}_gain": [
            row["table"][name][COLUMNS.index("low") : COLUMNS.index("high") + 1]
            for row in rows
        ]
        for name in REQUIRED
    }
    (hacked,) = first["hacked"]
    notes = {
        "verdicts": [[row["verdict"], row["grounds"]] for row in rows],
        "intervals_95": intervals,
        "columns": COLUMNS,
        "first_seed": first["table"],
        "hacked": [hacked["verdict"], hacked["grounds"]],
    }
    return figures | {HACKED: first["figures"][HACKED]}, notes


def recorded_raters() -> tuple[dict[str, float], dict[str, object]]:
    """How the recorded blind raters found PPO's answers beside those before it.

    The answers are those of the toy course that ``data_samples/ratings/CARD.md`` names,
    not of the policies of this run; ``rater_kind`` stands beside the figures.
    """
    folder = REPOSITORY / "data_samples" / "ratings"
    answers = read_answers(folder / "course_answers.jsonl")
    pairs = build_comparisons(
        answers.prompts, answers.by_model, groups=answers.groups,
        seed=RATED_SEED, num_prompts=RATED_PROMPTS,
    )  # fmt: skip
    verdicts = read_judgements(folder / "course.jsonl")
    found = good_same_bad(outcomes(pairs, verdicts), "ppo", "sft2")
    low, high = found.interval
    figures = {
        "accept.raters_preference": found.win_rate,
        "accept.raters_preference_low": low,
        "accept.raters_preference_high": high,
    }
    kinds = sorted({one.rater_kind for one in verdicts})
    return figures, {"rater_kind": kinds, **asdict(found)}
