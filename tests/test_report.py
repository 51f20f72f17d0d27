"""Merging the parts of a report, and holding it against checks and targets."""

import io
import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from finllm_utils import cli, report, stages
from finllm_utils.checks import CHECKS, SPINE_KEYS, TARGETS, missing_spine_keys
from finllm_utils.evals.report.scoreboard import write_scoreboard
from tests.evals.small_board import RIGHT, small_board, small_measured


@pytest.fixture
def run_dir(tmp_path):
    """Two finished stages, a failed one and one run by hand."""
    for name, part in {
        "01_data_cleaning": {"cleaning.planted_pii_left": 0, "a.same": 1},
        "02_vocab_expansion": {"vocab.size_after": 38912, "a.same": 2},
        "03_pretrain_stage1": {"bpb.base.english": 9.0},
        "04_by_hand": {"bpb.stage2.english": 1.5},
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(json.dumps(part))
    (tmp_path / "02_vocab_expansion" / "metrics.jsonl").write_text(
        '{"step": 1, "seconds": 0.1, "loss": 3.0}\n{"step": 2, "loss": 2.5}\n'
    )
    done = {"state": "done", "seconds": 10.0, "peak_rss_mb": 512.0}
    records = {
        "01_data_cleaning": done,
        "02_vocab_expansion": done | {"seconds": 5.25, "peak_rss_mb": 700.0},
        "03_pretrain_stage1": {"state": "failed", "seconds": 99.0, "error": "a <b>"},
    }
    stages.write_status(tmp_path, {"stages": records, "second_run_seconds": 3.5})
    return tmp_path


def test_merge_joins_finished_stages(run_dir):
    values = report.merge(run_dir)
    assert values == {
        "a.same": 2,
        "bpb.stage2.english": 1.5,
        "cleaning.planted_pii_left": 0,
        "course.peak_rss_mb": 700.0,
        "course.second_run_seconds": 3.5,
        "course.seconds": 15.2,
        "vocab.size_after": 38912,
    }
    assert json.loads((run_dir / "report.json").read_text()) == values


def test_nan_in_a_report_or_metrics_file_is_named(run_dir):
    path = run_dir / "02_vocab_expansion" / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "loss": NaN}\n')
    with pytest.raises(
        ValueError, match=r"metrics\.jsonl, line 2: loss is not a finite"
    ):
        report.merge(run_dir)
    path.write_text('{"step": 1, "lo')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 1: broken JSON.*rerun"):
        report.merge(run_dir)
    path.unlink()
    (run_dir / "01_data_cleaning" / "report.json").write_text('{"cleaning.x": NaN}')
    with pytest.raises(ValueError, match=r"report\.json: cleaning\.x is not a finite"):
        report.merge(run_dir)


def test_index_links_the_notebooks_and_escapes(run_dir):
    folder = run_dir / "01_data_cleaning"
    (folder / "01_data_cleaning.html").write_text("x")
    (folder / "01_data_cleaning.ipynb").write_text("{}")
    page = report.write_index(run_dir, report.merge(run_dir)).read_text()
    assert 'href="01_data_cleaning/01_data_cleaning.html"' in page
    assert 'href="01_data_cleaning/01_data_cleaning.ipynb"' in page
    assert "a &lt;b&gt;" in page and "loss 3 to 2.5" in page and "38912" in page


def verdict(identifier: str, values: dict) -> str:
    rows = {c.id: v for _, c, v in report.verdicts(values)}
    return rows[identifier]


@pytest.mark.parametrize(
    ("identifier", "good", "bad"),
    [
        ("no planted personal data is left", {"cleaning.planted_pii_left": 0}, 1),
        (
            "the vocabulary has 38,500 to 39,500 pieces",
            {"vocab.size_after": 39_500},
            39_501,
        ),
        (
            "Chinese takes at most 0.93 of the tokens it took",
            {"vocab.token_ratio": 0.93},
            0.94,
        ),
        (
            "token ids of English text are unchanged",
            {"vocab.english_ids_equal": True},
            False,
        ),
        (
            "the hub answers every numeric question exactly",
            {"hub.numeric_exact": 1.0},
            0.975,
        ),
        (
            "English after stage 2 is at most 1.10 of the base",
            {"bpb.stage2.english": 2.19, "bpb.base.english": 2.0},
            2.21,
        ),
        (
            "stage 2 beats the character unigram model on finance_zh",
            {"bpb.stage2.finance_zh": 1.4, "bpb.unigram.finance_zh": 1.5},
            1.5,
        ),
    ],
)
def test_checks_hold_and_fail_at_their_bounds(identifier, good, bad):
    assert verdict(identifier, good) == "HOLDS"
    assert verdict(identifier, good | {next(iter(good)): bad}) == "FAILS"
    assert verdict(identifier, {}) == "not measured"


@pytest.mark.parametrize(
    "made",
    [
        {"vocab.strategy": "none"},
        {"vocab.base": "smollm2-135m"},
        {"vocab.charset": "own.txt"},
    ],
)
def test_sizes_of_the_course_vocabulary_are_asked_of_no_other(made):
    values = {"vocab.size_after": 32_000, "vocab.token_ratio": 1.0}
    for identifier in (
        "the vocabulary has 38,500 to 39,500 pieces",
        "Chinese takes at most 0.93 of the tokens it took",
    ):
        assert verdict(identifier, values | made) == "does not apply"
        assert verdict(identifier, values) == "FAILS"
        assert verdict(identifier, values | {"vocab.strategy": "characters"}) == "FAILS"


def test_targets_are_short_never_failed():
    halfway = "finance_zh after stage 2 is halfway from unigram to bigram"
    values = {
        "bpb.stage2.finance_zh": 1.3,
        "bpb.unigram.finance_zh": 1.5,
        "bpb.bigram.finance_zh": 1.1,
    }
    assert verdict(halfway, values) == "HOLDS"
    assert verdict(halfway, values | {"bpb.stage2.finance_zh": 1.31}) == "SHORT"
    ppo = "PPO gains 0.8 standard deviations of reward within 10 nats of KL"
    assert verdict(ppo, {"ppo.reward_gain_std": 0.8, "ppo.kl_nats": 10}) == "HOLDS"
    assert verdict(ppo, {"ppo.reward_gain_std": 0.7, "ppo.kl_nats": 10}) == "SHORT"
    assert verdict(ppo, {"ppo.reward_gain_std": 2.0, "ppo.kl_nats": 11}) == "SHORT"
    judge = "a judge that PPO never saw agrees, and so do both with length taken out"
    gains = {
        "ppo.heldout_rm_gain": 0.1,
        "ppo.heldout_rm_gain_length_adjusted": 0.1,
        "ppo.reward_gain_length_adjusted": 0.1,
    }
    assert verdict(judge, gains) == "HOLDS"
    for name in gains:
        assert verdict(judge, gains | {name: -0.1}) == "SHORT", name
    choice = "SFT raises choice accuracy over stage 2 and over the shortest option"
    values = {
        "sft.choice_accuracy.sft2": 0.4,
        "sft.choice_accuracy.stage2": 0.3,
        "sft.choice_shortest": 0.4,
    }
    assert verdict(choice, values) == "SHORT"


def test_table_shows_values_and_baselines():
    stream = io.StringIO()
    report.print_table(
        Console(file=stream), {"rm.accuracy_hard_low": 0.51, "rm.length_only": 0.5}
    )
    text = stream.getvalue()
    assert "rm.accuracy_hard_low=0.51 (beside rm.length_only=0.5)" in text
    assert "HOLDS" in text and "not measured" in text


def test_statements_are_unique_and_spine_keys_counted():
    ids = [c.id for c in (*CHECKS, *TARGETS)]
    assert len(ids) == len(set(ids))
    whole = {key: 1.0 for key in SPINE_KEYS}
    assert missing_spine_keys(whole) == []
    broken = whole | {"ppo.kl_nats": float("nan"), "hub.numeric_exact": "1"}
    assert missing_spine_keys(broken) == ["ppo.kl_nats", "hub.numeric_exact"]


@pytest.fixture
def scored(tmp_path):
    """Two runs with a scoreboard; the second one's aligned model is better."""
    for name, right in (("old", 12), ("new", 36)):
        measured = small_measured(RIGHT | {("exam", "ppo"): right})
        folder = tmp_path / name / report.SCOREBOARD
        write_scoreboard(small_board(measured), measured, folder)
    return tmp_path


def test_report_draws_the_card_of_a_scored_run(scored):
    run = scored / "new"
    where = ["report", "--run-dir", str(run)]
    result = CliRunner().invoke(cli.app, where, env={"COLUMNS": "200"})
    assert result.exit_code == 0 and f"report card: {run}/report.html" in result.output
    card = (run / "report_card.md").read_text()
    assert "# Report card of run new" in card and "Against another run" not in card
    assert 'href="report.html"' in (run / "index.html").read_text()
    result = CliRunner().invoke(cli.app, [*where, "--compare", str(scored / "old")])
    assert result.exit_code == 0
    card = (run / "report_card.md").read_text()
    assert "old to this one: 9 no clear change, 1 better." in card


def test_report_without_a_scoreboard_is_as_before(run_dir, scored):
    result = CliRunner().invoke(cli.app, ["report", "--run-dir", str(run_dir)])
    assert result.exit_code == 0 and "report card" not in result.output
    assert not (run_dir / "report.html").exists()
    assert "report.html" not in (run_dir / "index.html").read_text()
    with pytest.raises(ValueError, match=r"scoreboard\.json: no scoreboard; 09"):
        report.write_card(run_dir, str(scored / "old"))
    with pytest.raises(ValueError, match=r"scoreboard\.json: no scoreboard; 09"):
        report.write_card(scored / "old", str(run_dir))


def test_a_scoreboard_of_an_unfinished_stage_is_not_shown(scored):
    run = scored / "new"
    failed = {"09_evaluation": {"state": "failed", "seconds": 1.0, "error": "x"}}
    stages.write_status(run, {"stages": failed})
    assert report.write_card(run) == ()
    with pytest.raises(ValueError, match="09_evaluation is failed: finish it first"):
        report.write_card(run, str(scored / "old"))
