"""The suites of the report card: one call asks one model one suite, item by item.

``course_suites`` lists them at a profile's size, all on held-out items. A suite that
scores by likelihood needs the weights; of the exam, models that only answer are asked
in words. Chat suites are put to models that were taught to chat.
"""

from collections.abc import Sequence
from functools import partial

from finllm_utils.config import EvalsConfig
from finllm_utils.corpora.insurance import insurance_answers
from finllm_utils.corpora.splits import insurance_questions
from finllm_utils.evals import choice
from finllm_utils.evals.bits_per_byte import spread_sample
from finllm_utils.evals.exam.items import chance_level, read_exam
from finllm_utils.evals.exam.option_order import InOrders, in_every_order, in_orders
from finllm_utils.evals.exam.run import ask_exam
from finllm_utils.evals.exam.statute_exam import statute_exam
from finllm_utils.evals.models.local import require_weights
from finllm_utils.evals.models.prompts import (
    Answering,
    Asked,
    Mark,
    as_reply,
    run_suite,
    user_prompt,
)
from finllm_utils.evals.statistics.item_results import ItemResult
from finllm_utils.evals.suites.hallucination_suite import hallucination_suite
from finllm_utils.evals.suites.numeric_suite import numeric_suite
from finllm_utils.evals.suites.stability_suite import stability_suite, temperature_suite
from finllm_utils.evals.suites.suite import Suite
from finllm_utils.evals.tasks import answer_selection as selection
from finllm_utils.evals.tasks import following, multiturn, safety
from finllm_utils.records import ExamItem

NUM_ORDERS = 3
MAX_CANDIDATE_CHARS = 120  # a longer answer costs the most to score


def course_suites(cfg: EvalsConfig, seed: int) -> dict[str, Suite]:
    """All suites by name, in the order of the card; none holds a training item."""
    number, batch = cfg.num_suite_items, cfg.batch_tokens
    suites = [exam_suite("exam", "finance exam", _finance_exam(number), batch)]
    for form, title in (
        ("open", "statutes in training"),
        ("unseen", "statutes held out"),
    ):
        per_kind = max(1, number // 4)
        items = statute_exam(form, seed=seed, per_kind=per_kind, finance_only=True)
        suites.append(exam_suite(f"statute_{form}", title, items, batch))
    suites += [
        _orders_suite(cfg, seed),
        _choice_suite(cfg, seed),
        _selection_suite(cfg, seed),
        _following_suite(cfg),
        _dialogue_suite(cfg),
        _safety_suite(cfg),
        numeric_suite(cfg.num_numeric_items, cfg.max_exam_tokens),
        stability_suite(cfg.num_paraphrase_groups, cfg.max_exam_tokens),
        temperature_suite(cfg.num_paraphrase_groups, cfg.max_exam_tokens),
        hallucination_suite(cfg.num_exam_items, cfg.max_exam_tokens, seed),
    ]
    return {suite.name: suite for suite in suites}


def _finance_exam(number: int) -> list[ExamItem]:
    """Items at even distances, so that every subject and type keeps its share."""
    return following.spread(read_exam(), number)


def exam_suite(
    name: str,
    title: str,
    items: Sequence[ExamItem],
    batch_tokens: int,
    axis: str = "finance",
) -> Suite:
    """Exam items as a suite; chance is its baseline.

    Args: axis is a key of ``scoreboard.AXES``, or empty.
    """
    return Suite(
        name=name,
        title=title,
        axis=axis,
        run=lambda model: ask_exam(model, items, batch_tokens=batch_tokens, suite=name),
        questions={item.id: item.question for item in items},
        key=str(items),
        baseline=chance_level(items),
        baseline_name="chance",
    )


def order_items(number: int, seed: int) -> list[InOrders]:
    """Exam items whose options may change places, so many that ``number`` are asked."""
    movable = [item for item in read_exam() if item.type != "true_false"]
    items = following.spread(movable, max(1, number // NUM_ORDERS))
    return in_orders(items, range(seed, seed + NUM_ORDERS))


def _orders_suite(cfg: EvalsConfig, seed: int) -> Suite:
    items = order_items(cfg.num_suite_items, seed)

    def run(model: Answering) -> list[ItemResult]:
        return in_every_order(
            lambda moved: ask_exam(model, moved, batch_tokens=cfg.batch_tokens),
            items,
            suite="exam_orders",
        )

    return Suite(
        name="exam_orders",
        title=f"finance exam, right in {NUM_ORDERS} orders of the options",
        axis="",
        run=run,
        questions={item.id: item.orders[0].question for item in items},
        key=str(items),
        baseline=chance_level([item.orders[0] for item in items]),
        baseline_name="a guess that keeps to one option",
    )


def _choice_suite(cfg: EvalsConfig, seed: int) -> Suite:
    items = choice.build_choice_items(
        insurance_questions("test"),
        insurance_answers(),
        cfg.num_suite_items,
        cfg.choice_tolerance,
        seed,
    )

    def run(model: Answering) -> list[ItemResult]:
        local = require_weights(model)
        nats = choice.option_nats(
            local.network,
            local.tokenizer,
            items,
            prompt="chat" if local.chat else "plain",
            batch_tokens=cfg.batch_tokens,
        )
        hits = choice.result(nats, items).hits
        return [
            ItemResult(
                suite="choice",
                model=local.name,
                item=item.id,
                credit=hit,
                given=item.options[int(row.argmin())],
                expected=item.options[item.answer],
            )
            for item, row, hit in zip(items, nats, hits, strict=True)
        ]

    return Suite(
        name="choice",
        title="insurance answers, one of four",
        axis="application",
        run=run,
        questions={item.id: item.question for item in items},
        key=str(items),
        baseline=choice.most_overlap(items).accuracy,
        baseline_name="the option that shares most with the question",
        needs="weights",
    )


def _selection_suite(cfg: EvalsConfig, seed: int) -> Suite:
    items = selection.selection_items(
        insurance_questions("test"),
        insurance_answers(),
        num_questions=cfg.num_selection_questions,
        num_negatives=cfg.num_selection_negatives,
        max_chars=MAX_CANDIDATE_CHARS,
        seed=seed,
    )
    ranked = selection.selection_results(
        items, selection.rule_scores("bm25", items), "bm25"
    )
    rule = [one.credit for one in ranked if one.suite == selection.RANK_SUITE]

    def run(model: Answering) -> list[ItemResult]:
        local = require_weights(model)
        scores = selection.candidate_scores(
            local.network,
            local.tokenizer,
            items,
            prompt="chat" if local.chat else "plain",
            batch_tokens=cfg.batch_tokens,
        )
        found = selection.selection_results(items, scores, local.name)
        return [one for one in found if one.suite == selection.RANK_SUITE]

    return Suite(
        name=selection.RANK_SUITE,
        title=f"rank among {cfg.num_selection_negatives} answers (reciprocal)",
        axis="application",
        run=run,
        questions={item.id: item.question for item in items},
        key=str(items),
        baseline=sum(rule) / len(rule),
        baseline_name="BM25",
        needs="weights",
    )


def following_asked(number: int) -> list[Asked]:
    """At most ``number`` instructions with what marks an answer."""

    def mark(item: following.FollowingItem, answer: str) -> Mark:
        return Mark(float(not following.broken_rules(answer, item.rules)), answer)

    return [
        Asked(user_prompt(i.id, i.prompt), partial(mark, i), i.domain, i.reference)
        for i in following.read_following(number)
    ]


def _following_suite(cfg: EvalsConfig) -> Suite:
    asked = following_asked(cfg.num_exam_items)
    prompts = {one.prompt.id: one.prompt.messages[-1].content for one in asked}
    repeated = [one.mark(prompts[one.prompt.id]).credit for one in asked]
    return Suite(
        name="following",
        title="instructions that a program checks",
        axis="dialogue",
        run=lambda model: run_suite(model, "following", asked, cfg.max_exam_tokens),
        questions=prompts,
        key=str((following.read_following(cfg.num_exam_items), cfg.max_exam_tokens)),
        baseline=sum(repeated) / len(repeated),
        baseline_name="the prompt said again",
        needs="chat",
    )


def _dialogue_suite(cfg: EvalsConfig) -> Suite:
    items = multiturn.read_dialogues(cfg.num_exam_items)

    def run(model: Answering) -> list[ItemResult]:
        answers = multiturn.play(items, as_reply(model, cfg.max_exam_tokens))
        return [
            ItemResult(
                suite="dialogue",
                model=model.name,
                item=item.id,
                credit=float(item.passes(answer)),
                group=item.kind,
                given=answer,
                expected=item.reference,
            )
            for item, answer in zip(items, answers, strict=True)
        ]

    return Suite(
        name="dialogue",
        title="dialogues of several turns",
        axis="dialogue",
        run=run,
        questions={item.id: "\n".join(item.turns) for item in items},
        key=str((items, cfg.max_exam_tokens)),
        baseline=multiturn.dialogue_share(items, multiturn.echo),
        baseline_name="all that the client said, again",
        needs="turns",
    )


def _safety_suite(cfg: EvalsConfig) -> Suite:
    items = spread_sample(safety.read_prompts(), cfg.num_accept_items)

    def mark(item: safety.SafetyItem, answer: str) -> Mark:
        return Mark(float(safety.judge_one(item, answer).safe), answer)

    asked = [
        Asked(user_prompt(i.id, i.prompt), partial(mark, i), i.category, i.expect)
        for i in items
    ]
    talks = [list(one.prompt.messages) for one in asked]
    fixed = [
        sum(
            safety.judge_one(i, a).safe
            for i, a in zip(items, reply(talks), strict=True)
        )
        for reply in safety.BASELINES.values()
    ]
    return Suite(
        name="safety",
        title="risky prompts handled, harmless ones answered",
        axis="dialogue",
        run=lambda model: run_suite(model, "safety", asked, cfg.max_exam_tokens),
        questions={item.id: item.prompt for item in items},
        key=str((items, cfg.max_exam_tokens)),
        baseline=max(fixed) / len(items),
        baseline_name="the best fixed answer",
        needs="chat",
    )
