"""Settings of our own training loops, continued pre-training and PPO.

Import them from ``config``.
"""

from dataclasses import dataclass

from finllm_utils.config_data import require

CHOICES = {
    "trainable": ("all", "embeddings", "new_rows", "lora"),
    "schedule": ("linear", "cosine", "wsd"),
    "document_order": ("shuffled", "knowledge_first"),
    "compile": ("auto", "always", "never"),
}


NO_INFLUENCE = frozenset({
    "micro_batch_size", "checkpoint_every", "keep_checkpoints", "log_every",
    "eval_every", "activation_checkpointing", "compile", "attention", "num_replicas",
    "keep_gathered",
})  # fmt: skip
"""Settings that change the work or the last bits of a sum, not what is learnt from: a
resumed pass may change them, and curves that differ in them only are comparable."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainConfig:
    """03 and 04: one pass of the pre-training loop."""

    tokens: int
    """Tokens to train on; 0 skips the pass."""
    seq_len: int
    """Tokens a packed row."""
    micro_batch_size: int
    """Rows a forward pass of one process."""
    global_batch_size: int
    """Rows an optimiser step, over all processes."""
    learning_rate: float
    """Peak learning rate of matrices inside the layers."""
    embedding_learning_rate: float
    """Peak learning rate of embed_tokens and lm_head."""
    warmup_steps: int
    """Linear warm-up."""
    schedule: str = "linear"
    """How the rate falls after the warm-up: linear, cosine, or wsd (stays at its peak,
    then falls linearly over the last ``decay_share`` of the steps)."""
    decay_share: float = 0.2
    """Share of the steps in which a wsd schedule decays."""
    min_lr_ratio: float = 0.05
    """Learning rate at the end over its peak."""
    weight_decay: float = 0.0
    """Decoupled decay of matrices; embeddings never decay."""
    max_grad_norm: float = 1.0
    """Gradient clipping; 0 turns it off."""
    zh_share: float
    """Chinese share of the tokens; 0.75 is the recipe's zh:en 3:1."""
    finance_share_start: float
    """Finance share within each language at the start; 0.1 is 1:9."""
    finance_share_end: float
    """Finance share within each language at the end; 0.2 is 1:4."""
    mixture_points: tuple[tuple[float, float, float], ...] = ()
    """Points (progress in [0, 1], Chinese share, finance share within each language)
    of a piecewise-linear schedule; empty: the line that the three fields above draw."""
    react_to_loss: float = 0.0
    """How strongly the mixture moves to domains whose loss still falls; 0: never."""
    document_order: str = "shuffled"
    """shuffled, or knowledge_first: documents of high quality score come earlier."""
    trainable: str = "all"
    """all; embeddings (embed_tokens and lm_head only); new_rows (only their rows beyond
    the base's vocabulary); lora (adapters on every layer, and the embeddings)."""
    lora_rank: int = 16
    """Rank of the adapters when ``trainable`` is lora."""
    plateau_steps: int = 0
    """Stop when the mean loss of this many steps is not ``plateau_gain`` lower than
    that of as many before; 0: run all steps."""
    plateau_gain: float = 0.01
    """Nats a token that count as progress."""
    checkpoint_every: int = 100
    """Steps between checkpoints; 0: none, a killed pass starts again."""
    keep_checkpoints: int = 2
    """Newest checkpoints kept while the pass runs."""
    activation_checkpointing: bool = False
    """Recompute each layer in the backward pass: less memory, a third more work."""
    compile: str = "auto"
    """torch.compile of each layer: auto (on an accelerator with a compiler, in a pass
    long enough to pay for it), always, never."""
    attention: str = "auto"
    """auto takes the best present for packed documents; or the name of a back end."""
    spike_factor: float = 0.0
    """A loss above the recent median by this many of its deviations rolls back to the
    last checkpoint and skips the batches; 0: off."""
    eval_every: int = 0
    """Steps between calls of the scoring callback; 0: never."""
    num_replicas: int = 1
    """Several processes: copies of the sharded model (HSDP); 1 shards over all."""
    keep_gathered: bool = False
    """Several processes: keep whole weights between the micro-batches of a step."""
    log_every: int = 10
    """Steps between log lines."""

    def __post_init__(self) -> None:
        require(
            self.global_batch_size % self.micro_batch_size == 0,
            f"global_batch_size={self.global_batch_size} must be a multiple of "
            f"micro_batch_size={self.micro_batch_size}",
        )
        for name, known in CHOICES.items():
            value = getattr(self, name)
            require(value in known, f"{name}={value!r}: use one of {', '.join(known)}")
        shares = ("zh_share", "finance_share_start", "finance_share_end")
        for name in (*shares, "decay_share", "min_lr_ratio"):
            require(0 <= getattr(self, name) <= 1, f"{name} must be in [0, 1]")
        places = [point[0] for point in self.mixture_points]
        require(
            places == sorted(places)
            and all(0 <= v <= 1 for point in self.mixture_points for v in point),
            "mixture_points: progress must rise, and every number be in [0, 1]",
        )
        for name in ("keep_checkpoints", "num_replicas", "lora_rank", "log_every"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1")
        for name in ("checkpoint_every", "eval_every", "plateau_steps", "spike_factor"):
            require(getattr(self, name) >= 0, f"{name} must not be negative; 0 is off")

    @property
    def tokens_per_step(self) -> int:
        """Tokens an optimiser step."""
        return self.global_batch_size * self.seq_len

    @property
    def num_steps(self) -> int:
        """Optimiser steps of the whole pass."""
        return self.tokens // self.tokens_per_step

    @property
    def grad_accum_steps(self) -> int:
        """Micro-batches an optimiser step on one process."""
        return self.global_batch_size // self.micro_batch_size


@dataclass(frozen=True, kw_only=True, slots=True)
class PPOConfig:
    """08: PPO, names as in the literature; sources in rlhf/ppo.py."""

    num_updates: int
    """Rollout-and-train rounds."""
    rollout_batch_size: int
    """Prompts a rollout."""
    max_prompt_len: int
    """Longer prompts are skipped. Unit: tokens."""
    max_new_tokens: int
    """Longest response. Unit: tokens."""
    temperature: float = 1.0
    """Sampling temperature, also divided out of every log-probability."""
    learning_rate: float
    """Policy learning rate."""
    critic_learning_rate: float
    """Value network learning rate."""
    num_ppo_epochs: int
    """Passes over a rollout."""
    num_mini_batches: int
    """Optimiser steps a pass."""
    warmup_share: float = 0.0
    """Share of the updates with a rising learning rate; it then falls linearly to 0."""
    kl_coef: float
    """Weight of the per-token KL in the reward; the start when ``kl_target`` is set."""
    kl_target: float = 0.0
    """KL that the coefficient is steered to, in nats a response; 6 in arXiv 1909.08593.
    0: the coefficient stays."""
    kl_horizon: int = 10_000
    """Responses in which a KL of 20% or more over its target multiplies the coefficient
    by about 1.2."""
    early_stop_kl: float = 0.0
    """The passes over a rollout end when the new policy is farther than 1.5 times this
    from the one that sampled, in nats a token; 0.02 is usual, 0 is off."""
    train_embeddings: bool = False
    """Also train embed_tokens (and lm_head where they are tied). Off: most rows are
    never sampled, so they only pick up noise, and a third of the time goes there."""
    clip_range: float = 0.2
    """Ratio clip."""
    dual_clip: float = 0.0
    """A token with a negative advantage costs at most this many times its size (arXiv
    1912.09729, equation 5); 3 is usual, 0 is off."""
    value_clip_range: float = 0.2
    """Value clip."""
    vf_coef: float = 0.1
    """Weight of the value loss."""
    critic_warmup_updates: int = 0
    """First updates that train the critic alone; 5 to 20 help a critic that does not
    start from the reward model."""
    ptx_coef: float = 0.0
    """Weight of the loss on pre-training text, in nats a token, beside the policy's
    (PPO-ptx, arXiv 2203.02155, equation 2, with 27.8); 0 is off."""
    ptx_batch_size: int = 8
    """Rows of pre-training text an optimiser step."""
    ptx_seq_len: int = 128
    """Longer documents are cut into rows of this many tokens."""
    gamma: float = 1.0
    """Discount."""
    gae_lambda: float = 0.95
    """GAE lambda."""
    missing_eos_penalty: float = 1.0
    """Subtracted from the score of a response without EOS."""
    reward_clip: float = 5.0
    """Scores are clipped to this many standard deviations."""
    whiten_rewards: bool = False
    """Divide token rewards by their deviation in the rollout; their mean stays."""
    max_grad_norm: float = 1.0
    """Gradient clipping."""
    float32_logits: bool = False
    """With runtime.dtype bfloat16, compute the output layer in float32 all the same."""
    save_every: int = 5
    """Updates between checkpoints, which a killed run goes on from; 0: none."""
    num_eval_prompts: int
    """Unseen prompts for reward before and after."""

    def __post_init__(self) -> None:
        require(
            self.rollout_batch_size % self.num_mini_batches == 0,
            f"ppo.rollout_batch_size={self.rollout_batch_size} must be a multiple of "
            f"ppo.num_mini_batches={self.num_mini_batches}",
        )
        self._check_kl()
        require(
            self.dual_clip == 0 or self.dual_clip > 1,
            f"ppo.dual_clip={self.dual_clip} must be above 1, or 0 for none",
        )
        require(
            0 <= self.warmup_share < 1,
            f"ppo.warmup_share={self.warmup_share} must be in [0, 1)",
        )
        require(
            0 <= self.critic_warmup_updates <= max(0, self.num_updates - 1),
            f"ppo.critic_warmup_updates={self.critic_warmup_updates} leaves none of "
            f"ppo.num_updates={self.num_updates} to the policy: lower it",
        )
        require(
            self.ptx_coef >= 0 and self.ptx_batch_size >= 1 and self.save_every >= 0,
            f"ppo.ptx_coef={self.ptx_coef} and ppo.save_every={self.save_every} must "
            f"be 0 or more, ppo.ptx_batch_size={self.ptx_batch_size} 1 or more",
        )
        require(
            self.ptx_seq_len >= 2,
            f"ppo.ptx_seq_len={self.ptx_seq_len}: a row predicts its second token from "
            "its first, so it needs at least 2",
        )

    def _check_kl(self) -> None:
        require(
            self.kl_target >= 0 and self.early_stop_kl >= 0,
            f"ppo.kl_target={self.kl_target} and ppo.early_stop_kl="
            f"{self.early_stop_kl} must be 0 or more; 0 is off",
        )
        if self.kl_target:
            require(
                self.kl_coef > 0 and self.kl_horizon >= self.rollout_batch_size,
                f"ppo.kl_target={self.kl_target} multiplies ppo.kl_coef="
                f"{self.kl_coef}: start above 0, with ppo.kl_horizon="
                f"{self.kl_horizon} not below ppo.rollout_batch_size="
                f"{self.rollout_batch_size}",
            )
