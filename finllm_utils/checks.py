"""What the course's report is held against: checks that must hold, targets that should.

A check that fails is a defect and fails the build. A target prints HOLDS or SHORT with
its value and its baselines, and never stops anything.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Values = Mapping[str, float]
DOMAINS = ("general_zh", "finance_zh", "english")
MODELS = (
    "unigram", "bigram", "base", "expanded", "stage1", "stage2", "sft1", "sft2", "ppo",
)  # fmt: skip

SPINE_KEYS = (
    "course.seconds",
    "course.peak_rss_mb",
    *(f"cleaning.{k}" for k in ("docs_in", "docs_out", "retained_ratio")),
    *(f"cleaning.planted_{k}" for k in ("duplicates_found", "pii_left")),
    *(f"vocab.size_{k}" for k in ("before", "after")),
    *(f"vocab.tokens_per_char_{k}" for k in ("before", "after")),
    "vocab.token_ratio",
    "vocab.english_ids_equal",
    *(f"bpb.{model}.{domain}" for model in MODELS for domain in DOMAINS),
    *(f"mix.{kind}.{domain}" for kind in ("planned", "drawn") for domain in DOMAINS),
    "stage1.frozen_tensors_equal",
    *(f"sft.choice_accuracy.{model}" for model in ("stage2", "sft1", "sft2")),
    "sft.choice_shortest",
    *(f"rm.accuracy_{k}" for k in ("hard", "hard_low", "random")),
    *(f"rm.{k}" for k in ("length_only", "question_blind", "overlap")),
    *(f"ppo.reward_gain_{k}" for k in ("std", "length_adjusted")),
    "ppo.kl_nats",
    "ppo.length_before",
    "ppo.length_after",
    "hub.numeric_exact",
    *(f"throughput.{k}" for k in ("pretrain_tokens_per_s", "matmul_peak_tflops")),
)
"""Keys that a whole run of 00 to 10 must report, each a finite number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One statement on the report. ``stage``: the notebook that completes its keys."""

    id: str
    stage: str
    keys: tuple[str, ...]
    holds: Callable[[Values], bool]
    beside: tuple[str, ...] = ()  # baselines shown with the value
    after: tuple[str, ...] = ()  # not measured before these are in the report either
    applies: Callable[[Values], bool] = lambda values: True

    def verdict(self, values: Values, *, short: str = "FAILS") -> str:
        """HOLDS, ``short``, "not measured" (a key is missing), or "does not apply"."""
        if any(key not in values for key in self.keys + self.after):
            return "not measured"
        if not self.applies(values):
            return "does not apply"
        return "HOLDS" if self.holds(values) else short

    def text(self, values: Values) -> str:
        """The values behind the verdict, then the baselines."""
        shown = [f"{k}={format_value(values[k])}" for k in self.keys if k in values]
        beside = [f"{k}={format_value(values[k])}" for k in self.beside if k in values]
        return ", ".join(shown) + (f" (beside {', '.join(beside)})" if beside else "")


def format_value(value: object) -> str:
    """A report value in at most five significant digits."""
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.5g}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _below(stage: str, text: str, key: str, factor: float, other: str) -> Check:
    return Check(
        id=text,
        stage=stage,
        keys=(key, other),
        holds=lambda v: v[key] <= factor * v[other],
    )


_COURSE_VOCABULARY = {
    "vocab.strategy": "characters",
    "vocab.base": "mistral-v1",
    "vocab.charset": "standard-8105",
}


def _grew_as_the_course(values: Values) -> bool:
    """Whether mistral-v1 was grown by the standard characters; unsaid means yes."""
    return _COURSE_VOCABULARY.items() <= (_COURSE_VOCABULARY | dict(values)).items()


def _is_true(value: object) -> bool:
    return value is True or value == 1


CHECKS = (
    Check(
        id="all planted near-duplicates are removed",
        stage="01",
        keys=("cleaning.planted_duplicates_found",),
        holds=lambda v: v["cleaning.planted_duplicates_found"] == 1,
    ),
    Check(
        id="no planted personal data is left",
        stage="01",
        keys=("cleaning.planted_pii_left",),
        holds=lambda v: v["cleaning.planted_pii_left"] == 0,
    ),
    Check(
        id="at least 95% of the clean gold documents are kept",
        stage="01",
        keys=("cleaning.clean_kept",),
        holds=lambda v: v["cleaning.clean_kept"] >= 0.95,
        beside=("cleaning.originals_kept",),  # strict: the original file itself
    ),
    Check(
        id="the vocabulary has 38,500 to 39,500 pieces",
        stage="02",
        keys=("vocab.size_after",),
        holds=lambda v: 38_500 <= v["vocab.size_after"] <= 39_500,
        applies=_grew_as_the_course,
    ),
    Check(
        id="Chinese takes at most 0.93 of the tokens it took",
        stage="02",
        keys=("vocab.token_ratio",),
        holds=lambda v: v["vocab.token_ratio"] <= 0.93,
        applies=_grew_as_the_course,
    ),
    Check(
        id="token ids of English text are unchanged",
        stage="02",
        keys=("vocab.english_ids_equal",),
        holds=lambda v: _is_true(v["vocab.english_ids_equal"]),
    ),
    Check(
        id="frozen tensors are bit-identical after stage 1",
        stage="03",
        keys=("stage1.frozen_tensors_equal",),
        holds=lambda v: _is_true(v["stage1.frozen_tensors_equal"]),
    ),
    *(
        Check(
            id=f"stage 2 beats the character unigram model on {domain}",
            stage="04",
            keys=(f"bpb.stage2.{domain}", f"bpb.unigram.{domain}"),
            holds=lambda v, d=domain: v[f"bpb.stage2.{d}"] < v[f"bpb.unigram.{d}"],
        )
        for domain in ("general_zh", "finance_zh")
    ),
    _below(
        "04",
        "English after stage 2 is at most 1.10 of the base",
        "bpb.stage2.english",
        1.10,
        "bpb.base.english",
    ),
    Check(
        id="the hub answers every numeric question exactly",
        stage="10",
        keys=("hub.numeric_exact",),
        holds=lambda v: v["hub.numeric_exact"] == 1,
    ),
)

TARGETS = (
    Check(
        id="finance_zh after stage 2 is halfway from unigram to bigram",
        stage="04",
        keys=(
            "bpb.stage2.finance_zh",
            "bpb.unigram.finance_zh",
            "bpb.bigram.finance_zh",
        ),
        holds=lambda v: (
            v["bpb.stage2.finance_zh"]
            <= (v["bpb.unigram.finance_zh"] + v["bpb.bigram.finance_zh"]) / 2
        ),
    ),
    Check(
        id="SFT lowers the loss of held-out answers (nats a token)",
        stage="06",
        keys=("sft.heldout_answer_nats.sft2", "sft.heldout_answer_nats.stage2"),
        holds=lambda v: (
            v["sft.heldout_answer_nats.sft2"] < v["sft.heldout_answer_nats.stage2"]
        ),
        beside=("sft.heldout_answer_nats.sft1",),
    ),
    Check(
        id="SFT raises choice accuracy over stage 2 and over the shortest option",
        stage="09",
        keys=(
            "sft.choice_accuracy.sft2",
            "sft.choice_accuracy.stage2",
            "sft.choice_shortest",
        ),
        holds=lambda v: (
            v["sft.choice_accuracy.sft2"]
            > max(v["sft.choice_accuracy.stage2"], v["sft.choice_shortest"])
        ),
        beside=("sft.choice_accuracy.sft1",),
    ),
    Check(
        id="reward model above chance on hard pairs (95% lower bound)",
        stage="07",
        keys=("rm.accuracy_hard_low",),
        holds=lambda v: v["rm.accuracy_hard_low"] > 0.5,
        beside=(
            "rm.accuracy_hard",
            "rm.length_only",
            "rm.question_blind",
            "rm.overlap",
        ),
    ),
    Check(
        id="reward model right on four of five of our own value pairs",
        stage="07",
        keys=("rm.accuracy_values",),
        holds=lambda v: v["rm.accuracy_values"] >= 0.8,
        beside=("rm.accuracy_values_low", "rm.values_by_wording", "rm.pairs_values"),
    ),
    Check(
        id="PPO gains 0.8 standard deviations of reward within 10 nats of KL",
        stage="08",
        keys=("ppo.reward_gain_std", "ppo.kl_nats"),
        holds=lambda v: v["ppo.reward_gain_std"] >= 0.8 and v["ppo.kl_nats"] <= 10,
        beside=("ppo.length_before", "ppo.length_after"),
    ),
    Check(
        id="a judge that PPO never saw agrees, and so do both with length taken out",
        stage="08",
        keys=(
            "ppo.heldout_rm_gain",
            "ppo.heldout_rm_gain_length_adjusted",
            "ppo.reward_gain_length_adjusted",
        ),
        holds=lambda v: (
            v["ppo.heldout_rm_gain"] > 0
            and v["ppo.heldout_rm_gain_length_adjusted"] > 0
            and v["ppo.reward_gain_length_adjusted"] > 0
        ),
        beside=("rm.judge_accuracy_hard", "rm.judge_agreement"),
    ),
    *(
        _below(
            "09",
            f"PPO costs at most 2% of bits per byte on {domain}",
            f"bpb.ppo.{domain}",
            1.02,
            f"bpb.sft2.{domain}",
        )
        for domain in DOMAINS
    ),
    Check(
        id="acceptance rejects a model hacked on purpose",
        stage="08",
        keys=("accept.hacked_rejected",),
        holds=lambda v: v["accept.hacked_rejected"] == 1,
        beside=(
            "accept.verdict",
            "accept.safety_gain",
            "accept.helpfulness_gain",
            "accept.stability_gain",
        ),
    ),
    Check(
        id="the whole course takes at most 1,140 s on two AMX cores",
        stage="10",
        keys=("course.seconds",),
        after=("hub.numeric_exact",),
        holds=lambda v: v["course.seconds"] <= 1_140,
    ),
    Check(
        id="peak memory is at most 6 GB",
        stage="10",
        keys=("course.peak_rss_mb",),
        after=("hub.numeric_exact",),
        holds=lambda v: v["course.peak_rss_mb"] <= 6_144,
    ),
    Check(
        id="a second run takes at most 20 s",
        stage="10",
        keys=("course.second_run_seconds",),
        after=("hub.numeric_exact",),
        holds=lambda v: v["course.second_run_seconds"] <= 20,
    ),
)


def missing_spine_keys(values: Mapping[str, object]) -> list[str]:
    """Spine keys that are absent or no finite number (or truth value)."""
    return [
        key
        for key in SPINE_KEYS
        if not isinstance(values.get(key), (int, float))
        or not math.isfinite(values[key])
    ]
