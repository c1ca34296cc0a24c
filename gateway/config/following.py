"""What follows when another config is live, or is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.call import Snapshot
from gateway.config.refusal import Refusal


@dataclass(frozen=True, slots=True)
class Following:
    """What follows. applied(new, old) runs after each swap, on the loop; old is None the first time, and what
    it raises then ends the start. refused runs after each refusal of what the source says. Later their
    exceptions are logged: a swap stays."""

    applied: Callable[[Snapshot, Snapshot | None], None] = lambda new, old: None
    refused: Callable[[Refusal], None] = lambda refusal: None


ALONE = Following()
