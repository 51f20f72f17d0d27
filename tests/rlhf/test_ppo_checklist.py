"""The 36 details of PPO for language models, each with what covers it.

Sources: vwxyzjn/summarize_from_feedback_details, TRL 1.12's ppo_config.py, OpenRLHF,
"The N implementation details of RLHF with PPO", MOSS PPO-max, arXiv 2503.01491. What a
user would turn is a setting; the rest is a constant that a test names.
"""

import ast
import dataclasses
import inspect
from pathlib import Path
from typing import NamedTuple

import pytest

from finllm_utils import config_train
from finllm_utils.config import PPOConfig
from finllm_utils.dependencies import REPOSITORY
from finllm_utils.profiles import load_profile

HERE = Path(__file__).parent


class Point(NamedTuple):
    detail: str
    settings: tuple[str, ...]
    """In ``ppo`` unless another section is named."""
    tests: tuple[str, ...]
    """``file::test``, the file without ``test_`` and suffix."""


POINTS = {
    1: Point("Adam eps 1e-5", (), ("ppo_constants::test_adam_has_the_eps_of_tensorflow",)),
    2: Point(
        "learning rates of actor and critic",
        ("learning_rate", "critic_learning_rate"),
        ("ppo_options::test_the_policys_schedule_begins_when_the_critic_has_warmed_up",),
    ),
    3: Point(
        "linear schedule to 0, warm-up, betas, no weight decay",
        ("warmup_share",),
        (
            "ppo_options::test_warmup_and_decay_by_hand",
            "ppo_options::test_rates_without_warmup_are_those_of_torchs_schedule_to_the_bit",
            "ppo_constants::test_adam_betas_and_no_weight_decay",
        ),
    ),
    4: Point("no dropout", (), ("ppo_constants::test_dropout_is_off_in_every_network",)),
    5: Point(
        "padding is not EOS",
        (),
        (
            "guards::test_eos_as_padding_and_missing_pad",
            "ppo::test_broken_rewards_and_tokens_are_named",
        ),
    ),
    6: Point(
        "queries padded left, the reward model's input right; positions; masked ids",
        (),
        (
            "rollout::test_left_pad_and_positions",
            "rollout::test_left_padding_changes_no_logprob",
            "reward_model::test_scores_equal_transformers_and_keep_order",
            "ppo_constants::test_what_stands_in_padding_does_not_matter",
        ),
    ),
    7: Point(
        "sampling temperature; neither top-k nor top-p",
        ("temperature",),
        ("rollout::test_sampled_shares_match_the_distribution",),
    ),
    8: Point(
        "one temperature in all log-probabilities",
        ("temperature",),
        (
            "ppo_constants::test_one_temperature_for_sampling_policy_and_reference",
            "rollout::test_left_padding_changes_no_logprob",
        ),
    ),
    9: Point(
        "old log-probabilities recomputed by the training forward",
        (),
        ("ppo_constants::test_old_logprobs_come_from_the_training_forward",),
    ),
    10: Point(
        "frozen reference; k1 a token in the reward; k3 logged",
        ("kl_coef",),
        (
            "ppo_constants::test_the_reference_is_frozen",
            "ppo::test_reward_is_paid_at_the_last_token_and_kl_everywhere",
            "losses::test_kl_estimators_on_known_distributions",
        ),
    ),
    11: Point(
        "adaptive KL coefficient",
        ("kl_target", "kl_horizon"),
        (
            "kl_control::test_adaptive_kl_by_hand",
            "kl_control::test_the_error_is_clipped_at_a_fifth",
            "kl_control::test_a_run_follows_the_controller",
        ),
    ),
    12: Point(
        "score at the last real token only (there EOS, one column before TRL's)",
        (),
        ("ppo::test_reward_is_paid_at_the_last_token_and_kl_everywhere",),
    ),
    13: Point(
        "cut after EOS; the value after the last token is 0 and needs no mask",
        (),
        (
            "rollout::test_mask_after_eos",
            "rollout::test_tokens_after_eos_become_padding",
            "rollout::test_critic_reads_the_state_before_each_token",
            "advantages::test_gae_ignores_padding_after_the_response",
        ),
    ),
    14: Point(
        "a response without EOS is fined",
        ("missing_eos_penalty",),
        ("ppo::test_reward_is_paid_at_the_last_token_and_kl_everywhere",),
    ),
    15: Point(
        "scores in deviations of SFT samples",
        ("reward.num_sft_samples",),
        ("reward_model::test_stats_round_trip_and_refuse_a_constant_reward",),
    ),
    16: Point(
        "reward clip",
        ("reward_clip",),
        ("ppo::test_reward_is_paid_at_the_last_token_and_kl_everywhere",),
    ),
    17: Point(
        "reward whitening without shift",
        ("whiten_rewards",),
        (
            "advantages::test_reward_whitening_keeps_the_mean_by_hand",
            "ppo_options::test_whitened_rewards_reach_the_advantages",
        ),
    ),
    18: Point(
        "advantages whitened over the tokens of all processes, eps 1e-8",
        (),
        (
            "advantages::test_whiten_uses_valid_tokens_only",
            "advantages::test_equal_values_whiten_to_zero",
            "ppo_processes::test_the_steps_of_two_processes_are_those_of_one",
            "ppo_processes::test_whitening_each_half_alone_would_differ",
        ),
    ),
    19: Point(
        "gamma and lambda",
        ("gamma", "gae_lambda"),
        ("advantages::test_gae_on_three_steps_by_hand",),
    ),
    20: Point(
        "policy clip, dual clip, clamp of log-ratios",
        ("clip_range", "dual_clip"),
        (
            "losses::test_policy_loss_by_hand",
            "losses::test_dual_clip_by_hand",
            "losses::test_log_ratios_are_clamped_at_20",
            "ppo_options::test_dual_clip_reaches_the_loss",
        ),
    ),
    21: Point(
        "value clip and the value loss's weight; half of the larger",
        ("value_clip_range", "vf_coef"),
        ("losses::test_value_loss_by_hand",),
    ),
    22: Point(
        "means over all valid tokens of a step",
        (),
        (
            "losses::test_micro_batches_sum_to_the_whole_batch",
            "ppo_processes::test_the_steps_of_two_processes_are_those_of_one",
        ),
    ),
    23: Point("passes and mini-batches", ("num_ppo_epochs", "num_mini_batches"), ()),
    24: Point("rollout batch", ("rollout_batch_size",), ()),
    25: Point("response length and episodes", ("max_new_tokens", "num_updates"), ()),
    26: Point(
        "the critic starts from the reward model, or at 0; the head's deviation",
        (),
        (
            "ppo::test_critic_is_a_copy",
            "ppo_options::test_a_fresh_critic_begins_at_zero_and_learns",
            "reward_model::test_start_is_seeded_and_keeps_the_language_model",
        ),
    ),
    27: Point(
        "critic warm-up",
        ("critic_warmup_updates",),
        ("ppo_options::test_critic_warmup_leaves_the_policy_as_it_was",),
    ),
    28: Point(
        "separate networks that step together",
        (),
        ("ppo_constants::test_policy_and_critic_share_no_weight_and_step_together",),
    ),
    29: Point(
        "gradient norm",
        ("max_grad_norm",),
        ("ppo_constants::test_gradient_norms_are_clipped_network_by_network",),
    ),
    30: Point(
        "no entropy bonus; entropy, length and variety logged",
        (),
        ("ppo_constants::test_entropy_is_watched_and_not_rewarded",),
    ),
    31: Point(
        "early stop inside the passes at 1.5 times a KL",
        ("early_stop_kl",),
        (
            "ppo_options::test_early_stop_by_hand",
            "ppo_options::test_early_stop_never_stops_before_the_first_step",
            "ppo_options::test_early_stop_holds_a_real_run_nearer",
        ),
    ),
    32: Point(
        "PPO-ptx",
        ("ptx_coef", "ptx_batch_size", "ptx_seq_len"),
        (
            "ppo_options::test_ptx_gradient_equals_plain_cross_entropy",
            "ppo_options::test_ptx_adds_its_weighted_gradient_to_the_policys",
            "ppo_options::test_ptx_holds_the_texts_loss_down_in_a_run",
        ),
    ),
    33: Point(
        "one order of prompts on all processes, samples of their own",
        (),
        (
            "ppo_processes::test_sampling_seeds_differ_between_updates_and_processes",
            "ppo_processes::test_two_processes_stay_equal_sample_apart_and_resume",
            "ppo_processes::test_ranks_sample_the_same_prompts_differently",
        ),
    ),
    34: Point(
        "the first mini-batch's ratio is 1",
        (),
        (
            "ppo_constants::test_first_ratio_tolerances",
            "ppo::test_first_ratio_is_one_in_every_epoch_setting",
            "ppo::test_one_rounded_token_stops_float32_only",
        ),
    ),
    35: Point(
        "bfloat16 layers; float32 weights, values, advantages and, if wanted, logits",
        ("runtime.dtype", "float32_logits"),
        (
            "ppo_constants::test_a_bfloat16_run_keeps_float32_where_it_counts",
            "ppo_options::test_float32_logits_compute_the_output_layer_in_float32",
            "ppo_options::test_float32_logits_reach_every_forward_of_a_run",
        ),
    ),
    36: Point(
        "the reward model's passes, rate, centring and longest input",
        (
            "reward.num_epochs", "reward.learning_rate", "reward.center_coef",
            "reward.max_seq_len",
        ),
        (
            "reward_model::test_encoding_ends_with_eos_and_never_cuts_it",
            "reward_model::test_training_separates_liked_from_disliked_and_survives_a_save",
        ),
    ),
}  # fmt: skip

DEFAULTS = {
    "temperature": 1.0, "warmup_share": 0.0, "kl_target": 0.0, "kl_horizon": 10_000,
    "missing_eos_penalty": 1.0, "reward_clip": 5.0, "whiten_rewards": False,
    "gamma": 1.0, "gae_lambda": 0.95, "clip_range": 0.2, "dual_clip": 0.0,
    "value_clip_range": 0.2, "vf_coef": 0.1, "critic_warmup_updates": 0,
    "max_grad_norm": 1.0, "early_stop_kl": 0.0, "ptx_coef": 0.0,
}  # fmt: skip
"""What the checklist's last column says, of settings that have a default."""
BESIDE = {"max_prompt_len", "num_eval_prompts", "save_every", "train_embeddings"}
"""Settings of ``ppo`` that are no point of the list."""


def missing_from(point: Point) -> list[str]:
    """Settings and tests that a point names and that do not exist."""
    profile, gone = load_profile("toy"), []
    for name in point.settings:
        section, _, field = name.rpartition(".")
        if not hasattr(getattr(profile, section or "ppo"), field):
            gone.append(name)
    for name in point.tests:
        file, _, test = name.partition("::")
        path = HERE / f"test_{file}.py"
        body = ast.parse(path.read_text(encoding="utf-8")).body if path.exists() else []
        functions = {n.name for n in body if isinstance(n, ast.FunctionDef)}
        if not test.startswith("test_") or test not in functions:
            gone.append(name)
    return gone


def test_the_list_has_36_points():
    assert list(POINTS) == list(range(1, 37))
    assert len({point.detail for point in POINTS.values()}) == 36


@pytest.mark.parametrize("number", POINTS)
def test_each_point_is_covered_by_what_exists(number):
    point = POINTS[number]
    assert point.settings or point.tests
    assert not missing_from(point)


def test_a_row_that_names_nothing_real_is_caught():
    wrong = Point(
        "?",
        ("kl_targets", "reward.none"),
        ("losses::test_x", "nofile::test_x", "losses::dual"),
    )
    assert missing_from(wrong) == [*wrong.settings, *wrong.tests]


def test_defaults_are_those_of_the_list():
    found = {f.name: f.default for f in dataclasses.fields(PPOConfig)}
    assert {name: found[name] for name in DEFAULTS} == DEFAULTS


def test_every_setting_is_a_point_and_has_a_docstring():
    named = {name for point in POINTS.values() for name in point.settings}
    assert {f.name for f in dataclasses.fields(PPOConfig)} == BESIDE | {
        name for name in named if "." not in name
    }
    tree = ast.parse(inspect.getsource(config_train))
    (body,) = (n.body for n in tree.body if getattr(n, "name", "") == "PPOConfig")
    for field, after in zip(body, body[1:], strict=False):
        if isinstance(field, ast.AnnAssign):
            text = isinstance(after, ast.Expr) and ast.literal_eval(after.value)
            assert text, f"ppo.{field.target.id} has no docstring"


def test_every_setting_is_read():
    read = set()
    for path in (REPOSITORY / "finllm_utils" / "rlhf").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        read |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    notebook = (REPOSITORY / "notebooks" / "08_ppo.ipynb").read_text(encoding="utf-8")
    for field in dataclasses.fields(PPOConfig):
        assert field.name in read or f"cfg.ppo.{field.name}" in notebook, field.name
