"""The arguments of the study tools: what a model, a host or the grammar has to give."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_TRIALS = 50  # listed at once

Parameters = dict[str, dict[str, Any] | None]

PARAMETERS = (
    "By name, as in a study file: {min: 1e-5, max: 0.01, log: true, default: 0.001}; {min: 1, max: 8} for whole"
    " numbers; {values: [sgd, adam], default: adam}; {value: 32} for a fixed one; with condition: {opt: sgd} where it"
    " applies only then; null takes it out. Of a parameter that is there, only what changes: {max: 0.05}."
)


class Nothing(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Number(Nothing):
    number: int = Field(ge=0, description="The trial's number.")


class Numbered(Nothing):
    number: int = Field(ge=1, description="The number of a belief.")


class Listing(Nothing):
    sort: Literal["best", "latest"] = Field("best", description="Best or latest first.")
    limit: int = Field(10, ge=1, le=MAX_TRIALS, description="How many trials.")


class Several(Nothing):
    numbers: list[int] = Field(min_length=2, max_length=6, description="The numbers of the trials to compare.")


class Text(Nothing):
    text: str = Field(min_length=1, max_length=1_000, description="Words.")


class Script(Nothing):
    file: str = Field(description="A Python script in the study's folder, as `files` lists it.")


class Making(Nothing):
    file: str = Field(description="A training script or a study file in the study's folder.")
    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$",
        description="The study's name; else the file's.",
    )
    metric: str | None = Field(None, max_length=100, description="What the script prints; its draft's where left out.")
    direction: Literal["minimize", "maximize"] | None = None
    parameters: Parameters = Field(default_factory=dict, description=f"What differs from the draft. {PARAMETERS}")
    trials: int | None = Field(None, ge=1, le=100_000, description="The budget.")
    task: str | None = Field(None, max_length=2_000, description="Model and data in the person's words.")
    early_stopping: bool = Field(True, description="Where the script takes a number of epochs: stop weak trials early.")


class Training(Nothing):
    trials: int | None = Field(
        None, ge=1, le=10_000, description="How many; what a paused run, else the budget, leaves where it is left out."
    )


class Verifying(Nothing):
    trial: int | None = Field(None, ge=0, description="Another trial than the best.")
    seeds: int | None = Field(None, ge=2, le=50, description="How many runs; the study file's number, else 5.")


class Waiting(Nothing):
    seconds: float = Field(60, gt=0, le=600, description="At most so long.")


class Configuration(Nothing):
    params: dict[str, Any] = Field(description="Values by parameter; those left out take their defaults.")


class Outcome(Nothing):
    number: int = Field(ge=0, description="The trial's number.")
    values: dict[str, float] | float | None = Field(None, description="The metric's value, or values by metric.")
    error: str | None = Field(None, max_length=2_000, description="Why there is none.")

    @model_validator(mode="after")
    def _one_of_both(self) -> Outcome:
        if (self.values is None) == (self.error is None):
            raise ValueError("give either values or error")
        return self


class Freezing(Nothing):
    parameter: str = Field(description="The parameter's name.")
    value: Any = Field(None, description="The value to keep; the best trial's where it is left out.")


class Editing(Nothing):
    parameters: Parameters = Field(min_length=1, description=f"Changed or new parameters. {PARAMETERS}")


class Caps(Nothing):
    trials: int | None = Field(
        None, ge=1, le=100_000, description="Trials in all, those already made included; null lifts a cap."
    )
    seconds: float | None = Field(None, gt=0, description="Seconds of training, added up over trials; null lifts it.")
    tokens: int | None = Field(None, ge=1, description="Tokens of all models asked, in and out; null lifts it.")
    usd: float | None = Field(None, gt=0, description="Dollars for all models asked; null lifts it.")

    @model_validator(mode="after")
    def _any(self) -> Caps:
        if not self.model_fields_set:
            raise ValueError("name at least one cap")
        return self


class Exporting(Nothing):
    format: Literal["best", "csv", "json", "wandb", "wandb-best"] = Field(
        "best", description="best: the best trial's parameters as YAML; wandb: the space as a sweep."
    )
    file: str | None = Field(
        None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="A new file's name in the study's folder."
    )
