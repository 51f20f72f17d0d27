"""The chain as a whole: what is kept, where the rest went, and clear failures."""

import dataclasses
import json

import numpy as np
import pytest

from finllm_utils.data.dedup_steps import best_first
from finllm_utils.data.gold import GoldItem, read_gold, score_gold
from finllm_utils.data.pipeline import STEPS, clean_corpus
from finllm_utils.data.quality import MODELS, train_classifier
from finllm_utils.data.signed import columns_type, length_class
from finllm_utils.data.sources import (
    DOMAINS,
    SourceFile,
    iterate_sources,
    raw_sample_files,
)
from finllm_utils.profiles import load_profile
from finllm_utils.records import Document, read_records

from .files import ARTICLE, html_page, pdf_file

CONFIG = load_profile("toy").data
HELD = "存款保险实行限额偿付，最高偿付限额为人民币五十万元，中国人民银行会同有关部门可以调整。"
ENGLISH = "The fund pays depositors of a failed bank up to a limit that the law fixes."


DIFFERENT = (
    "久期衡量债券价格对利率变化的敏感程度，利率上升的时候，久期长的债券价格跌得更多一些，这是常识。",
    "存款保险实行限额的偿付办法，同一个存款人在同一家机构里的全部本息要合并在一起来计算和偿付。",
    "市盈率等于股票的价格除以每股的收益，周期股在盈利最高的那个时点上市盈率反而是最低的，要小心。",
    "信用卡的账单日和还款日之间的这段时间是免息期，但是取现的部分并不享受免息的待遇，请留意。",
)


def doc(key: str, text: str, domain: str = "finance_zh", **meta) -> Document:
    return Document(id=key, text=text, source="test", domain=domain, meta=meta)


def items() -> list[Document]:
    article = "".join(ARTICLE)
    return [
        doc("clean", article),
        doc("copy", article.replace("需要", "必须")),
        doc("same", article.replace("，", " , ")),
        doc("general_copy", article + "补充。", "general_zh", date="2023-05-01"),
        doc("short", "太短。"),
        doc("pii", "客户经理的手机是13800138000，" + ARTICLE[0] + "欢迎在工作日来电。"),
        doc("held", HELD + "以上为规定的原文。"),
        doc("english", ENGLISH, "english"),
        doc("english_copy", ENGLISH.upper(), "english"),
    ]


def run(tmp_path, things, workers=1, name="run", config=CONFIG, models=None):
    output = tmp_path / name / "out"
    output.mkdir(parents=True)
    rejected, funnel = clean_corpus(
        things, config, heldout=[HELD], output=output,
        work_dir=tmp_path / name / "work", num_workers=workers, models=models,
    )  # fmt: skip
    return output, rejected, funnel


@pytest.fixture(scope="module")
def cleaned(tmp_path_factory):
    return run(tmp_path_factory.mktemp("clean"), items())


def kept(output) -> dict[str, Document]:
    files = [output / f"{d}.jsonl" for d in DOMAINS]
    documents = [
        d for f in files if f.stat().st_size for d in read_records(f, Document)
    ]
    return {d.id: d for d in documents}


def test_the_right_documents_are_kept(cleaned):
    assert list(kept(cleaned[0])) == ["general_copy", "pii", "english"]


def test_every_dropped_document_has_its_step_and_reason(cleaned):
    steps = {row["id"]: row["step"] for row in cleaned[1]}
    assert steps == {
        "short": "length",
        "held": "decontaminate",
        "same": "dedup_class_exact",
        "english_copy": "dedup_class_exact",
        "copy": "dedup_class_near",
        "clean": "dedup_global_near",
    }
    assert all(row["reason"] and row["source"] == "test" for row in cleaned[1])


def test_pii_is_masked_and_counted(cleaned):
    document = kept(cleaned[0])["pii"]
    assert "[手机号]" in document.text
    assert document.meta["pii"] == {"mobile": 1}


def test_funnel_adds_up(cleaned):
    output, rejected, funnel = cleaned
    totals = [
        sum(r["docs"] for r in funnel if r["step"] == s) for s in ("read", *STEPS)
    ]
    assert totals[0] == len(items())
    assert totals == sorted(totals, reverse=True)
    assert totals[-1] == len(kept(output)) == len(items()) - len(rejected)
    for step, before, after in zip(STEPS, totals, totals[1:], strict=False):
        assert before - after == sum(row["step"] == step for row in rejected)


def test_two_processes_give_the_same_bytes(cleaned, tmp_path):
    output, rejected, funnel = run(tmp_path, items(), workers=2)
    for domain in DOMAINS:
        name = f"{domain}.jsonl"
        assert (output / name).read_bytes() == (cleaned[0] / name).read_bytes()
    assert (rejected, funnel) == cleaned[1:]


def test_the_best_copy_has_least_noise_then_quality_length_date_kind_and_place():
    def row(order, text, noise=0, date="", quality=1.0, page=False):
        length = length_class(text)
        return (order, 0, 0, 0, 0, 0, quality, noise, length, date, page, b"", [0])

    rows = [
        row(0, "甲" * 100, noise=1),
        row(1, "甲" * 100, quality=0.5),
        row(2, "甲" * 70),
        row(3, "甲" * 101, page=True),
        row(4, "甲" * 100, date="2024-02-01"),
        row(5, "甲" * 96, date="2023-02-01", page=True),
        row(6, "甲" * 100),
        row(7, "甲" * 104),
    ]
    best = best_first(np.array(rows, columns_type(1)))
    assert best.tolist() == [5, 4, 6, 7, 3, 2, 1, 0]


def test_template_sentences_stay_in_one_document_but_statutes_are_whole(tmp_path):
    notice = (
        "本文所载信息仅供参考之用，并不构成对任何人的投资建议，读者应当独立判断并自行承担全部风险，"
        "作者与发布机构对依据本文作出的决定不负任何责任。"
    )
    things = [doc(f"a{i}", f"{text}\n{notice}") for i, text in enumerate(DIFFERENT)]
    law = doc("law", f"{DIFFERENT[0][::-1]}\n{notice}")
    things.append(dataclasses.replace(law, source="laws"))
    output, rejected, _ = run(tmp_path, things)
    found = {key: notice in document.text for key, document in kept(output).items()}
    assert not rejected
    assert found == {"a0": True, "a1": False, "a2": False, "a3": False, "law": True}
    assert kept(output)["a1"].text == DIFFERENT[1]


def test_the_lowest_ranked_share_goes_when_asked(tmp_path):
    scores = (0.9, 0.2, 0.8, 0.7)
    things = [
        doc(f"a{i}", text, clean=1.0, knowledge=score)
        for i, (text, score) in enumerate(zip(DIFFERENT, scores, strict=True))
    ]
    config = dataclasses.replace(CONFIG, keep_top_share=0.7)
    output, rejected, _ = run(tmp_path, things, config=config)
    assert list(kept(output)) == ["a0", "a2", "a3"]
    assert [(r["step"], r["reason"]) for r in rejected] == [
        ("dedup_class_rank", "low_rank:0.20")
    ]


def test_trained_models_score_and_drop(tmp_path):
    good = [f"{text}这是第{i}号资料。" for i in range(8) for text in DIFFERENT]
    bad = [f"{text[::-1]}领取{i}" for i in range(8) for text in DIFFERENT]
    groups = [str(i) for i in range(64)]
    model, _ = train_classifier(good + bad, [1] * 32 + [0] * 32, groups, seed=0)
    for name in MODELS:
        model.save(tmp_path / f"{name}.npz")
    things = [doc("good", DIFFERENT[0]), doc("bad", DIFFERENT[1][::-1] * 2)]
    output, rejected, _ = run(tmp_path, things, models=tmp_path)
    assert list(kept(output)) == ["good"]
    assert kept(output)["good"].meta["knowledge"] > 0.5
    assert (rejected[0]["id"], rejected[0]["step"]) == ("bad", "quality")


def test_the_finance_score_files_the_documents_of_a_mixed_folder(tmp_path):
    general = (
        "春天的江南细雨不停，青石板路上落满了槐花，老人撑着油纸伞慢慢走过那座石桥。",
        "蜜蜂采到花蜜以后，会在巢门口跳起八字形的舞蹈，告诉同伴花丛的方向和距离。",
        "和面的时候水要分几次加进去，揉到面团光滑不粘手，再盖上湿布醒半个小时。",
        "这座古塔始建于宋代，共有七层，檐角挂着铜铃，风一吹就发出清脆的声响。",
    )
    texts = [f"{t}这是第{i}段。" for i in range(8) for t in (*general, *DIFFERENT)]
    finance = [0, 0, 0, 0, 1, 1, 1, 1] * 8
    groups = [str(i) for i in range(64)]
    models, folder = tmp_path / "models", tmp_path / "mine"
    models.mkdir(), folder.mkdir()
    model, _ = train_classifier(texts, finance, groups, seed=0)
    model.save(models / "finance.npz")
    for name in sorted(set(MODELS) - {"finance"}):  # one that keeps all: not its matter
        other, _ = train_classifier(
            texts + [t[::-1] for t in texts], [1] * 64 + [0] * 64,
            [*groups, *groups], seed=0,
        )  # fmt: skip
        other.save(models / f"{name}.npz")
    (folder / "bond.txt").write_text(DIFFERENT[0] + DIFFERENT[2], "utf-8")
    (folder / "bees.txt").write_text(general[1] + general[3], "utf-8")
    things = list(iterate_sources((f"zh={folder}",), CONFIG.max_line_bytes))
    output, rejected, _ = run(tmp_path, things, models=models)
    assert not rejected
    found = {key: document.domain for key, document in kept(output).items()}
    assert found == {"mine/bond.txt": "finance_zh", "mine/bees.txt": "general_zh"}
    assert kept(output)["mine/bond.txt"].meta["class"] == "scored"


def test_a_mixed_folder_without_scores_is_refused(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "bond.txt").write_text(DIFFERENT[0] * 2, "utf-8")
    things = list(iterate_sources((f"zh={folder}",), CONFIG.max_line_bytes))
    with pytest.raises(ValueError, match="no trained scores"):
        run(tmp_path, things)


@pytest.fixture
def unreadable(tmp_path):
    """A user's folder with an encrypted PDF, an empty file and one good page."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "a.pdf").write_bytes(pdf_file([["x"]], encrypted=True))
    (folder / "b.txt").write_bytes(b"")
    (folder / "c.html").write_bytes(html_page())
    return [
        SourceFile(p.name, str(p), "finance_zh", "mine")
        for p in sorted(folder.iterdir())
    ]


def test_unreadable_user_files_are_listed_and_the_rest_goes_on(unreadable, tmp_path):
    output, rejected, _ = run(tmp_path, unreadable)
    assert list(kept(output)) == ["c.html"]
    assert [(r["id"], r["step"]) for r in rejected] == [
        ("a.pdf", "extract"),
        ("b.txt", "extract"),
    ]
    assert "encrypted PDF" in rejected[0]["reason"]


def test_unreadable_user_files_stop_the_run_when_asked(unreadable, tmp_path):
    strict = dataclasses.replace(CONFIG, stop_on_unreadable=True)
    with pytest.raises(ValueError, match="2 of your files cannot be read") as caught:
        run(tmp_path, unreadable, config=strict)
    assert "a.pdf: encrypted PDF" in str(caught.value)
    assert "b.txt: empty file" in str(caught.value)
    assert not list((tmp_path / "run" / "out").iterdir())


def test_unreadable_raw_samples_are_rejected_instead(tmp_path):
    folder = tmp_path / "raw"
    (folder / "pdf").mkdir(parents=True)
    (folder / "pdf" / "a.pdf").write_bytes(pdf_file([["x"]], encrypted=True))
    (folder / "c.html").write_bytes(html_page())
    files = raw_sample_files(
        folder, {"c.html": "finance_zh", "pdf/a.pdf": "general_zh"}
    )
    output, rejected, _ = run(tmp_path, files)
    assert list(kept(output)) == ["raw/c.html"]
    assert rejected[0]["step"] == "extract"
    assert str(tmp_path) not in rejected[0]["reason"]


def test_nothing_to_read_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="nothing to clean"):
        run(tmp_path, [])


def test_gold_scores_by_hand(tmp_path):
    rows = [
        {"file": "a", "clean": True, "domain": "x", "key_sentences": ["利率，上升"],
         "pii": [{"type": "mobile", "text": "１３８-0013-8000"}], "note": "unused"},
        {"file": "b", "clean": False, "domain": "x", "duplicate_of": "a"},
        {"file": "c", "clean": True, "domain": "x", "pii_decoys": ["95588"]},
        {"file": "d", "clean": False, "domain": "x", "faults": ["garbage"]},
        {"file": "e", "clean": True, "domain": "x"},
    ]  # fmt: skip
    path = tmp_path / "gold.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    gold = read_gold(path)
    documents = [
        doc("raw/b", "利率上升"),
        doc("raw/c", "拨打95588"),
        doc("raw/d", "乱"),
    ]
    score = score_gold(gold, documents)
    assert score.planted_duplicates_found == 1  # b stands for a, which is gone
    assert score.clean_kept == pytest.approx(2 / 3)
    assert score.originals_kept == pytest.approx(1 / 3)
    assert (score.dirty_dropped, score.planted_pii_left) == (0.5, 0)
    assert (score.key_sentences_kept, score.decoys_kept) == (1, 1)
    poorer = score_gold(gold, [doc("raw/b", "利率下降"), *documents[1:]])
    assert poorer.clean_kept == pytest.approx(1 / 3)  # b has lost a's key sentence
    both = score_gold(gold, [*documents, doc("raw/a", "拨 138 0013 8000")])
    assert both.planted_duplicates_found == 0
    assert both.planted_pii_left == 1


def test_copies_are_in_their_original_half():
    original = GoldItem(file="a", clean=True, domain="x")
    copy = GoldItem(file="b", clean=False, domain="x", duplicate_of="a")
    assert original.half == copy.half
