"""What goes in and out, and the arithmetic of a quote. Money is exact: decimals, as text in JSON."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Sku = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Money = Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=2)]
Quantity = Annotated[int, Field(ge=1, le=1_000_000)]
CENT = Decimal("0.01")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tier(Strict):
    """From this quantity on, so much is taken off."""

    min_quantity: Quantity
    discount_percent: Annotated[Decimal, Field(ge=0, le=100, max_digits=5, decimal_places=2)]


class Rule(Strict):
    """The price of one unit, and the discounts for many."""

    unit_price: Money
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "EUR"
    tiers: Annotated[tuple[Tier, ...], Field(max_length=20)] = ()

    @model_validator(mode="after")
    def _tiers_ascend(self) -> Rule:
        quantities = [tier.min_quantity for tier in self.tiers]
        if any(low >= high for low, high in pairwise(quantities)):
            raise ValueError("tiers must have ascending min_quantity")
        return self

    def discount(self, quantity: int) -> Decimal:
        """Percent off for this quantity."""
        reached = [tier.discount_percent for tier in self.tiers if tier.min_quantity <= quantity]
        return reached[-1] if reached else Decimal(0)

    def total(self, quantity: int) -> Decimal:
        """Rounded half up to the cent, once, at the end."""
        exact = self.unit_price * quantity * (100 - self.discount(quantity)) / 100
        return exact.quantize(CENT, ROUND_HALF_UP)


class NewPrice(Rule):
    sku: Sku


class Price(Rule):
    """A rule as stored."""

    sku: str
    url: str


class PricePage(BaseModel):
    items: list[Price]
    next: str | None


class Line(Strict):
    sku: Sku
    quantity: Quantity


class LineQuote(BaseModel):
    """The answer to one line on its own."""

    sku: str
    quantity: int
    currency: str
    unit_price: Decimal
    discount_percent: Decimal
    total: Decimal


class QuoteRequest(Strict):
    lines: Annotated[tuple[Line, ...], Field(min_length=1, max_length=100)]


class QuoteLine(BaseModel):
    sku: str
    quantity: int
    unit_price: Decimal
    discount_percent: Decimal
    total: Decimal


class Quote(BaseModel):
    currency: str
    lines: list[QuoteLine]
    total: Decimal


class SimulationRequest(Strict):
    """How demand may answer to a discount. The work grows with runs × discounts, both bounded."""

    sku: Sku
    demand: Annotated[float, Field(gt=0, le=1e6, description="mean units sold without a discount")]
    deviation: Annotated[float, Field(ge=0, le=1e6, description="standard deviation of that")]
    elasticity: Annotated[float, Field(ge=0, le=10, description="percent more units per percent off")]
    unit_cost: Money = Decimal(0)
    discounts: Annotated[
        tuple[Annotated[int, Field(ge=0, le=90)], ...], Field(min_length=1, max_length=10)
    ] = (
        0,
        5,
        10,
        15,
        20,
    )
    runs: Annotated[int, Field(ge=1, le=50_000)] = 10_000
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0


class Outcome(BaseModel):
    discount_percent: int
    mean_profit: float
    p5_profit: float
    p95_profit: float


class Simulation(BaseModel):
    sku: str
    runs: int
    best_discount_percent: int
    outcomes: list[Outcome]
