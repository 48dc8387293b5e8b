from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Literal

import pytest
import typer
from typer.testing import CliRunner

from jobs.command_line import Given, Json, job
from qasir.errors import SpecError
from qasir.options import Doc, Flag, Range, Shown, refuse_useless


@dataclass(frozen=True)
class Made:
    model: Annotated[str, Doc("Which model.")] = "tiny"
    size: Annotated[int | None, Doc("Pixels."), Shown("the model's")] = None
    commit_every_s: Annotated[float, Doc("Commit so often.")] = 30.0
    keep: Annotated[timedelta, Doc("Keep so long.")] = timedelta(days=7)
    cells: Annotated[bool, Doc("Store cells.")] = True
    index: Annotated[tuple[str, ...], Doc("An index.")] = ()
    query_format: Annotated[str, Doc("The format."), Flag("--format")] = "auto"
    internal: int = 3


@pytest.fixture
def made():
    return []


@pytest.fixture
def call(made):
    def main(options: Made, query: Annotated[str, typer.Argument()], as_json: Json = False) -> None:
        """Say it."""
        made.append((options, query, as_json))

    return lambda *words: CliRunner().invoke(job(main), words)


def test_without_options_a_dataclass_has_its_defaults(call, made):
    assert call("q").exit_code == 0
    assert made == [(Made(), "q", False)]


def test_every_field_is_an_option(call, made):
    words = "q --model large --size 3 --commit-every 5m --keep 2d --no-cells --index a --index b --format x --json"
    assert call(*words.split()).exit_code == 0
    assert made == [(Made("large", 3, 300.0, timedelta(days=2), False, ("a", "b"), "x"), "q", True)]


def test_help_says_what_each_does_and_its_default(call):
    text = " ".join(call("--help").output.split())
    for said in ("Which model. [default: tiny]", "the model's", "[default: 30s]", "[default: 7d]", "--format"):
        assert said in text
    assert "internal" not in text


def test_a_length_of_time_that_is_none_is_a_usage_error(call):
    result = call("q", "--keep", "soon")
    assert result.exit_code == 2
    assert "7d" in result.output


def test_a_job_may_know_what_it_was_given():
    told = []

    def main(options: Made, given: Given, seed: int = 0) -> None:
        told.append((options.size, dict(given.options)))

    assert CliRunner().invoke(job(main), ["--size", "3", "--seed", "0", "--no-cells"]).exit_code == 0
    assert CliRunner().invoke(job(main), []).exit_code == 0
    assert told == [(3, {"size": "--size", "seed": "--seed", "cells": "--no-cells"}), (None, {})]
    assert "--given" not in CliRunner().invoke(job(main), ["--help"]).output


def test_a_number_below_the_least_is_a_usage_error():
    @dataclass(frozen=True)
    class Counted:
        steps: Annotated[int, Doc("How many."), Range(1)] = 3

    def main(counted: Counted) -> None: ...

    assert CliRunner().invoke(job(main), ["--steps", "1"]).exit_code == 0
    assert CliRunner().invoke(job(main), ["--steps", "0"]).exit_code == 2


def test_an_option_without_use_is_refused_by_name():
    @dataclass(frozen=True)
    class Pooled:
        pooling: Annotated[str, Doc("How.")] = "mean"
        attention_temperature: Annotated[float, Doc("Of attention."), Flag("--temperature")] = 0.1

        @property
        def useless(self) -> dict[str, str]:
            return {} if self.pooling == "attention" else {"attention_temperature": "is of attention"}

    refuse_useless(Pooled(), {"pooling"})
    refuse_useless(Pooled("attention"), {"pooling", "attention_temperature"})
    with pytest.raises(SpecError, match="--temperature is of attention: leave it out"):
        refuse_useless(Pooled(), {"attention_temperature"})


def test_two_options_of_one_name_are_refused():
    def main(options: Made, model: str) -> None: ...

    with pytest.raises(TypeError, match="model"):
        job(main)


@dataclass(frozen=True)
class Bounded:
    share: Annotated[float, Doc("A share."), Range(0.0, 1.0)] = 0.1
    fit: Annotated[Literal["squash", "letterbox"], Doc("How it fits.")] = "squash"
    cells: Annotated[bool, Doc("Store cells.")] = True


def test_a_value_out_of_range_is_a_usage_error_and_a_choice_is_left_to_who_takes_it():
    made = []

    def main(options: Bounded) -> None:
        made.append(options)

    app = job(main)
    assert CliRunner().invoke(app, ["--share", "2"]).exit_code == 2
    assert CliRunner().invoke(app, ["--share", "0.5", "--fit", "crop"]).exit_code == 0
    assert [(one.share, one.fit) for one in made] == [(0.5, "crop")]


def test_a_job_knows_what_was_given_and_refuses_it_by_name():
    def main(options: Bounded, given: Given) -> None:
        given.refuse(["share", "cells"], "nothing is cut")

    app = job(main)
    assert CliRunner().invoke(app, ["--fit", "squash"]).exit_code == 0
    result = CliRunner().invoke(app, ["--no-cells", "--share", "0.1"])
    assert result.exit_code == 2
    assert "nothing is cut: leave out --share, --no-cells" in " ".join(result.output.split())
