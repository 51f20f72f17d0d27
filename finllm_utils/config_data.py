"""Settings of data cleaning, and the check that every settings class uses.

A file of its own because it is the longest section; import it from ``config``.
"""

from dataclasses import dataclass


def require(condition: bool, message: str) -> None:
    """Raises ValueError with ``message`` when a setting is wrong."""
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """01: what is read and how it is cleaned."""

    sources: tuple[str, ...] = ()
    """Your own folders as "domain=path", read beside the corpora that packages ship:
    general_zh, finance_zh, english, finance_en, or zh, where the finance score of each
    document decides."""
    shipped: tuple[str, ...] = ("general_zh", "finance_zh", "english", "finance_en")
    """Domains for which package-shipped corpora are read; leave one out where your own
    folders replace them."""
    licences: str = "all"
    """"all", or "clean": only shipped text in the public domain (finance_en has none,
    so the later stages then need your own), data_samples/raw and your folders."""
    docs_per_shard: int = 50_000
    """Documents a Parquet shard of the published dataset."""
    include_raw_samples: bool = True
    """Also clean data_samples/raw, whose faults are known."""
    chars_general_zh: int
    """Characters read from shipped general Chinese corpora before cleaning."""
    chars_finance_zh: int
    """Characters read from shipped Chinese finance corpora before cleaning."""
    chars_english: int
    """Characters read from shipped general English corpora before cleaning."""
    chars_finance_en: int
    """Characters read from shipped English finance corpora before cleaning."""
    filters: tuple[str, ...] = ()
    """Filters of your own, "path/to/file.py:function", each (text, meta) -> (keep,
    reason); a notebook may pass the functions themselves."""
    min_chars: int = 40
    """Shorter documents are dropped. Unit: characters."""
    minhash_bands: int = 20
    """LSH bands; 20 bands of 6 find 99.8% of pairs at Jaccard 0.8 (measured)."""
    minhash_rows: int = 6
    """Hashes a band."""
    minhash_ngram: int = 5
    """Characters a shingle."""
    jaccard_threshold: float = 0.8
    """Candidates at or above this exact Jaccard similarity are duplicates."""
    min_clean: float = 0.5
    """Chinese text whose probability of being clean is below this is dropped. Out of
    fold on the gold half dev 0.5 and 0.6 keep the same clean documents; the lower one
    drops 57 instead of 59 of 66 dirty ones by score alone, and keeps more of the good
    texts in unusual forms (data_samples/quality, part d)."""
    num_anchors: int = 800
    """Documents of each shipped Chinese source that teach the scores what its kind of
    text looks like; with 150, one review in thirteen scored as dirt."""
    keep_top_share: float = 1.0
    """Share of each Chinese domain's characters kept, best quality first."""
    template_ngram: int = 40
    """Characters of a window that marks a template when many documents share it."""
    template_min_docs: int = 4
    """Documents of one domain that must share it; 0 leaves templates alone."""
    paragraph_min_chars: int = 100
    """Letters and digits of a paragraph that is cut where a better document of the
    domain has it; 0 leaves paragraphs alone."""
    verbatim_sources: tuple[str, ...] = ("laws",)
    """Sources from which no template or paragraph is cut: a statute is kept whole;
    decontamination takes articles from them, not lines."""
    decontamination_ngram: int = 30
    """Characters of a window shared with held-out text that count as an overlap."""
    max_line_bytes: int = 16 * 2**20
    """A longer line of JSONL or plain text is an error."""
    executor: str = "local"
    """Where the cleaning tasks run: local (processes), slurm (sbatch arrays) or ray;
    runtime.num_workers at a time. The result is the same."""
    slurm_partition: str = ""
    """SLURM partition; slurm needs one."""
    slurm_time: str = "24:00:00"
    """Time limit of a SLURM task."""
    ray_address: str = ""
    """A Ray cluster, "auto" or host:port; empty starts a small Ray on this machine."""
    task_memory_gb: int = 4
    """Memory that SLURM or Ray reserves for a task. Unit: GiB."""
    rater: str = ""
    """Your name, to be asked in notebook 01 about what the filters dropped."""
    stop_on_unreadable: bool = False
    """Stop when a file of yours cannot be read, and write nothing; else each is listed
    with its reason in rejected.jsonl and the rest goes on."""
    max_file_bytes: int = 64 * 2**20
    """A larger file is reported instead of read; a web archive's pages count singly."""

    def __post_init__(self) -> None:
        for name in ("jaccard_threshold", "keep_top_share"):
            value = getattr(self, name)
            require(0 < value <= 1, f"data.{name}={value} must be in (0, 1]")
        require(
            self.licences in ("all", "clean"),
            f"data.licences={self.licences!r}: use all or clean",
        )
        require(
            self.template_min_docs == 0 or self.template_min_docs >= 2,
            "data.template_min_docs must be 0 (off) or at least 2",
        )
        for entry in self.filters:
            path, _, name = entry.rpartition(":")
            require(
                path.endswith(".py") and name.isidentifier(),
                f"data.filters has {entry!r}: write path/to/file.py:function",
            )
        require(
            self.paragraph_min_chars >= 0,
            "data.paragraph_min_chars must be 0 (off) or more",
        )
        require(
            self.executor in ("local", "slurm", "ray"),
            f"data.executor={self.executor!r}: use local, slurm or ray",
        )
        require(
            self.executor != "slurm" or self.slurm_partition != "",
            "data.executor='slurm' needs data.slurm_partition, as `sinfo` lists them",
        )
        require(self.task_memory_gb >= 1, "data.task_memory_gb must be at least 1")
