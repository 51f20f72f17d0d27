"""What there is to read: the user's folders, data_samples/raw, shipped corpora.

A source is ``"domain=path"``: a folder or one file. JSONL and Parquet rows become
documents at once; other files stay paths, so that worker processes extract them. What
cannot be read stays one too: the worker says why, and the audit trail has it.
The domain ``zh`` leaves the class open: the finance score of each document decides
between general_zh and finance_zh (``settle_class``).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from finllm_utils.config import DataConfig
from finllm_utils.corpora.sources import TRAINING_DOMAINS as DOMAINS
from finllm_utils.corpora.sources import training_sources
from finllm_utils.data.extract_files import require_inside
from finllm_utils.data.extract_rows import SUFFIXES, read_rows
from finllm_utils.records import Document

ENGLISH_DOMAINS = ("english", "finance_en")
OPEN_DOMAIN = "zh"
_CHINESE = (
    "general_zh",
    "finance_zh",
)  # what an open class can become; first till then


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to extract. ``domain`` is where its text belongs.

    A link that leads out of the folder ``root`` is refused; "" allows any. ``meta`` is
    what the document's starts with.
    """

    id: str
    path: str
    domain: str
    source: str
    root: str = ""
    meta: dict = field(default_factory=dict)


Item = Document | SourceFile


def gather_items(config: DataConfig, raw: Iterable[SourceFile] = ()) -> list[Item]:
    """Everything that 01 cleans: ``raw``, the user's folders, shipped corpora.

    Raises: ValueError when a domain would be empty, since later stages draw from each,
    and as ``iterate_sources`` and ``training_sources`` do.
    """
    own = list(iterate_sources(config.sources, config.max_line_bytes))
    shipped = list(training_sources(config))
    wanted = DOMAINS if config.licences == "all" else ()  # no clean finance_en exists
    found = {item.domain for item in (*own, *shipped)}
    found |= set(_CHINESE) if any(map(is_open, own)) else set()
    if empty := sorted(set(wanted) - found):
        raise ValueError(
            f"no text for {', '.join(empty)}, and later stages draw from every domain: "
            'add "domain=path" to data.sources, or the domain to data.shipped'
        )
    return [*raw, *own, *shipped]


def parse_source(source: str) -> tuple[str, Path]:
    """``"finance_zh=reports"`` as domain and path.

    Raises: ValueError naming the setting for an unknown domain or a missing path.
    """
    domain, _, name = source.partition("=")
    if domain not in (*DOMAINS, OPEN_DOMAIN) or not name:
        raise ValueError(
            f"data.sources has {source!r}: write domain=path with a domain of "
            f"{', '.join(DOMAINS)}, or {OPEN_DOMAIN} to let each document's finance "
            "score decide"
        )
    path = Path(name).expanduser()
    if not path.exists():
        raise ValueError(f"data.sources: {path} does not exist; give an existing path")
    return domain, path


def iterate_sources(sources: tuple[str, ...], max_line_bytes: int) -> Iterator[Item]:
    """Every document and file of ``sources``, sorted by name within each.

    A JSONL or Parquet file with a fault comes behind its good rows, as a file: reading
    it again (``extract.read_file``) raises the reason.
    Raises: ValueError for a path that does not exist or a folder without files.
    """
    for source in sources:
        domain, root = parse_source(source)
        meta = {"class": "open"} if domain == OPEN_DOMAIN else {}
        domain = _CHINESE[0] if meta else domain
        for path in list_files(root):
            name = path.name if path == root else path.relative_to(root).as_posix()
            key = f"{root.name}/{name}" if path != root else name
            folder = "" if path == root else str(root)
            file = SourceFile(key, str(path), domain, root.name, folder, meta)
            if path.suffix in SUFFIXES:
                yield from _rows(file, max_line_bytes)
            else:
                yield file


def list_files(root: Path) -> list[Path]:
    """The files under ``root`` (or itself), sorted; hidden ones are left out.

    Raises: ValueError when there is none.
    """
    if root.is_file():
        return [root]
    files = [
        p
        for p in sorted(root.rglob("*"))
        if (p.is_file() or p.is_symlink())  # a broken link is reported, not passed over
        and not any(s.startswith(".") for s in p.relative_to(root).parts)
    ]
    if not files:
        raise ValueError(
            f"{root}: empty folder; put files there or take it out of data.sources"
        )
    return files


def _rows(file: SourceFile, max_line_bytes: int) -> Iterator[Item]:
    """The documents of a file of rows, then the file itself when it has a fault."""
    path, faulty = Path(file.path), False
    try:
        if file.root:
            require_inside(path, Path(file.root))
        for number, row in read_rows(path, max_line_bytes):
            if isinstance(row, str):
                faulty = True
                continue
            yield Document(
                id=f"{file.id}/{row.get('id', number)}",
                text=row["text"],
                source=path.stem,
                domain=file.domain,
                meta=dict(file.meta),
            )
    except ValueError:
        faulty = True
    if faulty:
        yield file


def is_open(item: Item) -> bool:
    """Whether the finance score is to decide the class of ``item``."""
    return item.meta.get("class") == "open"


def settle_class(row: dict) -> None:
    """Gives a scored document of an open class its domain, in place.

    Args: row has ``domain`` and ``meta``, with the probability ``finance`` in it; one
    whose class was stated is left alone. Afterwards ``meta["class"]`` is "scored".
    Raises: ValueError when the class is open and there is no score.
    """
    meta = row["meta"]
    if meta.get("class") != "open":
        return
    if "finance" not in meta:
        raise ValueError(
            f"data.sources names a {OPEN_DOMAIN}= folder, whose classes the finance "
            "score decides, but there are no trained scores: give the folder of models "
            f"that 01 trains, or write {' or '.join(f'{d}=' for d in _CHINESE)}"
        )
    row["domain"] = _CHINESE[meta["finance"] >= 0.5]
    row["meta"] = {**meta, "class": "scored"}


def raw_sample_files(
    folder: Path, domains: dict[str, str], source: str = "raw"
) -> list[SourceFile]:
    """The files of ``folder`` that its gold file names, each with its domain.

    Raises: ValueError when one of them is missing.
    """
    files = []
    for name, domain in sorted(domains.items()):
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path} is missing; restore {folder}")
        files.append(SourceFile(f"{source}/{name}", str(path), domain, source))
    return files
