"""lm-eval on exported tasks, for the tests, and the suites that they came from."""

from dataclasses import replace

import lm_eval
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from finllm_utils.evals.statistics.item_results import suite_score
from finllm_utils.evals.suites import course as suites
from finllm_utils.profiles import load_profile

SMALL = replace(
    load_profile("toy").evals, num_curve_documents=2, num_suite_items=12,
    num_selection_questions=2, num_selection_negatives=3, num_exam_items=16,
    num_accept_items=16, num_numeric_items=4, num_paraphrase_groups=4,
    max_exam_tokens=6,
)  # fmt: skip


def run(folder, names, model, tokenizer, **options):
    """lm-eval's results and its records of items, by task."""
    known = {k: options.pop(k) for k in ("add_bos_token", "max_length") if k in options}
    hf = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=3, **known)
    return run_lm(folder, names, hf, **options)


def run_lm(folder, names, model, **options):
    """The same for a model that lm-eval knows."""
    found = lm_eval.simple_evaluate(
        model=model,
        tasks=names,
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
        **options,
    )
    return found["results"], found["samples"]


def course_suites(cfg):
    """Our suites by the name that they are exported under."""
    found = suites.course_suites(cfg, seed=0)
    return {name.partition(".")[0]: suite for name, suite in found.items()}


def credit(results):
    """Our figure of a suite."""
    return suite_score(results, num_bootstrap=2, seed=0).value


def figure(exported, results):
    """lm-eval's figure of an exported suite, the one that stands on the card."""
    rank = "reciprocal_rank"
    metrics = exported.kind.metrics
    metric = rank if rank in metrics else metrics[0]
    return results[exported.name][f"{metric},none"]
