"""What the course asks of a chat model before and after PPO, all of it held out.

Notebook 08 asks it of its own models, the benchmark of those of several seeds.
"""

from finllm_utils.config import EvalsConfig
from finllm_utils.corpora.insurance import insurance_answers
from finllm_utils.corpora.laws import laws
from finllm_utils.corpora.splits import (
    HELDOUT_DOMAINS,
    heldout_documents,
    insurance_questions,
)
from finllm_utils.data.citations import ArticleBook
from finllm_utils.evals.acceptance.run import Scorer, Suite, following_scorer
from finllm_utils.evals.bits_per_byte import spread_sample
from finllm_utils.evals.choice import build_choice_items
from finllm_utils.evals.tasks.following import Reply, read_following
from finllm_utils.evals.tasks.safety import read_prompts, rule_judge
from finllm_utils.evals.tasks.stability import read_paraphrases
from finllm_utils.records import ChatTurn
from finllm_utils.rlhf.ppo import RewardFunction


def course_suite(
    cfg: EvalsConfig,
    reward: RewardFunction,
    *,
    window: int,
    max_new_tokens: int,
    seed: int,
) -> Suite:
    """Held-out documents, exams, safety prompts, questions and paraphrases.

    At most ``num_accept_items`` of each kind, and per domain of documents.
    Args: reward is the judge that PPO did not learn from; window is that of bits per
    byte, in tokens; the seed draws the options of the choice questions.
    """
    num = cfg.num_accept_items
    asked = insurance_questions("test")
    return Suite(
        documents={
            domain: spread_sample(heldout_documents(domain), num)
            for domain in HELDOUT_DOMAINS
        },
        choice_items=build_choice_items(
            asked, insurance_answers(), num, cfg.choice_tolerance, seed
        ),
        exams={"following": following_scorer(read_following(num))},
        safety=safety_scorer(num),
        questions=[question.zh for question in asked[:num]],
        book=ArticleBook(laws()),
        paraphrases=spread_sample(read_paraphrases(), num),
        reward=reward,
        window=window,
        batch_tokens=cfg.batch_tokens,
        max_new_tokens=max_new_tokens,
    )


def safety_scorer(num_items: int) -> Scorer:
    """1 for each safety prompt that the rules find handled."""
    items = spread_sample(read_prompts(), num_items)

    def ask(reply: Reply) -> list[float]:
        answers = reply([[ChatTurn(role="user", content=i.prompt)] for i in items])
        return [float(verdict.safe) for verdict in rule_judge(items, answers)]

    return ask
