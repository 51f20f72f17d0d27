"""The four profiles and their overrides."""

import dataclasses

import pytest

from finllm_utils.config import Profile
from finllm_utils.profiles import PROFILES, as_table, load_profile

SECTIONS = [f.name for f in dataclasses.fields(Profile) if f.name != "name"]


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_profiles_are_whole_and_their_arithmetic_divides(name):
    profile = load_profile(name)
    assert profile.name == name
    for section in ("base", "pretrain1", "pretrain2"):
        loop = getattr(profile, section)
        assert loop.grad_accum_steps * loop.micro_batch_size == loop.global_batch_size
        assert loop.num_steps * loop.tokens_per_step <= loop.tokens
    assert profile.pretrain1.trainable == "embeddings"
    assert profile.pretrain1.weight_decay == 0, "frozen rows would move"


def test_overrides_replace_only_what_they_name():
    before, after = load_profile("toy"), load_profile("toy", {"ppo.kl_coef": 1})
    assert after.ppo.kl_coef == 1.0 and isinstance(after.ppo.kl_coef, float)
    assert dataclasses.replace(after, ppo=before.ppo) == before
    sources = load_profile("toy", {"data.sources": ["english=a"]}).data.sources
    assert sources == ("english=a",)


def test_overrides_of_one_section_apply_together():
    changed = load_profile("toy", {"model.num_heads": 3, "model.hidden_size": 192,
                                   "model.num_kv_heads": 1})  # fmt: skip
    assert changed.model.hidden_size == 192


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"pppo.kl_coef": 1.0}, "unknown override 'pppo.kl_coef'; did you mean 'ppo'"),
        ({"ppo.klcoef": 1.0}, "did you mean 'ppo.kl_coef'"),
        ({"ppo": 1}, "unknown override 'ppo'"),
        ({"name": "x"}, "unknown override 'name'"),
        ({"name.x": "x"}, "unknown override 'name.x'"),
        ({"ppo.num_updates": 1.5}, "expected int, got float"),
        ({"ppo.num_updates": True}, "expected int, got bool"),
        ({"ppo.kl_coef": "0.1"}, "expected float, got str"),
        ({"data.sources": [1]}, "expected .*tuple.*, got list"),
        ({"data.sources": "a"}, "expected .*tuple.*, got str"),
        ({"runtime.dtype": "float8"}, "use 'bfloat16' or 'float32'"),
        ({"model.num_heads": 5}, "must be a multiple of"),
        ({"pretrain2.global_batch_size": 9}, "must be a multiple of"),
        ({"ppo.num_mini_batches": 7}, "must be a multiple of"),
    ],
)
def test_wrong_overrides_name_setting_and_remedy(overrides, message):
    with pytest.raises(ValueError, match=message):
        load_profile("toy", overrides)


def test_unknown_profile_names_the_nearest():
    with pytest.raises(
        ValueError, match="unknown profile 'smal'; did you mean 'small'"
    ):
        load_profile("smal")


def test_every_setting_has_a_docstring():
    import ast
    import inspect

    from finllm_utils import config

    for node in ast.parse(inspect.getsource(config)).body:
        if not isinstance(node, ast.ClassDef) or node.name == "Profile":
            continue
        for field, after in zip(node.body, node.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign):
                text = isinstance(after, ast.Expr) and ast.literal_eval(after.value)
                assert text, f"{node.name}.{field.target.id} has no docstring"


def test_as_table_is_flat():
    table = as_table(load_profile("toy"), "hub", "runtime")
    assert table["hub.bm25_top_k"] == 5
    assert {key.split(".")[0] for key in table} == {"hub", "runtime"}


def test_points_of_a_mixture_come_as_lists():
    points = [[0, 0.75, 0.1], [1, 0.5, 0.2]]
    cfg = load_profile("toy", {"pretrain2.mixture_points": points}).pretrain2
    assert cfg.mixture_points == ((0.0, 0.75, 0.1), (1.0, 0.5, 0.2))
    for wrong in ([[0, 0.75]], [0, 0.75, 0.1], [["0", 0.75, 0.1]]):
        with pytest.raises(ValueError, match="mixture_points=.*expected"):
            load_profile("toy", {"pretrain2.mixture_points": wrong})


def test_a_base_that_reads_chinese_skips_stage_1():
    profile = load_profile("toy", {"tokenizer.strategy": "none"})
    assert profile.pretrain1.num_steps == 0
    assert profile.pretrain2 == load_profile("toy").pretrain2
    assert load_profile("toy").pretrain1.num_steps > 0


@pytest.mark.parametrize("name", ["small", "base7b", "cluster"])
def test_stage_1_of_a_base_with_some_chinese_stays_near_its_mix(name):
    """The recipe: 40 of 340 parts of the tokens, and a share nearer to the base's."""
    profile = load_profile(name)
    share = profile.pretrain1.tokens / profile.pretrain2.tokens
    assert share == pytest.approx(40 / 300, rel=0.15)
    assert profile.pretrain1.zh_share < profile.pretrain2.zh_share


def test_a_batch_must_divide_into_the_processes():
    with pytest.raises(
        ValueError, match="pretrain1.global_batch_size=4 .* 8, or lower"
    ):
        load_profile("toy", {"runtime.num_processes": 2})
    smaller = {f"pretrain{stage}.micro_batch_size": 2 for stage in (1, 2)}
    assert load_profile("toy", {"runtime.num_processes": 2} | smaller)
