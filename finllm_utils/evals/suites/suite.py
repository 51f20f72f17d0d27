"""What a suite of the report card is; ``course`` lists the course's."""

from collections.abc import Callable
from dataclasses import dataclass

from finllm_utils.evals.models.local import LocalModel
from finllm_utils.evals.models.prompts import Answering
from finllm_utils.evals.models.recorded import Recorded
from finllm_utils.evals.statistics.item_results import ItemResult


@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """One suite at the size of a profile."""

    name: str
    title: str
    axis: str
    """A key of ``scoreboard.AXES``."""
    run: Callable[[Answering], list[ItemResult]]
    questions: dict[str, str]
    """Item to question, for those who look at what changed."""
    baseline: float
    """What the named rule earns without any model."""
    baseline_name: str
    key: str
    """All that its scores depend on beside the model, such as items and settings."""
    needs: str = ""
    """weights; chat; turns (chat, one after the other); sampling (both); or nothing."""

    def takes(self, model: Answering) -> bool:
        """Whether ``model`` can be asked: it has weights, or was taught to chat."""
        local = isinstance(model, LocalModel)
        if self.needs == "weights":
            return local
        if self.needs == "sampling":
            return local and model.chat
        if self.needs == "turns" and isinstance(model, Recorded):
            return False  # what it would say depends on what it said before
        return not self.needs or not local or model.chat
