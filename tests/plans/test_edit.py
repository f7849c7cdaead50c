"""An edit reads the same everywhere, and its record holds all of it."""

from dataclasses import fields

import pytest

from detox_engine.errors import InputError
from detox_engine.plans.edit import EditPlan, describe_edit, record_edit
from detox_engine.plans.layers import parse_layers

EDIT = EditPlan((4, 5, 7), 2, 0.5, frozenset({(5, 1), (4, 0)}), True, "both")


def test_a_record_gives_the_edit_back():
    record = record_edit(EDIT)
    assert list(record) == [field.name for field in fields(EditPlan)]
    off = frozenset(map(tuple, record["switched_off"]))
    again = EditPlan(**record | {"layers": parse_layers(record["layers"], 8), "switched_off": off})
    assert again == EDIT


def test_an_edit_in_words_tells_what_it_leaves_in_place_and_what_it_takes_besides():
    assert describe_edit(EDIT) == "layers 4-5,7, rank 2, strength 0.5, 2 switched off, biases too, attention too"
    assert describe_edit(EditPlan((3,), 1)) == "layer 3, rank 1, strength 1"
    assert describe_edit(EditPlan((3,), sites="attention")) == "layer 3, rank 1, strength 1, attention only"
    assert describe_edit(EditPlan((3,), 1, method="fisher")) == "fisher, layer 3, rank 1, strength 1"


def test_an_edit_acts_at_known_sites_only():
    with pytest.raises(InputError, match="mlp, attention or both, not “head”"):
        EditPlan((3,), sites="head")
