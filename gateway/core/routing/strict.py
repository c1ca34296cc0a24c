"""What all models of the routing config have in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator
from pydantic_core import PydanticCustomError


class Strict(BaseModel):
    """A mapping of the config: no key that is not known, no value that is something else, none left empty."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _says_something(cls, value: Any) -> Any:
        """A key with a forgotten value must not mean "no limit" or "any host"."""
        if value is None:
            raise PydanticCustomError("empty", "an empty value says nothing")
        return value
