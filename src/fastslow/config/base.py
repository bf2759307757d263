"""What every table of a configuration is made of: its base class, and kinds of numbers."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1, le=10**9)]
NonNegative = Annotated[int, Field(ge=0, le=10**9)]
"""Counts. No run reaches a billion of anything; a count beyond it is a slip of the keyboard."""

Seed = Annotated[int, Field(ge=0, lt=2**63)]

Size = Annotated[int, Field(ge=1, le=10**6)]
SizeOrNone = Annotated[int, Field(ge=0, le=10**6)]
"""Counts of things that are made or held all at once, such as the problems of a batch."""

Coefficient = Annotated[float, Field(gt=0, le=10**6)]
CoefficientOrNone = Annotated[float, Field(ge=0, le=10**6)]
"""Factors and weights."""

Fraction = Annotated[float, Field(ge=0, le=1)]
"""Accuracies, rewards, and differences between two of them."""

Nats = Annotated[float, Field(gt=0, allow_inf_nan=True)]
"""A number of nats; inf: never reached. (nan is not greater than 0.)"""


class Section(BaseModel):
    """Base of every table: unknown keys are refused, values are not silently converted, and numbers
    are finite unless a key says otherwise."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )
