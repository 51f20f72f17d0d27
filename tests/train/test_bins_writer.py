"""Corpus to bins: the bytes of the plain loop, whatever the workers and the breaks."""

import os
import signal
import subprocess
import sys
import time
from itertools import count

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from finllm_utils.tokenizer.base import load_base_tokenizer
from finllm_utils.tokenizer.expand import as_pretrained
from finllm_utils.train import bin_writer
from finllm_utils.train.bins import check_bins, read_meta, write_bin

SUFFIXES = (".bin", ".idx", ".json")


@pytest.fixture(scope="module")
def tokenizer():
    return as_pretrained(load_base_tokenizer("mistral-v1"), chat=False)


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(0)
    words = "the rate of loan 贷款 利率 is 5.25% a year\n\t 税 <s> é".split(" ")
    return ["", *(" ".join(rng.choice(words, rng.integers(1, 40))) for _ in range(200))]


def words_tokenizer(vocab_size, **special):
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2}
    vocab |= {f"w{i}": i for i in range(3, vocab_size)}
    words = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", **{"bos_token": "<s>", **special}
    )


@pytest.fixture(scope="module")
def words():
    return words_tokenizer(100, eos_token="</s>")


def plain_loop(texts, tokenizer):
    """What a reader would write first: every document in memory."""
    dtype = np.uint16 if len(tokenizer) < 2**16 else np.uint32
    ids = [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in texts]
    starts = np.cumsum([0, *map(len, ids)])
    return np.concatenate(ids).astype(dtype).tobytes(), starts.tobytes()


def contents(folder, name="english"):
    return {s: (folder / f"{name}{s}").read_bytes() for s in SUFFIXES}


@pytest.mark.parametrize("num_workers", [1, 2])
def test_bytes_are_those_of_the_plain_loop(
    tmp_path, texts, tokenizer, num_workers, monkeypatch
):
    monkeypatch.setattr(bin_writer, "PART_CHARS", 2_000)
    written = write_bin(
        tmp_path, "english", iter(texts), tokenizer, num_workers=num_workers
    )
    found = contents(tmp_path)
    assert (found[".bin"], found[".idx"]) == plain_loop(texts, tokenizer)
    assert written == len(found[".bin"]) // 2
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        f"english{s}" for s in SUFFIXES
    )  # no part is left
    assert check_bins(tmp_path, tokenizer, read_all=True)


def test_a_large_vocabulary_takes_four_bytes_and_bos_is_put_where_it_is_missing(
    tmp_path,
):
    tokenizer = words_tokenizer(70_000, eos_token="</s>")
    write_bin(tmp_path, "english", ["w5 w69999", "w6"], tokenizer)
    tokens = np.fromfile(tmp_path / "english.bin", dtype=np.uint32)
    assert tokens.tolist() == [1, 5, 69_999, 2, 1, 6, 2]
    assert read_meta(tmp_path, "english").dtype == "uint32"


def test_a_tokenizer_without_two_edge_tokens_is_refused(tmp_path):
    for special in ({}, {"eos_token": "<s>"}, {"bos_token": None, "eos_token": "</s>"}):
        with pytest.raises(ValueError, match="must be two tokens"):
            write_bin(tmp_path, "x", ["w3"], words_tokenizer(10, **special))


def test_an_id_beyond_the_vocabulary_names_the_document(tmp_path, monkeypatch):
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2, "w9": 9}  # 4 tokens, a gap before 9
    words = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>"
    )
    monkeypatch.setattr(bin_writer, "PART_CHARS", 6)
    with pytest.raises(ValueError, match="'english', document 4: token id 9 is beyond"):
        write_bin(tmp_path, "english", ["a bcde"] * 4 + ["w9", "a"], tokenizer)
    assert not (tmp_path / "english.bin").exists()


@pytest.mark.parametrize(
    ("texts", "scores", "message"),
    [
        ([], None, "no text for domain 'finance_zh'"),
        (["a", None], None, "document 1: NoneType instead of a text"),
        (["a", "b"], [0.5], "document 1: give as many scores"),
        (["a"], [0.5, 0.0], "document 1: give as many scores"),
        (["a"], [None], "document 0: its score is None"),
        (["a", "b"], [0.5, float("nan")], "document 1: its score is nan"),
    ],
)
def test_bad_input_is_named(tmp_path, tokenizer, texts, scores, message):
    with pytest.raises(ValueError, match=message):
        write_bin(tmp_path, "finance_zh", texts, tokenizer, scores=scores)
    assert not list(tmp_path.glob("finance_zh*"))


def test_scores_lie_beside_the_bin_in_the_order_of_the_texts(tmp_path, words):
    texts, scores = ["a", "b", "c"], [0.25, 1.5, -3.0]
    write_bin(tmp_path, "english", texts, words, scores=iter(scores))
    assert np.fromfile(tmp_path / "english.score", np.float32).tolist() == scores
    write_bin(tmp_path, "english", texts, words)  # now without: no stale file
    assert not (tmp_path / "english.score").exists()


class CountedText(str):
    """A text that knows how many of its kind are alive."""

    alive = most = 0

    def __new__(cls, text):
        cls.alive += 1
        cls.most = max(cls.most, cls.alive)
        return super().__new__(cls, text)

    def __del__(self):
        type(self).alive -= 1


def test_the_corpus_is_never_held_as_a_whole(tmp_path, words, monkeypatch):
    monkeypatch.setattr(bin_writer, "PART_CHARS", 100)
    corpus = (CountedText(f"text number {i:06d}") for i in range(400))
    write_bin(tmp_path, "english", corpus, words)
    assert read_meta(tmp_path, "english").documents == 400
    assert CountedText.most < 40  # six a part


def test_a_run_that_broke_off_tokenises_only_what_is_missing(
    tmp_path, texts, words, monkeypatch
):
    monkeypatch.setattr(bin_writer, "PART_CHARS", 2_000)
    write_bin(tmp_path / "straight", "english", texts, words)
    written = count()
    write = bin_writer._Part.write
    monkeypatch.setattr(
        bin_writer._Part,
        "write",
        lambda *args: (next(written), write(*args)),
    )

    def breaks_off():
        yield from texts[:120]
        raise OSError("the disk went away")

    broken, parts = tmp_path / "broken", tmp_path / "parts"
    with pytest.raises(OSError, match="went away"):
        write_bin(broken, "english", breaks_off(), words, parts=parts)
    finished = sorted((parts / ".english.parts").iterdir())
    assert next(written) == len(finished) > 3
    assert not (broken / "english.json").exists()
    finished[0].write_bytes(finished[0].read_bytes()[:-10])  # a damaged part
    changed = [*texts[:60], "a text that came later", *texts[61:]]
    write_bin(broken, "english", changed, words, parts=parts)
    write_bin(tmp_path / "changed", "english", changed, words)
    assert contents(broken) == contents(tmp_path / "changed")
    with pytest.raises(OSError, match="went away"):
        write_bin(broken, "english", breaks_off(), words, parts=parts)
    before = next(written)
    write_bin(broken, "english", texts, words, parts=parts)
    assert next(written) - before - 1 < len(finished) + 3  # the rest, not everything
    assert contents(broken) == contents(tmp_path / "straight")
    assert not list(parts.iterdir())


KILLED = """
import sys, time
from finllm_utils.train import bin_writer

if __name__ == "__main__":
    from transformers import AutoTokenizer
    bin_writer.PART_CHARS = 500
    slow = float(sys.argv[2])
    texts = (time.sleep(slow) or f"w{i} w7 w8 w9" for i in range(600))
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[3])
    bin_writer.write_bin(sys.argv[1], "english", texts, tokenizer, num_workers=2)
"""


def test_after_sigkill_no_process_stays_and_a_second_run_ends_alike(
    tmp_path, words, monkeypatch
):
    script, folder = tmp_path / "write.py", tmp_path / "bins"
    words.save_pretrained(tmp_path / "words")
    script.write_text(KILLED, encoding="utf-8")
    command = [
        sys.executable,
        str(script),
        str(folder),
        "0.02",
        str(tmp_path / "words"),
    ]
    run = subprocess.Popen(command, start_new_session=True)
    parts = folder / ".english.parts"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and run.poll() is None:
        if parts.exists() and len(list(parts.glob("0*"))) >= 3:
            break
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while group_is_alive(run.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not group_is_alive(run.pid), "a worker outlived the run"
    assert len(list(parts.glob("0*"))) >= 3 and not (folder / "english.json").exists()
    texts = [f"w{i} w7 w8 w9" for i in range(600)]
    monkeypatch.setattr(bin_writer, "PART_CHARS", 500)
    write_bin(folder, "english", texts, words)
    write_bin(tmp_path / "straight", "english", texts, words)
    assert contents(folder) == contents(tmp_path / "straight")


def group_is_alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
