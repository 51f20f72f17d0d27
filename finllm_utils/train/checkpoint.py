"""Checkpoints of a pass: written beside the training, whole or absent, exact.

``step_000123/`` holds the float32 masters and moments in torch's distributed format,
which another number of processes can read, and ``state.json`` with the rest. Writing
goes to ``step_000123.tmp`` in a thread, over a copy of the state; only when all is on
the disk is it renamed. A full disk costs a checkpoint, never the pass.
"""

import contextlib
import copy
import logging
import os
import shutil
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from finllm_utils.files import read_json, write_json

_log = logging.getLogger(__name__)
_STATE = "state.json"
_REMEDY = (
    "pass another checkpoint folder to keep both, or delete {folder} to start this "
    "pass from its beginning"
)


class Checkpoints:
    """The checkpoints of one pass in one folder; every process makes its own."""

    def __init__(
        self,
        folder: Path,
        fingerprint: dict[str, object],
        *,
        keep: int,
        say: Callable[[str], None] = _log.warning,
    ) -> None:
        """Removes what a killed process left half-written.

        Args: fingerprint says which pass it is, in flat names; say is told of anything
        unusual.
        """
        self.folder = Path(folder)
        self._fingerprint = fingerprint
        self._keep = keep
        self._say = say
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        many = dist.is_initialized() and dist.get_world_size() > 1
        # A group of its own: the thread's messages must not mix with the training's.
        self._group = dist.new_group(backend="gloo") if many else None
        self._leads = not many or dist.get_rank() == 0
        if self._leads:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_unfinished()

    def _remove_unfinished(self) -> None:
        for old in sorted(self.folder.glob("step_*.replaced.tmp")):
            target = old.with_name(old.name.removesuffix(".replaced.tmp"))
            if is_whole(old) and not target.exists():  # killed between two renames
                os.replace(old, target)
        for path in sorted(self.folder.glob("step_*")):
            whole = path.suffix != ".tmp" and is_whole(path)
            if path.is_dir() and not whole:
                self._say(f"{path} is half-written: removed, an older one is used")
                shutil.rmtree(path)

    def newest(self, at_most: int | None = None) -> Path | None:
        """The newest whole checkpoint, the same on all processes.

        Args: at_most prefers the newest up to that step, if there is one.
        """
        found = whole_checkpoints(self.folder) if self._leads else []
        if at_most is not None:
            found = [p for p in found if _step_of(p) <= at_most] or found[:1]
        name = [found[-1].name if found else None]
        if self._group is not None:
            dist.broadcast_object_list(name, src=0, group=self._group)
        return self.folder / name[0] if name[0] else None

    def load(
        self, tensors: dict[str, torch.Tensor], at_most: int | None = None
    ) -> dict | None:
        """Fills ``tensors`` from the newest checkpoint; its note, None without one.

        Raises: ValueError naming the settings that differ when it is of another pass.
        """
        self.wait()
        path = self.newest(at_most)
        if path is None:
            return None
        state = read_json(path / _STATE)
        require_same_pass(state["fingerprint"], self._fingerprint, self.folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one process needs no process group
            dcp.load(
                {name: tensor.detach() for name, tensor in tensors.items()},
                storage_reader=dcp.FileSystemReader(path),
                process_group=self._group,
                no_dist=self._group is None,
            )
        return state["note"]

    def save(self, step: int, tensors: dict[str, torch.Tensor], note: dict) -> None:
        """Copies the state and writes it in a thread; waits for the one before.

        Args: note is JSON, of this moment: it is copied too.
        """
        self.wait()
        copies = {name: _copied(tensor) for name, tensor in tensors.items()}
        state = {"step": step, "fingerprint": self._fingerprint, "note": note}
        arguments = (step, copies, copy.deepcopy(state))
        self._thread = threading.Thread(target=self._write, args=arguments)
        self._thread.start()

    def wait(self) -> None:
        """Returns when no checkpoint is being written any more.

        Raises: what the thread raised, unless it was about the disk.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _write(self, step: int, tensors: dict[str, torch.Tensor], state: dict) -> None:
        target = self.folder / f"step_{step:06d}"
        unfinished = target.with_suffix(".tmp")
        try:
            _save_tensors(tensors, unfinished, self._group)
            if self._leads:
                _finish(unfinished, target, state)
                self._prune()
        except (Exception, CheckpointException) as error:  # the latter is no Exception
            if not _about_disk(error):
                self._error = error
                return
            if self._leads:
                shutil.rmtree(unfinished, ignore_errors=True)
                self._say(
                    f"the checkpoint of step {step} could not be written "
                    f"({_first_line(error)}): training goes on and the one before "
                    f"stays; free some space on the disk of {self.folder}"
                )

    def _prune(self) -> None:
        for path in whole_checkpoints(self.folder)[: -self._keep]:
            shutil.rmtree(path)


def whole_checkpoints(folder: Path) -> list[Path]:
    """Finished checkpoints in ``folder``, oldest first."""
    found = Path(folder).glob("step_*")
    whole = [p for p in found if p.suffix != ".tmp" and is_whole(p)]
    return sorted(whole, key=_step_of)


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step_"))


def is_whole(path: Path) -> bool:
    """Whether all files that a checkpoint lists are there in full length."""
    try:
        files = read_json(path / _STATE)["files"]
        return all((path / n).stat().st_size == size for n, size in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def remove_checkpoints(folder: Path | None) -> None:
    """Deletes a pass's checkpoints; to be called once its model is saved."""
    if folder is not None:
        for path in Path(folder).glob("step_*"):
            shutil.rmtree(path)
        with contextlib.suppress(OSError):  # absent, or holds a batch that was bad
            Path(folder).rmdir()


def require_same_pass(found: dict, wanted: dict, folder: Path) -> None:
    """Raises ValueError naming each setting in which a checkpoint's pass differs."""
    names = sorted(found.keys() | wanted.keys())
    parts = [
        f"{name} was {found.get(name)!r} and is now {wanted.get(name)!r}"
        for name in names
        if found.get(name) != wanted.get(name)
    ]
    if parts:
        raise ValueError(
            f"{folder} holds a checkpoint of another pass: {'; '.join(parts)}. "
            + _REMEDY.format(folder=folder)
        )


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in main memory that training cannot change."""
    tensor = tensor.detach()
    return tensor.clone() if tensor.device.type == "cpu" else tensor.to("cpu")


def _save_tensors(
    tensors: dict[str, torch.Tensor], folder: Path, group: dist.ProcessGroup | None
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one process needs no process group
        dcp.save(
            tensors,
            storage_writer=dcp.FileSystemWriter(folder, sync_files=True),
            process_group=group,
            no_dist=group is None,
        )


def _finish(unfinished: Path, target: Path, state: dict) -> None:
    """Lists the files, puts all on the disk and gives the folder its final name."""
    files = {p.name: p.stat().st_size for p in unfinished.iterdir()}
    write_json(unfinished / _STATE, state | {"files": files})
    _sync_folder(unfinished)
    replaced = target.with_suffix(".replaced.tmp")
    if target.exists():  # after a rollback, with what is left out from now on
        os.replace(target, replaced)
    os.replace(unfinished, target)
    _sync_folder(target.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _causes(error: BaseException) -> list[BaseException]:
    """The errors of all processes behind a distributed one."""
    if isinstance(error, CheckpointException):
        return [failure[0] for failure in error.failures.values()]
    return [error]


def _about_disk(error: BaseException) -> bool:
    return all(isinstance(e, OSError) or _torch_write(e) for e in _causes(error))


def _torch_write(error: BaseException) -> bool:
    """Whether torch's archive writer failed: it hides the system's own error."""
    return isinstance(error, RuntimeError) and "PytorchStreamWriter" in str(error)


def _first_line(error: BaseException) -> str:
    return str(_causes(error)[0]).splitlines()[0]
