"""What a pre-training pass is watched by: unseen text and a task, as it goes.

The text is kept out of the bins, one document in a hundred by the digest of its id; the
task's questions are the validation split. Neither is what the stages are judged by, so
whoever stops a pass by these curves tunes on nothing that is reported.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from finllm_utils.config import EvalsConfig
from finllm_utils.corpora.insurance import insurance_answers
from finllm_utils.corpora.splits import insurance_questions
from finllm_utils.evals.bits_per_byte import KEPT_OUT, BitsPerByte, bits_per_byte
from finllm_utils.evals.choice import (
    ChoiceItem,
    ChoiceResult,
    build_choice_items,
    choice_accuracy,
)
from finllm_utils.evals.monitor import Probe, Scored
from finllm_utils.records import Document, read_records
from finllm_utils.train.mixture import DOMAINS

ONE_IN = 100
NUM_DOCUMENTS = 8  # a domain
MAX_CHARS = 800
NUM_ITEMS = 32
ALLOWED_LOSS = 0.02  # of bits per byte, before a monitor calls it a loss


def is_kept_out(document_id: str, one_in: int = ONE_IN) -> bool:
    """Whether a document is kept out of training; the same in every run."""
    digest = hashlib.sha256(document_id.encode()).digest()
    return int.from_bytes(digest[:4], "big") % one_in == 0


def kept_out(documents: Iterable[Document], one_in: int = ONE_IN) -> list[Document]:
    """The documents that training leaves out, under ids that say so."""
    return [
        replace(document, id=KEPT_OUT + document.id)
        for document in documents
        if is_kept_out(document.id, one_in)
    ]


def left_in(corpus: Path, domain: str) -> Iterator[Document]:
    """The documents of a cleaned corpus that training may read, one at a time."""
    for document in read_records(Path(corpus) / f"{domain}.jsonl", Document):
        if not is_kept_out(document.id):
            yield document


class PretrainWatch:
    """Short texts and questions that no stage trains on; ``probes`` for a ``Monitor``.

    They are named ``bpb/<domain>`` and ``score/insurance_choice``, the share of
    four-way questions whose right answer is the likeliest (chance is 0.25).
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        documents: Mapping[str, Sequence[Document]],
        items: Sequence[ChoiceItem],
        *,
        window: int,
        batch_tokens: int,
    ) -> None:
        self.documents = {d: part for d, part in documents.items() if part}
        self.items = items
        self._tokenizer, self._window = tokenizer, window
        self._batch_tokens = batch_tokens

    def text(self, domain: str, model: LlamaForCausalLM) -> BitsPerByte:
        """Bits per byte on the watched documents of a domain."""
        return bits_per_byte(
            model,
            self._tokenizer,
            self.documents[domain],
            window=self._window,
            batch_tokens=self._batch_tokens,
            num_bootstrap=1,
            seed=0,
        )

    def choice(self, model: LlamaForCausalLM) -> ChoiceResult:
        """The watched questions, asked in plain text."""
        return choice_accuracy(
            model,
            self._tokenizer,
            self.items,
            prompt="plain",
            batch_tokens=self._batch_tokens,
        )

    def probes(self, allowed_loss: float = ALLOWED_LOSS) -> list[Probe]:
        """What a ``Monitor`` reads from the same texts and questions.

        Args: allowed_loss is the share of bits per byte that a stage may cost.
        """

        def text_probe(domain: str) -> Probe:
            def score(model: LlamaForCausalLM) -> Scored:
                found = self.text(domain, model)
                bits = [size * math.log(2) for size in found.document_bytes]
                return Scored(values=found.document_nats, weights=bits)

            return Probe(
                name=f"bpb/{domain}",
                score=score,
                lower_is_better=True,
                allowed_loss=allowed_loss,
            )

        questions = Probe(
            name="score/insurance_choice",
            score=lambda model: Scored(values=self.choice(model).hits),
        )
        texts = [text_probe(domain) for domain in self.documents]
        return [*texts, questions] if self.items else texts


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchSettings:
    """What a watch is made from: plain values, which other processes can be sent."""

    corpus: str
    """Folder that 01 wrote, one JSONL file a domain."""
    batch_tokens: int
    """Tokens a scoring batch."""
    choice_tolerance: float
    """Longest option over shortest, less one."""
    seed: int
    """Chooses the questions."""
    max_chars: int = MAX_CHARS
    """Of each document: a check must cost little beside training."""
    num_items: int = NUM_ITEMS
    """Questions."""

    @classmethod
    def of(
        cls, corpus: Path, cfg: EvalsConfig, seed: int, **smaller: int
    ) -> "WatchSettings":
        """Those of a run; ``smaller`` names ``max_chars`` or ``num_items``."""
        return cls(
            corpus=str(corpus),
            batch_tokens=cfg.batch_tokens,
            choice_tolerance=cfg.choice_tolerance,
            seed=seed,
            **smaller,
        )


def pretrain_watch(
    tokenizer: PreTrainedTokenizerBase, settings: WatchSettings, window: int
) -> PretrainWatch:
    """A watch over a cleaned corpus: short texts of each domain and a few questions.

    Args: window in tokens.
    """
    documents = {}
    for domain in DOMAINS:
        path = Path(settings.corpus) / f"{domain}.jsonl"
        found = kept_out(read_records(path, Document))
        documents[domain] = [
            replace(d, text=d.text[: settings.max_chars]) for d in found[:NUM_DOCUMENTS]
        ]
    items = build_choice_items(
        insurance_questions("valid"),
        insurance_answers(),
        settings.num_items,
        settings.choice_tolerance,
        settings.seed,
    )
    return PretrainWatch(
        tokenizer, documents, items, window=window, batch_tokens=settings.batch_tokens
    )
