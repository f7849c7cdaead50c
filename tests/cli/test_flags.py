"""Flags made from plans, at a command of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import typer
from typer.testing import CliRunner

from detox_engine.cli.flags import Said, asks
from detox_engine.plans.option import option


@dataclass(frozen=True)
class Soup:
    """A plan."""

    spoons: int = option(2, "Spoons of salt.", "--spoons")
    limit: int | None = option(3, "At most this many plates.", "--limit")
    herbs: tuple[str, ...] = option(("dill",), "Herbs, with commas.", "--herbs")


@dataclass(frozen=True)
class Bread:
    """A plan that only some soups need."""

    sliced: bool = option(True, "Slice it.", "--slice/--no-slice")


def told(soup: Soup, said: bool, *words: str) -> dict[str, Any]:
    """What a command with these plans gets from these words."""
    found: dict[str, Any] = {}
    app = typer.Typer(rich_markup_mode=None)

    @asks({"--herbs": " Any herb."}, soup=soup, beside={"bread": Bread()})
    def cook(place: str, soup: Said[Soup] if said else Soup, beside: Mapping[str, Any], loud: bool = False) -> None:
        """Cook."""
        found.update(place=place, soup=soup, beside=beside, loud=loud)

    app.command()(cook)
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return found or {"printed": result.output}


def test_a_command_gets_the_finished_plan_and_its_own_options():
    found = told(
        Soup(), False, "home", "--spoons", "5", "--limit", "all", "--herbs", "mint, sage", "--no-slice", "--loud"
    )
    assert found == {
        "place": "home",
        "soup": Soup(5, None, ("mint", "sage")),
        "beside": {"bread": Bread(sliced=False)},
        "loud": True,
    }


def test_a_command_that_knows_better_gets_what_was_said():
    assert told(Soup(), True, "home")["soup"].values == {}
    said = told(Soup(), True, "home", "--spoons", "2")["soup"]
    assert said.values == {"spoons": 2} and said.over(Soup(7, 8, ())) == Soup(2, 8, ())


def test_the_defaults_are_those_of_the_plan_that_is_asked_for():
    assert told(Soup(9), False, "home")["soup"] == Soup(9)
    shown = " ".join(told(Soup(9), False, "--help")["printed"].split())
    assert "Spoons of salt. [default: 9]" in shown and "Herbs, with commas. Any herb. [default: dill]" in shown
