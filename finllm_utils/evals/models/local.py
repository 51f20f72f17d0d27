"""Models of the table that run in this process: folders, adapters, GGUF files.

Each becomes a float32 network with its tokenizer (or another dtype, for folders): an
adapter is merged onto its base, a GGUF file is dequantised once into a folder. Suites
that score by likelihood take ``network`` and ``tokenizer`` (``require_weights``).
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from jinja2 import TemplateError
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from finllm_utils.corpora.packages import SMOLLM2, smollm2_file
from finllm_utils.evals.models.generate import greedy_texts
from finllm_utils.evals.models.prompts import Answering, Failure, Prompt
from finllm_utils.files import atomic_folder, file_digest, read_json
from finllm_utils.model.base import load_base_model
from finllm_utils.model.load import load_model, load_tokenizer, save_model
from finllm_utils.tokenizer.base import load_base_tokenizer
from finllm_utils.tokenizer.expand import as_pretrained
from finllm_utils.tokenizer.gguf import read_metadata
from finllm_utils.train.adapters import merge_adapter
from finllm_utils.train.sft import encode_prompt

_DIGEST_CHARS = 12  # of a GGUF file's, in the name of its folder


class LocalModel:
    """A network with its tokenizer; see ``prompts.Answering``."""

    def __init__(
        self,
        name: str,
        network: LlamaForCausalLM,
        tokenizer: PreTrainedTokenizerBase,
        *,
        chat: bool | None = None,
        batch_size: int = 32,
    ) -> None:
        """Takes the two as they are.

        Args: chat says whether the model was taught its chat template; None takes a
        template for a yes.
        Raises: ValueError when chat is asked for without a template, when the tokenizer
        has more tokens than the network rows, or a weight is NaN or infinite.
        """
        has_template = tokenizer.chat_template is not None
        rows = network.get_input_embeddings().weight.shape[0]
        if chat and not has_template:
            raise ValueError(
                f"{name}: chat=true, but its tokenizer has no chat template"
            )
        if len(tokenizer) > rows:
            raise ValueError(
                f"{name}: the tokenizer has {len(tokenizer):,} tokens, the model rows "
                f"for {rows:,}: give the tokenizer of this very model"
            )
        for key, weight in network.named_parameters():
            if not torch.isfinite(weight).all():
                raise ValueError(f"{name}: {key} holds NaN or infinity; save it anew")
        self.name, self.network, self.tokenizer = name, network, tokenizer
        self.chat = has_template if chat is None else chat
        self._batch_size = batch_size

    def answers(
        self, prompts: Sequence[Prompt], max_new_tokens: int
    ) -> list[str | Failure]:
        """The likeliest token each time; a failure where the prompt cannot be put."""
        encoded = [self._encoded(prompt, max_new_tokens) for prompt in prompts]
        ids = [one for one in encoded if not isinstance(one, Failure)]
        texts = iter(
            greedy_texts(
                self.network, self.tokenizer, ids, max_new_tokens, self._batch_size
            )
        )
        return [one if isinstance(one, Failure) else next(texts) for one in encoded]

    def _encoded(self, prompt: Prompt, max_new_tokens: int) -> list[int] | Failure:
        if self.chat:
            try:
                ids = encode_prompt(self.tokenizer, prompt.messages)
            except TemplateError as error:  # such as a role that it does not know
                return Failure(f"the chat template refuses the prompt: {error}")
        elif prompt.continues:
            ids = self.tokenizer(prompt.messages[-1].content)["input_ids"]
        else:
            return Failure(
                "a chat prompt, but the model has no chat template that it was taught; "
                "give a tokenizer with one, or ask chat models only"
            )
        context = self.network.config.max_position_embeddings
        if not ids or len(ids) + max_new_tokens > context:
            return Failure(
                f"a prompt of {len(ids)} tokens and {max_new_tokens} new ones do not "
                f"fit the context of {context}"
            )
        return ids


def require_weights(model: Answering) -> LocalModel:
    """``model`` itself, where likelihoods can be computed.

    Raises: ValueError for a model that only answers.
    """
    if not isinstance(model, LocalModel):
        raise ValueError(
            f"{model.name}: its weights are not here, so it gives no likelihoods; "
            "score it by what it writes (run_exam)"
        )
    return model


def load_folder(
    where: Path | str,
    tokenizer: Path | str | None,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    """Network and tokenizer of a Hugging Face folder.

    Raises: ValueError when either is missing.
    """
    words = load_tokenizer(tokenizer or where)
    return load_model(where, dtype=dtype, device=device), words


def load_adapter(
    where: Path | str,
    base: Path | str | None,
    tokenizer: Path | str | None,
    *,
    cache: Path,
    device: str = "cpu",
    trust_base: bool = False,
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    """Network and tokenizer of an adapter merged onto its base, in float32.

    Args: base is a folder or GGUF file; without one, what the adapter's own settings
    name, where that is on this disk.
    Raises: ValueError when there is no base, no adapter, or one of another base.
    """
    if not (config := Path(where) / "adapter_config.json").is_file():
        raise ValueError(f"{where}: not an adapter folder (no adapter_config.json)")
    base = base or read_json(config).get("base_model_name_or_path") or ""
    if not (is_gguf(base) or (base and Path(base).is_dir())):
        raise ValueError(
            f"{where}: the base {str(base)!r} of this adapter is not on this disk; set "
            "base to the folder that it was trained on"
        )
    plain = gguf_folder(base, cache, tokenizer) if is_gguf(base) else Path(base)
    own = Path(where) / "tokenizer.json"
    words = load_tokenizer(tokenizer or (where if own.is_file() else plain))
    merged = merge_adapter(plain, where, trust_base=trust_base)
    return merged.to(device), words


def is_gguf(where: Path | str) -> bool:
    """Whether ``where`` names a GGUF file, or the one that ships in a package."""
    return str(where) == SMOLLM2 or Path(where).suffix == ".gguf"


def gguf_folder(
    where: Path | str, cache: Path, tokenizer: Path | str | None = None
) -> Path:
    """The folder with the file's weights as float32 safetensors, and its tokenizer.

    Made once: its name ends in the file's digest, so another file gets another folder.
    Args: where is a GGUF file or "smollm2-135m"; tokenizer is a folder to take instead
    of the file's own, of which only byte-level BPE is read.
    Raises: ValueError when the file is missing, no GGUF, or holds another tokenizer.
    """
    file = smollm2_file() if str(where) == SMOLLM2 else Path(where)
    if not file.is_file():
        raise ValueError(f"{where}: no such file; give a GGUF file")
    folder = cache / f"{file.stem}-{file_digest(file)[:_DIGEST_CHARS]}"
    if not folder.is_dir():
        words = load_tokenizer(tokenizer) if tokenizer else _gguf_tokenizer(file)
        network = load_base_model(str(file))
        with atomic_folder(folder) as made:
            save_model(network, words, made)
    return folder


def _gguf_tokenizer(file: Path) -> PreTrainedTokenizerBase:
    """The file's tokenizer with the end of text and the chat template that it names."""
    meta = read_metadata(file)
    words = as_pretrained(load_base_tokenizer(str(file)), chat=False)
    if (eos := meta.get("tokenizer.ggml.eos_token_id")) is not None:
        words.eos_token = words.convert_ids_to_tokens(int(eos))
    words.chat_template = meta.get("tokenizer.chat_template")
    return words
