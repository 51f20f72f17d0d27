"""A pass under way: set up, one step, one rollback, one checkpoint, and its end.

``pretrain`` turns this crank; nothing else calls it.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from finllm_utils.config import PretrainConfig, RuntimeConfig
from finllm_utils.runtime import resolve_device, resolve_dtype
from finllm_utils.train import guards, parallel
from finllm_utils.train.checkpoint import Checkpoints
from finllm_utils.train.identity import pass_fingerprint, require_fitting_model
from finllm_utils.train.loss import Batch, prepare_batch
from finllm_utils.train.mixture import DOMAINS, RowSampler
from finllm_utils.train.placement import Placed
from finllm_utils.train.progress import DomainLosses, Progress, Stopwatch
from finllm_utils.train.reweight import ReactState, react
from finllm_utils.train.rows import MixedRows
from finllm_utils.train.schedule import rate_at

_log = logging.getLogger(__name__)
REACT_ROWS = 512  # rows whose losses move the mixture: fewer would be noise


class Pass:
    """What the steps of a pass read and change."""

    def __init__(
        self,
        model: PreTrainedModel,
        bins: Path,
        cfg: PretrainConfig,
        runtime: RuntimeConfig,
        *,
        embedding_names: set[str],
        seed: int,
        checkpoints: Path | None,
        first_new_row: int,
    ) -> None:
        """Args as those of ``pretrain``."""
        self.cfg, self.world, self.model = cfg, parallel.current_world(), model
        _check(model, bins, cfg, self.world, checkpoints)
        self.folder = Path(checkpoints) if checkpoints else None
        self.device, self.seed = resolve_device(runtime.device), seed
        identity = pass_fingerprint(
            cfg, runtime.dtype, seed, bins, model, first_new_row
        )
        self.rows = MixedRows(
            bins, self._sampler(), cfg.seq_len, seed, cfg.document_order
        )
        self.placed = Placed(
            model,
            cfg,
            self.device,
            resolve_dtype(runtime.dtype),
            embedding_names=embedding_names,
            first_new_row=first_new_row,
            seed=seed,
            world=self.world,
        )
        self.root, self.optimizer = self.placed.root, self.placed.optimizer
        self.notes = list(self.placed.notes)
        if self.world.leads:
            _log.info("%s", "; ".join(self.notes))
        self.progress, self.watch = Progress(), Stopwatch()
        self.logged, self.heard = DomainLosses(), DomainLosses()
        self.resumed_from: int | None = None
        self.plateau = False
        self.checkpoints = self._open_checkpoints(identity)

    def _open_checkpoints(self, identity: dict[str, object]) -> Checkpoints | None:
        if self.folder is None or not self.cfg.checkpoint_every:
            return None
        keep = self.cfg.keep_checkpoints
        return Checkpoints(self.folder, identity, keep=keep, say=self.say)

    def _sampler(self, log: Sequence = ()) -> RowSampler:
        num_rows = self.cfg.num_steps * self.cfg.global_batch_size
        return RowSampler(self.cfg, num_rows, self.seed, log)

    def say(self, line: str) -> None:
        """Logs what is out of the ordinary, once for all processes, and keeps it."""
        self.notes.append(line)
        if self.world.leads:
            _log.warning(line)

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or the loss has stopped falling."""
        return self.plateau or self.progress.step >= self.cfg.num_steps

    @property
    def num_tokens(self) -> int:
        """Tokens trained on so far."""
        return len(self.progress.losses) * self.cfg.tokens_per_step

    def resume(self) -> None:
        """Goes to the newest checkpoint, if there is one."""
        if self._load():
            self.resumed_from = self.progress.step
            self.plateau = self._on_plateau()
            self.say(f"resumed at step {self.progress.step} from {self.folder}")
        elif self.checkpoints and self.cfg.spike_factor:
            self.save()  # something to roll back to
        self.watch = Stopwatch(self.progress.seconds, self.progress.data_wait_seconds)

    def _load(self, at_most: int | None = None) -> bool:
        """Goes to the newest checkpoint, or to the newest up to a step."""
        if self.checkpoints is None:
            return False
        note = self.checkpoints.load(self.optimizer.state(), at_most)
        if not note:
            return False
        self.progress = Progress.from_note(note)
        self.optimizer.state_loaded(len(self.progress.losses))
        self.rows.plan = self._sampler(self.progress.mixture)
        self.heard = DomainLosses(self.progress.reaction.get("heard"))
        return True

    def step(self) -> dict[str, float] | None:
        """One optimiser step; its numbers, or None when the batch was left out."""
        progress, step = self.progress, self.progress.step
        if step in progress.skipped:
            progress.step += 1
            return None
        sums_24, loss = self._forward_backward(step)
        norm = self.optimizer.clip()
        self._require_finite(loss, norm, step)
        if guards.is_spike(progress.losses, loss, self.cfg.spike_factor):
            self._roll_back(loss, step)
            return None
        rate = self._rate(step)
        self.optimizer.update(rate)
        progress.losses.append(loss)
        progress.step += 1
        self._hear(sums_24)
        guards.require_no_divergence(progress.losses, step)
        self.plateau = self._on_plateau()
        if self.plateau:
            self.say(f"plateau: stopped after {self.num_tokens:,} tokens")
        return {"loss": loss, "grad_norm": norm, "rate": rate}

    def _forward_backward(self, step: int) -> tuple[np.ndarray, float]:
        """Leaves the step's gradients in the optimiser.

        Returns: nats and tokens by domain, (2, 4), and mean nats a token.
        """
        cfg, world = self.cfg, self.world
        mine = parallel.rows_of_rank(
            step * cfg.global_batch_size, cfg.global_batch_size, world
        )
        losses, by_row = [], []
        if self.placed.draws:  # the same numbers again in a step that is repeated
            key = np.random.SeedSequence([self.seed, step, world.rank])
            torch.manual_seed(int(key.generate_state(1)[0]))
        for start in range(mine.start, mine.stop, cfg.micro_batch_size):
            with self.watch:
                batch = self._batch(start)
            last = start + cfg.micro_batch_size == mine.stop
            parallel.begin_micro_batch(self.root, last, cfg.keep_gathered)
            loss, nats_2B = self.root(batch)
            # Rows hold nearly equal numbers of labels: dividing by the row budget keeps
            # the gradient the mean over tokens without a second pass to count them. The
            # processes' gradients are averaged, hence their own part of the budget.
            (loss / (cfg.tokens_per_step / world.size)).backward()
            self.optimizer.collect()
            losses.append(loss.detach())
            by_row.append(nats_2B)
        domains = self.rows.domains(mine.start, len(mine))
        sums_24 = _by_domain(torch.cat(by_row, dim=1).cpu().numpy(), domains)
        total = sum(torch.stack(losses).tolist())
        numbers = [total, *sums_24.flatten().tolist()]
        total, *parts = parallel.summed(numbers, world, self.device)
        sums_24 = np.reshape(parts, (2, -1))
        return sums_24, total / sums_24[1].sum()

    def _batch(self, start: int) -> Batch:
        """A micro-batch, ready on the device."""
        rows_BT = self.rows.batch(start, self.cfg.micro_batch_size)
        bos_id = self.model.config.bos_token_id
        return prepare_batch(rows_BT, bos_id, self.device, self.placed.attention)

    def _hear(self, sums_24: np.ndarray) -> None:
        """Notes each domain's loss, and moves the mixture when it is time to."""
        self.logged.add(sums_24)
        cfg, progress = self.cfg, self.progress
        if not cfg.react_to_loss:
            return
        self.heard.add(sums_24)
        if progress.step % max(1, REACT_ROWS // cfg.global_batch_size):
            return
        state = ReactState(**progress.reaction.get("state", {}))
        state = react(state, self.heard.take(), cfg.react_to_loss)
        self.rows.plan = self.rows.plan.reweighted(
            progress.step * cfg.global_batch_size, state.multipliers()
        )
        progress.mixture = [[row, list(m)] for row, m in self.rows.plan.log]
        progress.reaction = {"state": asdict(state)}

    def _rate(self, step: int) -> float:
        cfg = self.cfg
        return rate_at(
            cfg.schedule,
            step,
            cfg.num_steps,
            warmup_steps=cfg.warmup_steps,
            floor=cfg.min_lr_ratio,
            decay_share=cfg.decay_share,
        )

    def _require_finite(self, loss: float, norm: float, step: int) -> None:
        if np.isfinite(loss) and np.isfinite(norm):
            return
        size = self.cfg.global_batch_size
        mine = parallel.rows_of_rank(step * size, size, self.world)
        rows_BT = self.rows.batch(mine.start, len(mine)).numpy()
        try:
            path = guards.save_batch(self.folder, step, rows_BT, self.world.rank)
        except OSError as error:
            path = f"no file ({error})"
        raise ValueError(guards.not_finite_message(loss, norm, step, path))

    def _on_plateau(self) -> bool:
        """The warm-up does not count: a low rate is no plateau."""
        cfg, losses = self.cfg, self.progress.losses
        window = min(2 * cfg.plateau_steps, len(losses) - cfg.warmup_steps)
        recent = losses[-window:] if window > 0 else []
        return guards.plateaued(recent, cfg.plateau_steps, cfg.plateau_gain)

    def _roll_back(self, loss: float, step: int) -> None:
        """Back to a checkpoint; the batch and the one before it are left out.

        The one before may have done the damage, so the checkpoint must be older.
        """
        self.optimizer.forget()
        rollbacks = self.progress.rollbacks + 1
        if rollbacks > guards.MAX_ROLLBACKS:
            raise ValueError(guards.too_many_spikes_message(rollbacks, step))
        left_out = set(self.progress.skipped)  # an older checkpoint knows fewer
        if not self._load(at_most=step - 1):
            raise ValueError(
                f"step {step}: the loss jumped to {loss:.3f}, and no checkpoint in "
                f"{self.folder} can be gone back to: free some space on its disk and "
                "start the pass again"
            )
        first = max(self.progress.step, step - 1)
        left_out |= {*self.progress.skipped, first, step}
        self.progress.skipped = sorted(left_out)
        self.progress.rollbacks = rollbacks
        self.say(
            f"step {step}: the loss jumped to {loss:.3f}; back to step "
            f"{self.progress.step}, leaving out the batches of steps {first} to {step}"
        )

    def log_values(self) -> dict[str, float]:
        """Numbers of a log line that are not of one step alone."""
        seconds = max(self.watch.seconds, 1e-9)
        by_domain = {f"loss/{d}": v for d, v in self.logged.take().items()}
        return by_domain | {
            "tokens": self.num_tokens,
            "tokens_per_s": self.num_tokens / seconds,
            "data_wait": self.watch.waited / seconds,
        }

    def save(self) -> None:
        """Begins a checkpoint of this moment."""
        self.progress.seconds = self.watch.seconds
        self.progress.data_wait_seconds = self.watch.waited
        if self.cfg.react_to_loss:
            self.progress.reaction["heard"] = self.heard.sums.tolist()
        self.checkpoints.save(
            self.progress.step, self.optimizer.state(), self.progress.note()
        )

    def save_when_due(self) -> None:
        """A checkpoint every ``checkpoint_every`` steps, and one at the end."""
        every = self.cfg.checkpoint_every
        if self.checkpoints and (self.finished or self.progress.step % every == 0):
            self.save()

    def settle(self) -> None:
        """Waits for the checkpoint that is being written."""
        if self.checkpoints:
            self.checkpoints.wait()


def _by_domain(nats_2B: np.ndarray, domains_B: np.ndarray) -> np.ndarray:
    """Sums of each row's nats and tokens over the rows of a domain, (2, 4)."""
    sums = [
        np.bincount(domains_B, weights=values_B, minlength=len(DOMAINS))
        for values_B in nats_2B
    ]
    return np.stack(sums)


def _check(
    model: PreTrainedModel,
    bins: Path,
    cfg: PretrainConfig,
    world: parallel.World,
    checkpoints: Path | None,
) -> None:
    """Raises ValueError for a pass that cannot run, before anything is changed."""
    parallel.require_divisible(
        cfg.global_batch_size, cfg.micro_batch_size, world, cfg.num_replicas
    )
    require_fitting_model(model, bins, cfg.seq_len, model.config.bos_token_id)
    if cfg.spike_factor and not (checkpoints and cfg.checkpoint_every):
        raise ValueError(
            f"spike_factor={cfg.spike_factor} rolls back to checkpoints, and this pass "
            "writes none: pass a checkpoint folder and set checkpoint_every, or set "
            "spike_factor=0"
        )
