"""What every face relies on of options: their walk, their names in a plan within a plan, and their texts."""

from dataclasses import dataclass

import pytest

from detox_engine.errors import InputError
from detox_engine.plans.commands import spell
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.option import fill, leaves, option
from detox_engine.plans.sources import TextSpec


@dataclass(frozen=True)
class Sieve:
    """A plan that stands in another."""

    mesh: float = option(0.5, "Width of a mesh.", "--mesh", link="mesh", low=0.0, high=2.0)
    shakes: bool = option(True, "Shake it.", "--shake/--no-shake", link="shake")

    def __post_init__(self) -> None:
        if self.mesh > 1 and self.shakes:
            raise InputError("A wide sieve is not shaken.")


@dataclass(frozen=True)
class Kitchen:
    """A plan with two of a kind in it, one of them perhaps."""

    cups: int | None = option(None, "At most this many cups.", "--cups", link="cups", low=1)
    fine: Sieve = option(Sieve(0.1), "For flour.", prefix="fine")
    coarse: Sieve | None = option(None, "For peas.", prefix="coarse")


def leaf(name: str):
    return next(each for each in (*leaves(Kitchen()), *leaves(EditPlan())) if each.path == name)


def test_a_plan_in_a_plan_names_its_options_with_the_prefix_of_its_place():
    names = [(each.path, each.flag, each.link) for each in leaves(Kitchen())]
    assert names == [
        ("cups", "--cups", "cups"),
        ("fine.mesh", "--fine-mesh", "fine_mesh"),
        ("fine.shakes", "--fine-shake/--no-fine-shake", "fine_shake"),
        ("coarse.mesh", "--coarse-mesh", "coarse_mesh"),
        ("coarse.shakes", "--coarse-shake/--no-coarse-shake", "coarse_shake"),
    ]
    assert leaf("fine.mesh").value == 0.1 and leaf("coarse.mesh").value == 0.5


def test_parts_are_put_in_together_and_checked_together():
    wide = fill(Kitchen(), {"cups": 3, "coarse.mesh": 2.0, "coarse.shakes": False})
    assert wide == Kitchen(3, Sieve(0.1), Sieve(2.0, False))
    with pytest.raises(InputError, match="not shaken"):
        fill(Kitchen(), {"coarse.mesh": 2.0})


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("cups", None, "all"),
        ("cups", 12, "12"),
        ("fine.mesh", 1.0, "1"),
        ("fine.mesh", 1 / 3, "0.3333333333333333"),
        ("fine.shakes", False, "0"),
        ("layers", (4, 5, 6, 9), "4-6,9"),
        ("switched_off", frozenset({(6, 1), (5, 0)}), "5.0,6.1"),
    ],
)
def test_a_value_is_written_so_that_it_reads_back(name, value, text):
    assert leaf(name).write(value) == text and leaf(name).read(text) == value


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("cups", "0", "1 or more"),
        ("cups", "1.5", "whole number"),
        ("fine.mesh", "nan", "from 0 to 2"),
        ("fine.mesh", "wide", "finite number"),
        ("fine.shakes", "yes", "it can be 0, 1"),
        ("layers", "upper", "no list of layers"),
    ],
)
def test_a_text_that_stands_for_no_value_gets_a_sentence(name, text, says):
    with pytest.raises(InputError, match=says):
        leaf(name).read(text)


def test_a_choice_lists_its_values_and_reads_no_other():
    layout = next(each for each in leaves(TextSpec()) if each.path == "layout")
    assert layout.choices == ("auto", "lines", "text") and layout.read("text") == "text"
    with pytest.raises(InputError, match="auto, lines, text"):
        layout.read("columns")


def test_only_what_differs_is_spelled():
    plan = fill(Kitchen(), {"fine.shakes": False, "cups": 4})
    assert spell(plan, fill(plan, {"cups": 4})) == []
    assert spell(plan, Kitchen()) == ["--cups", "4", "--no-fine-shake"]
    assert spell(Kitchen(), plan) == ["--cups", "all", "--fine-shake"]
