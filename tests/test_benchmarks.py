"""Every recorded benchmark is whole, and every benchmark can be run by ``make bench``."""

import ast
import json
import math
import re
import sys
import time
from dataclasses import replace

import pytest

from finllm_utils.data.decontaminate import HeldoutIndex
from finllm_utils.data.gold import read_gold
from finllm_utils.dependencies import REPOSITORY
from finllm_utils.profiles import load_profile
from finllm_utils.records import Document
from tests.benchmarks import data_ablation_checks as ablation
from tests.benchmarks import data_ablation_mix as mix
from tests.benchmarks import harness

FOLDER = REPOSITORY / "tests" / "benchmarks"
RESULTS = sorted((FOLDER / "results").glob("*.json"))
HELPERS = {"harness", "runner"}
BENCHMARKS = [
    path
    for path in sorted(FOLDER.glob("[a-z]*.py"))
    if path.stem not in HELPERS
    and not path.stem.endswith(("_rivals", "_checks", "_mix", "_arms"))
]
KEYS = {
    "cleaning": (
        "chain_mb_per_s_core ratio_to_datajuicer ratio_to_datatrove "
        "minhash_mb_per_s_core speedup_2_processes dedup_recall dedup_false_merges "
        "pii_recall pii_precision clean_kept dirty_dropped retained_ratio"
    ),
    "pretrain_cpu": (
        "ratio_to_trainer_default_10m ratio_to_trainer_tuned_10m "
        "ratio_to_trainer_default_135m ratio_to_trainer_tuned_135m mfu_135m "
        "matmul_peak_tflops two_process_efficiency resume_identical"
    ),
    "pretrain_gpu": (
        "mfu_1b ratio_to_trainer_default tokens_per_s memory_reduction batch_gain "
        "throughput_gain attention_gain"
    ),
    "sft": (
        "ratio_to_trl_default choice_pretrained choice_sft1 choice_sft2 "
        "forgetting_mixed forgetting_unmixed hallucination_mixed "
        "hallucination_unmixed multiturn_sft1 multiturn_sft2 qlora_merge_max_diff"
    ),
    "ppo_cpu": (
        "ratio_to_trl reward_gain_std kl_nats heldout_rm_gain memory_ratio_to_trl "
        "disclosure_before disclosure_after disclosure_seconds rm_hard rm_hard_low "
        "rm_random rm_random_low accept.verdict accept.safety_gain "
        "accept.helpfulness_gain accept.stability_gain accept.hacked_rejected"
    ),
    "evals": (
        "max_diff_to_lm_eval ratio_to_lm_eval false_alarm_rate "
        "planted_regression_caught leaked_flagged exam_items items_per_s_smollm2 "
        "seconds_1000_items_smollm2 bradley_terry_max_diff_to_choix"
    ),
    "hub": (
        "numeric_exact tool_choice argument_accuracy hit_at_1 hit_at_5 hit_at_1_bm25 "
        "statute_hit_at_3 pii_leaks guard_bypasses false_blocks p50_ms p99_ms "
        "requests_per_s lost_requests"
    ),
    "apps_read": (
        "service.hit_at_1 service.hit_at_1_bm25 service.hit_at_5 "
        "service.automation_at_2pct office.hit_at_3 office.citation_exact "
        "office.unanswerable_f1 office.permission_leaks"
    ),
    "apps_decide": (
        "marketing.compliant marketing.uplift_coverage operations.execution_accuracy "
        "operations.unsourced_numbers operations.mase risk.auc risk.auc_text_gain "
        "risk.letter_faithful risk.p99_ms round2.improved round2.worse"
    ),
    "scaling": (
        "llama2_70b_days_error efficiency_640 memory_formula_error comm_volume_error "
        "gguf_bpb_diff slurm_report_equal plan_7b_memory_error compression_gain"
    ),
    "faults": "inputs_tried clear_errors kills_tried kills_recovered",
}
KEYS["reference_curves"] = " ".join(
    f"bpb.{stage}.{domain}.{what}"
    for stage in ("stage1", "stage2")
    for domain in ("general_zh", "finance_zh", "english")
    for what in ("mean", "std")
)
KEYS["ppo_gpu"] = KEYS["ppo_cpu"]
STEPS = {
    "data_ablation": ("raw", "filtered", "dedup_class", "dedup_global", "ranked"),
    "ablation": ("two_stage", "stage2_only", "lora_embeddings", "no_expansion"),
}
"""Results whose keys are ``<step>.<domain>.bpb_mean`` and ``_std``."""


def problems(name: str, result: dict) -> list[str]:
    """What is wrong with the content of ``results/<name>.json``."""
    found = [f"no field {f}" for f in harness.FIELDS if f not in result]
    found += [f"unknown field {f}" for f in result if f not in harness.FIELDS]
    if found:
        return found
    if result["name"] != name:
        found.append(f"name is {result['name']}")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", str(result["date"])):
        found.append(f"date {result['date']}")
    found += origin_problems(result)
    if "make bench" not in result["command"] and "python" not in result["command"]:
        found.append(f"command {result['command']}")
    figures = result["figures"]
    for key, value in figures.items():
        if type(value) not in (int, float) or not math.isfinite(value):
            found.append(f"{key} is {value!r}, not a finite number")
    if name in STEPS:
        ends = ("mean", "std")
        wanted = [rf"{s}\.\w+\.bpb_{end}" for s in STEPS[name] for end in ends]
        missing = [w for w in wanted if not any(re.fullmatch(w, k) for k in figures)]
    elif name in KEYS:
        missing = [k for k in KEYS[name].split() if k not in figures]
    else:
        return [*found, f"{name} has no keys in design.md: add them to KEYS"]
    return found + [f"no figure {key}" for key in missing]


MACHINE = {"cpu", "cores", "memory_gb", "system"}


def origin_problems(result: dict) -> list[str]:
    """Parts measured elsewhere say where and when, each as the whole file does."""
    found = []
    for part, notes in result["runs"].items():
        own = notes if isinstance(notes, dict) else {}
        if "machine" in own:
            found += [
                f"{part}: machine without {k}" for k in MACHINE - own["machine"].keys()
            ]
            found += [] if "date" in own else [f"{part}: machine without date"]
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", str(own.get("date", result["date"]))):
            found.append(f"{part}: date {own['date']}")
    return found


@pytest.mark.parametrize("path", RESULTS, ids=lambda p: p.stem)
def test_result_has_every_field_and_figure(path):
    assert not problems(path.stem, json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda p: p.stem)
def test_benchmark_has_a_main_guard_and_a_known_name(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guards = [ast.unparse(n.test) for n in tree.body if isinstance(n, ast.If)]
    assert "__name__ == '__main__'" in guards
    assert ast.get_docstring(tree)
    assert path.stem in KEYS or path.stem in STEPS


def whole(name: str) -> dict:
    figures = dict.fromkeys(KEYS[name].split(), 1.0)
    values = (name, "make bench", "2026-11-22", {}, {}, {}, figures)
    return dict(zip(harness.FIELDS, values, strict=True))


def test_a_whole_result_passes_and_each_fault_is_seen():
    assert problems("faults", whole("faults")) == []
    assert problems("hub", whole("faults"))
    for field in harness.FIELDS:
        result = whole("faults")
        del result[field]
        assert problems("faults", result) == [f"no field {field}"]
    result = whole("faults")
    del result["figures"]["kills_tried"]
    assert problems("faults", result) == ["no figure kills_tried"]
    result["figures"]["kills_tried"] = math.inf
    assert "inf" in problems("faults", result)[0]


def test_write_result_writes_what_the_check_accepts(tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    figures = dict.fromkeys(KEYS["faults"].split(), 1 / 3)
    path = harness.write_result("faults", "make bench", figures, {"n": 5}, {})
    result = json.loads(path.read_text(encoding="utf-8"))
    assert problems("faults", result) == []
    assert result["figures"]["kills_tried"] == 0.33333
    assert result["machine"]["cores"] >= 1 and result["machine"]["memory_gb"] > 0
    with pytest.raises(ValueError, match="kills_tried"):
        figures["kills_tried"] = math.nan
        harness.write_result("faults", "make bench", figures, {}, {})


def test_parts_of_another_run_keep_their_machine(tmp_path, monkeypatch):
    """Three runs on three machines; each part says which, the last one by the file."""
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    keys = KEYS["faults"].split()
    figures = {}
    for number, parts in enumerate((("a", "b", "seconds"), ("b",), ("c",)), start=1):
        own = {"cpu": f"cpu {number}", "cores": 2, "memory_gb": 8.0, "system": "x"}
        monkeypatch.setattr(harness, "machine", lambda own=own: own)
        monkeypatch.setattr(time, "strftime", lambda *_, n=number: f"2026-11-0{n}")
        runs = {p: 60 if p == "seconds" else {"run": number} for p in parts}
        figures, runs = harness.beside_earlier(
            "faults", dict.fromkeys(keys, number), runs
        )
        path = harness.write_result(
            "faults", "make bench", figures, runs, {"torch": f"2.{number}"}
        )
        keys = keys[1:]
    result = json.loads(path.read_text(encoding="utf-8"))
    assert problems("faults", result) == []
    assert list(result["figures"].values()) == [2, 1, 3, 3]  # sorted by their names
    found = result["runs"]
    assert {p: found[p]["run"] for p in "abc"} == {"a": 1, "b": 2, "c": 3}
    for part, number in (("a", 1), ("b", 2)):
        assert found[part]["machine"]["cpu"] == f"cpu {number}"
        assert found[part]["versions"] == {"torch": f"2.{number}"}
        assert found[part]["date"] == f"2026-11-0{number}"
    assert found["c"] == {"run": 3} and found["seconds"] == 60
    assert (result["machine"]["cpu"], result["date"]) == ("cpu 3", "2026-11-03")
    del found["a"]["machine"]["cores"], found["b"]["date"]
    assert problems("faults", result) == [
        "a: machine without cores", "b: machine without date",
    ]  # fmt: skip
    found["b"]["date"] = "yesterday"
    assert "b: date yesterday" in problems("faults", result)


def test_a_kept_row_is_found_once_for_each_question(tmp_path):
    calls = []

    def find():
        calls.append(1)
        return {"n": len(calls), "all": [1, 2]}

    first = harness.kept_row(tmp_path, ["seed", 0, "model"], find)
    assert first == {"n": 1, "all": [1, 2]}
    assert harness.kept_row(tmp_path, ["seed", 0, "model"], find) == first
    assert harness.kept_row(tmp_path, ["seed", 0, "other model"], find)["n"] == 2


def test_contenders_take_turns_and_medians_are_of_all_rounds():
    order, clock = [], iter((5.0, 1.0, 9.0, 2.0, 2.0, 2.0))

    def contender(name):
        order.append(name)
        return {"wall_s": next(clock)}

    rows = harness.alternate({n: lambda n=n: contender(n) for n in "ab"}, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert harness.timing(rows["a"], "wall_s").median == 2.0
    assert harness.timing(rows["b"], "wall_s").spread == (9 - 1) / 2


def test_another_interpreter_reports_back_or_its_error_is_shown():
    with harness.measured() as row:
        sum(range(200_000))
    assert 0 < row["cpu_s"] and row["peak_rss_mb"] > 5
    target = "tests.benchmarks.harness:report_back"
    assert harness.call_in(sys.executable, target, {"n": 1}) == {"n": 1}
    with pytest.raises(RuntimeError, match="no_such_function"):
        harness.call_in(sys.executable, "tests.benchmarks.harness:no_such_function")


HELD = (
    "存款保险实行限额偿付，最高偿付限额为人民币五十万元，超出部分依法从清算财产中受偿。"
)


def own_documents() -> list[Document]:
    """Clean gold files of the half dev, as if they were a shipped source."""
    clean = {f"raw/{g.file}" for g in read_gold() if g.clean and not g.duplicate_of}
    return [
        replace(d, id=d.id.replace("raw/", "own/"), source="own", meta={})
        for d in mix.gold_documents()
        if d.id in clean and len(d.text) > 300
    ]


def ablation_items() -> list[Document]:
    """Clean text, near copies of it in both domains, spam, and held-out text in two."""
    own = own_documents()[:12]
    twins = [
        replace(
            d, id=f"{domain}/{d.id}", domain=domain, text=d.text.replace("的", "地", 1)
        )
        for d in own
        for domain in mix.DOMAINS
    ]
    first, domain = own[0], mix.DOMAINS[1]
    spam = Document(id="spam", text="★◆" * 80, source="own", domain=domain)
    whole = replace(spam, id="whole", text=HELD)
    line = replace(first, id="line", text=f"{first.text}\n{HELD}")
    return [*own, *twins, spam, whole, line]


def test_ablation_arms_nest_and_hold_no_heldout_window(tmp_path):
    config, items = load_profile("toy").data, ablation_items()
    arms = mix.make_arms(
        items, config, heldout=[HELD], folder=tmp_path, num_workers=1,
        keep_top_share=0.5, models=None,
    )  # fmt: skip
    assert tuple(arms) == mix.ARMS
    ids = {arm: {d.id for d in documents} for arm, documents in arms.items()}
    for before, arm in zip(mix.ARMS, mix.ARMS[1:], strict=False):
        assert ids[arm] < ids[before], f"{arm} is no proper part of {before}"
    assert "spam" in ids["raw"] and "spam" not in ids["filtered"]
    index = HeldoutIndex.build([HELD], config.decontamination_ngram)
    assert len(index.overlaps([d.text for d in items])) == 2
    for arm, documents in arms.items():
        assert not index.overlaps([d.text for d in documents]), arm
    assert "whole" not in ids["raw"] and "line" in ids["raw"]
    domains = {d.id: d.domain for d in arms["dedup_class"]}
    gone = ids["dedup_class"] - ids["dedup_global"]
    assert gone and all(key in domains for key in gone)
    shares = [row["share_of_raw"] for row in mix.describe(arms).values()]
    assert shares[0] == 1 and shares == sorted(shares, reverse=True)


def test_planted_dirt_has_the_stated_share_and_kinds():
    natural = own_documents()
    planted = mix.planted_mix(natural, 2 / 3, seed=1)
    assert planted == mix.planted_mix(natural, 2 / 3, seed=1)
    assert len({d.id for d in planted}) == len(planted)
    assert all(d in planted for d in natural)
    chars = {"own": 0} | dict.fromkeys(mix.DIRT, 0)
    for document in planted:
        chars[document.source.removeprefix("planted_")] += len(document.text)
    dirt = sum(chars.values()) - chars["own"]
    assert dirt / sum(chars.values()) == pytest.approx(2 / 3, abs=0.04)
    assert sum(mix.DIRT.values()) == pytest.approx(1)
    for kind, part in mix.DIRT.items():
        assert chars[kind] / dirt == pytest.approx(part, abs=0.06), kind


def test_tokens_saved_by_hand():
    curve = [(100, 3.0), (400, 2.0), (800, 1.5)]
    assert ablation.tokens_to_reach(curve, 2.5) == (pytest.approx(200), 0)
    assert ablation.tokens_to_reach(curve, 3.0) == (100, 0)
    assert ablation.tokens_to_reach(curve, 1.75) == (pytest.approx(400 * 2**0.5), 0)
    assert ablation.tokens_to_reach(curve, 1.4) == (800, 1)
    assert ablation.tokens_to_reach(curve, 3.1) == (100, -1)
    assert ablation.tokens_to_reach(curve[:1], 3.0) == (100, 0)


def test_ablation_figures_are_whole_and_differences_paired():
    def scores(general: float, finance: float) -> ablation.Scores:
        return ablation.Scores({"general_zh": general, "finance_zh": finance}, {})

    rows = [scores(3.0, 2.0), scores(4.0, 2.0), scores(5.0, 2.0)]
    found = {arm: rows for arm in mix.ARMS}
    found["filtered"] = [scores(2.8, 2.0), scores(3.9, 2.0), scores(4.7, 2.1)]
    figures = ablation.compare(found)
    result = whole("faults") | {"name": "data_ablation", "figures": figures}
    assert problems("data_ablation", result) == []
    assert (
        figures["raw.general_zh.bpb_mean"] == 4 == figures["raw.general_zh.bpb_std"] * 4
    )
    key = "filtered.general_zh.vs_raw"
    assert figures[key] == pytest.approx(-0.2)
    half = 4.302653 * 0.1 / 3**0.5  # t of 2 degrees of freedom; deviation 0.1
    assert figures[f"{key}_low"] == pytest.approx(-0.2 - half)
    assert figures[f"{key}_high"] == pytest.approx(-0.2 + half)
    assert figures["dedup_class.general_zh.vs_previous"] == pytest.approx(0.2)
    assert figures["dedup_class.general_zh.vs_raw"] == 0
    words = ablation.verdicts(figures)
    assert words["filtered.finance_zh"] == "no difference shown"
    assert words["ranked.general_zh"].startswith("nothing to do")
    figures["ranked.general_zh.vs_previous_low"] = 0.1
    figures["ranked.general_zh.vs_previous_high"] = 0.2
    figures["filtered.general_zh.vs_previous_high"] = -0.1
    words = ablation.verdicts(figures)
    assert words["ranked.general_zh"] == "hurts"
    assert words["filtered.general_zh"] == "helps"
    del figures["ranked.general_zh.bpb_std"], figures["ranked.finance_zh.bpb_std"]
    assert len(problems("data_ablation", result)) == 1


def test_ablation_tokenizer_knows_common_characters_and_loses_nothing():
    tokenizer = ablation.char_tokenizer(["贷款贷款", "贷款 罕"], min_count=2)
    assert tokenizer.bos_token_id == 1 and tokenizer.eos_token_id == 2
    assert len(tokenizer) == 3 + 256 + 1 + 2
    for text, pieces in (("贷款", 2), ("罕", 3), ("贷 款\nA", None)):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert pieces is None or len(ids) - 1 == pieces  # one for the leading space


@pytest.mark.parametrize(
    ("value", "goal", "met"),
    [(0.2, "> 0", True), (0.0, "> 0", False), (-0.25, "> 0", False),
     (1.5, ">= 1.5", True), (1.4, ">= 1.5", False), (0.001, "<= 0.001", True)],
)  # fmt: skip
def test_goals_are_judged_as_written(value, goal, met, capsys):
    harness.print_table({"figure": value}, {"figure": goal})
    assert capsys.readouterr().out.strip().endswith("  met" if met else "NOT MET")
