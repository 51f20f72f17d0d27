"""What there is to read: the user's folders, data_samples/raw, shipped corpora.

A source is ``"domain=path"``: a folder or one file. JSONL and Parquet rows become
documents at once; other files stay paths, so that worker processes extract them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from finllm_utils.config import DataConfig
from finllm_utils.corpora.sources import TRAINING_DOMAINS as DOMAINS
from finllm_utils.corpora.sources import training_sources
from finllm_utils.data.extract_files import require_inside
from finllm_utils.records import Document, read_lines

ENGLISH_DOMAINS = ("english", "finance_en")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to extract. ``domain`` is where its text belongs.

    A link that leads out of the folder ``root`` is refused; "" allows any.
    """

    id: str
    path: str
    domain: str
    source: str
    root: str = ""


Item = Document | SourceFile


def gather_items(config: DataConfig, raw: Iterable[SourceFile] = ()) -> list[Item]:
    """Everything that 01 cleans: ``raw``, the user's folders, shipped corpora.

    Raises: ValueError when a domain would be empty, since later stages draw from each,
    and as ``iterate_sources`` and ``training_sources`` do.
    """
    own = list(iterate_sources(config.sources, config.max_line_bytes))
    shipped = list(training_sources(config))
    wanted = DOMAINS if config.licences == "all" else ()  # no clean finance_en exists
    if empty := sorted(set(wanted) - {item.domain for item in (*own, *shipped)}):
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
    if domain not in DOMAINS or not name:
        raise ValueError(
            f"data.sources has {source!r}: write domain=path with a domain of "
            f"{', '.join(DOMAINS)}"
        )
    path = Path(name).expanduser()
    if not path.exists():
        raise ValueError(f"data.sources: {path} does not exist; give an existing path")
    return domain, path


def iterate_sources(sources: tuple[str, ...], max_line_bytes: int) -> Iterator[Item]:
    """Every document and file of ``sources``, sorted by name within each.

    Raises: ValueError for an empty folder, a broken line (with its number), a file
    without a ``text`` field.
    """
    for source in sources:
        domain, root = parse_source(source)
        files = list_files(root)
        for path in files:
            name = path.name if path == root else path.relative_to(root).as_posix()
            key = f"{root.name}/{name}" if path != root else name
            if path.suffix in (".jsonl", ".parquet"):
                require_inside(path, root)
                yield from _rows(path, key, domain, max_line_bytes)
            else:
                folder = "" if path == root else str(root)
                yield SourceFile(key, str(path), domain, root.name, folder)


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


def _rows(path: Path, key: str, domain: str, max_line_bytes: int) -> Iterator[Document]:
    rows = (
        _parquet_rows(path)
        if path.suffix == ".parquet"
        else read_lines(path, max_line_bytes)
    )
    for number, row in enumerate(rows, 1):
        text = row.get("text")
        if not isinstance(text, str):
            raise ValueError(
                f"{path}, line {number}: no text field; call the column with the "
                "text 'text'"
            )
        yield Document(
            id=f"{key}/{row.get('id', number)}",
            text=text,
            source=path.stem,
            domain=domain,
        )


def _parquet_rows(path: Path) -> Iterator[dict]:
    import pyarrow.parquet as parquet

    try:
        for batch in parquet.ParquetFile(path).iter_batches(1_024):
            yield from batch.to_pylist()
    except Exception as error:  # pyarrow raises several unrelated types for bad bytes
        raise ValueError(
            f"{path}: not a readable Parquet file ({error}); write it again"
        ) from error


def raw_sample_files(folder: Path, domains: dict[str, str]) -> list[SourceFile]:
    """The files of data_samples/raw that the gold file names, each with its domain.

    Raises: ValueError when one of them is missing.
    """
    files = []
    for name, domain in sorted(domains.items()):
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path} is missing; restore data_samples/raw")
        files.append(SourceFile(f"raw/{name}", str(path), domain, "raw"))
    return files
