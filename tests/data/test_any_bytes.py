"""Whatever bytes a file of pairs or of prompts holds, it is read or refused in one sentence."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from detox_engine.data.files import READERS
from detox_engine.data.pairs import read_columns, read_pairs
from detox_engine.data.texts import read_any_prompts, read_text
from detox_engine.errors import InputError
from detox_engine.plans.sources import PairSpec, TextSpec
from tests.fuzz import EXAMPLES, anything

NONE = Path("no-bundled-file")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("bytes")


def rows() -> some.SearchStrategy:
    """Lines of JSON that are nearly pairs."""
    names = some.sampled_from(["toxic", "civil", "prompt", "chosen", "rejected", "text", "label", "messages"])
    row = some.dictionaries(names | some.text(max_size=5), anything(), max_size=4)
    lines = some.lists(row | anything(), max_size=6)
    return lines.map(lambda found: "".join(json.dumps(each) + "\n" for each in found).encode())


def tables() -> some.SearchStrategy:
    """Text that is nearly CSV."""
    cell = some.text(alphabet='ab",;\t\r\n\ufeff\0é=', max_size=6)
    line = some.lists(cell, min_size=1, max_size=4).map(",".join)
    return some.lists(line, max_size=6).map(lambda lines: "\n".join(["toxic,civil", *lines]).encode())


CONTENT = some.binary(max_size=200) | rows() | tables() | some.text(max_size=80).map(lambda text: text.encode("utf-16"))


def is_told(call) -> None:
    """The call succeeds or ends in one sentence."""
    try:
        call()
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 2000


@given(CONTENT, some.sampled_from(sorted(READERS)))
@settings(deadline=None, max_examples=EXAMPLES)
def test_any_bytes_as_pairs(place, content, ending):
    file = place / f"x{ending}"
    file.write_bytes(content)
    spec = PairSpec(str(file))
    is_told(lambda: read_columns(spec, NONE))
    is_told(lambda: read_pairs(spec, NONE))
    is_told(lambda: read_pairs(PairSpec(str(file), toxic="toxic", civil="civil", limit=2), NONE))


@given(CONTENT, some.sampled_from([".txt", ".jsonl", ".json", ".csv", ""]))
@settings(deadline=None, max_examples=EXAMPLES)
def test_any_bytes_as_prompts_and_as_neutral_text(place, content, ending):
    file = place / f"y{ending}"
    file.write_bytes(content)
    is_told(lambda: read_any_prompts(str(file), NONE, None))
    is_told(lambda: read_text(TextSpec(str(file)), NONE))


@given(some.text(max_size=300))
@settings(deadline=None, max_examples=EXAMPLES)
def test_any_name_as_a_file(name):
    is_told(lambda: read_pairs(PairSpec(name.replace("/", "_") + ".csv"), NONE))
    is_told(lambda: read_any_prompts(name.replace("/", "_") + ".txt", NONE, None))
