"""What follows when another config is live, or is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from gateway.call import Snapshot
from gateway.config.refusal import Refusal


async def _nobody(new: Snapshot, text: str) -> Sequence[str]:
    return ()


@dataclass(frozen=True, slots=True)
class Following:
    """What follows. applied(new, old) runs after each swap, on the loop; old is None the first time, and what
    it raises then ends the start. spread(new, text) is awaited after it, but the first time: other processes
    have the config too then, but for those that it gives, as texts. refused runs after each refusal of what
    the source says. Later their exceptions are logged: a swap stays."""

    applied: Callable[[Snapshot, Snapshot | None], None] = lambda new, old: None
    refused: Callable[[Refusal], None] = lambda refusal: None
    spread: Callable[[Snapshot, str], Awaitable[Sequence[str]]] = _nobody


ALONE = Following()
