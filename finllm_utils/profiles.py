"""The four sizes of the course, and ``load_profile`` with its dotted overrides."""

import contextlib
import dataclasses
import difflib
import typing

from finllm_utils.config import (
    DataConfig,
    EvalsConfig,
    ModelConfig,
    PPOConfig,
    PretrainConfig,
    Profile,
    RewardConfig,
    RuntimeConfig,
    SFTConfig,
    TokenizerConfig,
)

STAGE1_ZH_SHARE = 0.25
"""Where the base has seen Chinese, stage 1 stays closer to what it was trained on than
stage 2 does; the talk names no figure, notebook 03 shows the distance."""


def toy() -> Profile:
    """About 9M parameters on two CPU cores; the whole course in twenty minutes."""
    pretrain = PretrainConfig(
        tokens=0,
        seq_len=256,
        micro_batch_size=4,
        global_batch_size=4,
        learning_rate=4e-3,
        embedding_learning_rate=8e-3,
        warmup_steps=20,
        zh_share=0.75,
        finance_share_start=0.1,
        finance_share_end=0.2,
        log_every=5,
    )
    return Profile(
        name="toy",
        runtime=RuntimeConfig(dtype="bfloat16", num_workers=2),
        data=DataConfig(
            chars_general_zh=2_400_000,
            chars_finance_zh=1_800_000,
            chars_english=4_000_000,
            chars_finance_en=1_000_000,
        ),
        tokenizer=TokenizerConfig(base="mistral-v1"),
        model=ModelConfig(
            path="",
            hidden_size=192,
            intermediate_size=512,
            num_layers=4,
            num_heads=3,
            num_kv_heads=3,
            tie_embeddings=True,
            max_seq_len=512,
        ),
        base=dataclasses.replace(
            pretrain,
            tokens=299_008,
            zh_share=0.0,
            finance_share_start=0.0,
            finance_share_end=0.0,
        ),
        pretrain1=dataclasses.replace(
            pretrain,
            tokens=159_744,
            finance_share_end=0.1,
            trainable="embeddings",
            plateau_steps=50,
            eval_every=52,
        ),
        pretrain2=dataclasses.replace(pretrain, tokens=479_232, eval_every=117),
        **_toy_tuning(),
    )


def _toy_tuning() -> dict[str, typing.Any]:
    """The sections of 05 to 09."""
    return dict(
        sft=SFTConfig(
            num_instructions=2_400,
            num_stage2=300,
            max_answer_chars=45,
            computed_share=0.0,
            max_own_chars=0,
            max_seq_len=512,
            micro_batch_size=2,
            grad_accum_steps=2,
            num_epochs=1,
            num_epochs_stage2=2,
            learning_rate=3e-3,
            learning_rate_stage2=1e-3,
        ),
        reward=RewardConfig(
            num_pairs=8_000,
            random_share=0.0,
            judge_share=0.45,
            value_passes=3,
            num_eval_pairs=1_500,
            sample_tokens=40,
            max_answer_chars=80,
            max_seq_len=192,
            batch_size=32,
            learning_rate=1e-3,
            num_epochs=1,
            readout="tokens",
            embedding_rate=10.0,
        ),
        ppo=PPOConfig(
            num_updates=20,
            rollout_batch_size=32,
            max_prompt_len=48,
            max_new_tokens=40,
            learning_rate=5e-4,
            missing_eos_penalty=0.5,
            critic_learning_rate=3e-4,
            num_ppo_epochs=2,
            num_mini_batches=4,
            kl_coef=0.1,
            ptx_coef=0.2,
            reward_clip=2.0,
            ptx_batch_size=4,
            num_eval_prompts=256,
        ),
        evals=_toy_evals(),
    )


def _toy_evals() -> EvalsConfig:
    """How much 09 asks: about two minutes on two cores, SmolLM2 included."""
    return EvalsConfig(
        batch_tokens=4_096,
        max_documents=1_000,
        num_choice_items=300,
        num_exam_items=24,
        num_suite_items=132,
        num_selection_questions=12,
        num_selection_negatives=30,
        num_numeric_items=25,
        num_paraphrase_groups=12,
        num_accept_items=64,
        max_exam_tokens=48,
    )


def small() -> Profile:
    """SmolLM2-135M on one GPU, or on a CPU in hours. Times are estimates."""
    pretrain = PretrainConfig(
        tokens=20_000_000,
        seq_len=1_024,
        micro_batch_size=32,
        global_batch_size=64,
        learning_rate=6e-4,
        embedding_learning_rate=6e-4,
        warmup_steps=30,
        weight_decay=0.1,
        zh_share=0.75,
        finance_share_start=0.1,
        finance_share_end=0.2,
        log_every=5,
        eval_every=50,
    )
    return dataclasses.replace(
        toy(),
        name="small",
        runtime=RuntimeConfig(dtype="bfloat16", num_workers=8),
        data=DataConfig(
            chars_general_zh=8_000_000,
            chars_finance_zh=8_000_000,
            chars_english=12_000_000,
            chars_finance_en=16_000_000,
        ),
        tokenizer=TokenizerConfig(base="smollm2-135m"),
        model=dataclasses.replace(toy().model, path="smollm2-135m", max_seq_len=2_048),
        base=dataclasses.replace(pretrain, tokens=0),
        pretrain1=dataclasses.replace(
            pretrain,
            tokens=3_000_000,
            warmup_steps=5,
            zh_share=STAGE1_ZH_SHARE,
            finance_share_end=0.1,
            trainable="embeddings",
            plateau_steps=15,
            weight_decay=0.0,
        ),
        pretrain2=pretrain,
        **_small_tuning(),
    )


def _small_tuning() -> dict[str, typing.Any]:
    """The sections of 05 to 09."""
    return dict(
        sft=SFTConfig(
            num_instructions=12_000,
            num_stage2=1_000,
            max_answer_chars=100,
            max_seq_len=1_024,
            micro_batch_size=4,
            grad_accum_steps=4,
            num_epochs=2,
            num_epochs_stage2=2,
            learning_rate=1e-4,
            learning_rate_stage2=2e-5,
        ),
        reward=RewardConfig(
            num_pairs=12_000,
            random_share=0.3,
            value_passes=3,
            num_eval_pairs=2_000,
            sample_tokens=96,
            max_answer_chars=240,
            max_seq_len=512,
            batch_size=64,
            learning_rate=3e-5,
            num_epochs=1,
            readout="eos",
        ),
        ppo=PPOConfig(
            num_updates=40,
            rollout_batch_size=256,
            max_prompt_len=64,
            max_new_tokens=96,
            learning_rate=3e-6,
            critic_learning_rate=9e-6,
            num_ppo_epochs=2,
            num_mini_batches=4,
            kl_coef=0.05,
            num_eval_prompts=512,
        ),
        evals=EvalsConfig(
            batch_tokens=65_536, max_documents=4_000, num_choice_items=2_000
        ),
    )


def base7b() -> Profile:
    """A 7-8B LLaMA-class folder on one node of eight GPUs. A plan, untried."""
    pretrain = dataclasses.replace(
        small().pretrain2,
        tokens=20_000_000_000,
        seq_len=4_096,
        micro_batch_size=1,
        global_batch_size=256,
        learning_rate=2e-5,
        embedding_learning_rate=2e-5,
        warmup_steps=200,
    )
    return dataclasses.replace(
        small(),
        name="base7b",
        runtime=RuntimeConfig(
            dtype="bfloat16", num_workers=32, num_processes=8, max_restarts=2
        ),
        tokenizer=TokenizerConfig(base="models/base7b"),
        model=dataclasses.replace(
            small().model, path="models/base7b", max_seq_len=4_096
        ),
        base=dataclasses.replace(pretrain, tokens=0),
        pretrain1=dataclasses.replace(
            pretrain,
            tokens=2_600_000_000,
            zh_share=STAGE1_ZH_SHARE,
            finance_share_end=0.1,
            trainable="embeddings",
            plateau_steps=250,
            weight_decay=0.0,
        ),
        pretrain2=pretrain,
    )


def cluster() -> Profile:
    """A 70B-class folder on many nodes: 40B and 300B tokens. Planned only."""
    pretrain = dataclasses.replace(
        base7b().pretrain2, tokens=300_000_000_000, global_batch_size=1_024
    )
    return dataclasses.replace(
        base7b(),
        name="cluster",
        tokenizer=TokenizerConfig(base="models/base70b"),
        model=dataclasses.replace(base7b().model, path="models/base70b"),
        pretrain1=dataclasses.replace(
            pretrain,
            tokens=40_000_000_000,
            zh_share=STAGE1_ZH_SHARE,
            finance_share_end=0.1,
            trainable="embeddings",
            plateau_steps=250,
            weight_decay=0.0,
        ),
        pretrain2=pretrain,
    )


PROFILES = {f.__name__: f for f in (toy, small, base7b, cluster)}


def load_profile(name: str, overrides: dict[str, object] | None = None) -> Profile:
    """The profile ``name`` with dotted settings such as "ppo.kl_coef" replaced.

    Raises: ValueError naming the setting and the nearest known name, or its type.
    """
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}{_nearest(name, PROFILES)}")
    profile = PROFILES[name]()
    changes: dict[str, dict[str, object]] = {}
    for key, value in (overrides or {}).items():
        section, _, setting = key.partition(".")
        known = typing.get_type_hints(Profile)
        del known["name"]
        if section not in known or not setting:
            raise ValueError(f"unknown override {key!r}{_nearest(section, known)}")
        hints = typing.get_type_hints(known[section])
        if setting not in hints:
            names = [f"{section}.{n}" for n in hints]
            raise ValueError(f"unknown override {key!r}{_nearest(key, names)}")
        changes.setdefault(section, {})[setting] = _typed(key, value, hints[setting])
    replaced = {
        section: dataclasses.replace(getattr(profile, section), **values)
        for section, values in changes.items()
    }
    profile = dataclasses.replace(profile, **replaced)
    if (
        profile.tokenizer.strategy == "none"
    ):  # no new rows: nothing for stage 1 to teach
        stage1 = dataclasses.replace(profile.pretrain1, tokens=0)
        profile = dataclasses.replace(profile, pretrain1=stage1)
    return profile


def _nearest(word: str, names: typing.Iterable[str]) -> str:
    names = list(names)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.0)
    return f"; did you mean {close[0]!r}? Known: {', '.join(names)}"


def _typed(key: str, value: object, kind: object) -> object:
    """``value`` as the setting's type: int widens to float, a list becomes a tuple."""
    if kind is float and type(value) is int:
        return float(value)
    if typing.get_origin(kind) is tuple and isinstance(value, (list, tuple)):
        kinds = typing.get_args(kind)
        if kinds[-1] is ...:
            kinds = kinds[:1] * len(value)
        with contextlib.suppress(ValueError):  # the error below names the whole
            pairs = zip(value, kinds, strict=True)
            return tuple(_typed(key, v, inner) for v, inner in pairs)
    elif isinstance(kind, type) and type(value) is kind:
        return value
    name = getattr(kind, "__name__", kind)
    got = type(value).__name__
    raise ValueError(f"override {key}={value!r}: expected {name}, got {got}")


def as_table(profile: Profile, *sections: str) -> dict[str, object]:
    """Flat ``{"section.setting": value}`` of the named sections, for display."""
    rows = {}
    for section in sections:
        config = getattr(profile, section)
        for entry in dataclasses.fields(config):
            rows[f"{section}.{entry.name}"] = getattr(config, entry.name)
    return rows
