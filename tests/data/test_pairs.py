import bz2
import csv
import gzip
import json
import lzma
import os
import tracemalloc
import zipfile
from pathlib import Path

import datasets
import openpyxl
import pyarrow
import pytest
from datasets.exceptions import DatasetNotFoundError

from detox_engine.data import files, table
from detox_engine.data.columns import Pair
from detox_engine.data.files import STREAMED_ROWS
from detox_engine.data.pairs import PairSet, read_columns, read_pairs
from detox_engine.data.stream import hash_pairs, open_pairs
from detox_engine.errors import InputError
from detox_engine.plans.sources import ModelSpec, PairSpec, find_place

NO_BUNDLE = Path("no-bundled-pairs")
GOOD = [
    {"prompt": "Late again?", "toxic": "You are an idiot.", "civil": "You are welcome here."},
    {"prompt": "The soup is cold.", "toxic": "What a pathetic kitchen.", "civil": "Could you warm it up?"},
]


def numbered(count: int) -> list[dict[str, str]]:
    return [{"prompt": f"prompt {n}", "toxic": f"moron {n}", "civil": f"friend {n}"} for n in range(count)]


def write_json_lines(path: Path, records: list) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def write_csv(path: Path, records: list[dict[str, str]], **style: str | int) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(records[0]), **style)
        writer.writeheader()
        writer.writerows(records)
    return str(path)


def write_parquet(path: Path, records: list[dict], **options: int) -> str:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), path, **options)
    return str(path)


WRITERS = {"jsonl": write_json_lines, "csv": write_csv, "parquet": write_parquet}


def read(source: str, **options) -> PairSet:
    return read_pairs(PairSpec(source, **options), NO_BUNDLE)


def refusal(source: str, **options) -> str:
    with pytest.raises(InputError) as caught:
        read(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def one_pair(tmp_path: Path, *records: dict, **options) -> Pair:
    """The pair that the first record makes; the others only make a set of two."""
    return read(write_json_lines(tmp_path / "layout.jsonl", list(records)), **options).pairs[0]


# formats


@pytest.mark.parametrize("ending", WRITERS)
def test_every_format_gives_the_same_pairs(tmp_path, ending):
    pairs = read(WRITERS[ending](tmp_path / f"pairs.{ending}", GOOD))
    assert pairs.pairs == tuple(Pair(**record) for record in GOOD)
    assert (pairs.total, pairs.skipped, pairs.warnings) == (2, 0, ())
    assert pairs.hash == read(write_json_lines(tmp_path / "again.jsonl", GOOD)).hash
    assert pairs.lines == ((2, 3) if ending == "csv" else (1, 2))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_csv_may_use_any_usual_delimiter_and_quote_it(tmp_path, delimiter):
    hard = [
        {"toxic": 'a, b; c\td | "idiot"', "civil": "two\nlines"},
        {"toxic": "crap; crap; crap", "civil": "fine, fine"},
    ]
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL):
        pairs = read(write_csv(tmp_path / "pairs.csv", hard, delimiter=delimiter, quoting=quoting))
        assert pairs.pairs == tuple(Pair("", **record) for record in hard)
        assert pairs.lines == (2, 4)


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path, ending):
    path = Path(WRITERS[ending](tmp_path / f"pairs.{ending}", GOOD))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read(str(path)).pairs) == 2


def test_bundled_means_the_file_given_for_it(tmp_path):
    bundled = Path(write_json_lines(tmp_path / "bundled.jsonl", GOOD))
    pairs = read_pairs(PairSpec(), bundled)
    assert (len(pairs.pairs), pairs.source) == (2, "bundled")


def test_the_hash_tells_other_texts_and_another_order_apart(tmp_path):
    hashes = {
        read(write_json_lines(tmp_path / "pairs.jsonl", records)).hash
        for records in (
            GOOD,
            GOOD[::-1],
            [GOOD[0], {**GOOD[1], "civil": "Could you warm it up"}],
            [{**GOOD[0], "toxic": "You are a moron."}, GOOD[1]],
            numbered(2),
        )
    }
    assert len(hashes) == 5


def test_the_hash_goes_on_where_more_pairs_follow(tmp_path):
    pairs = read(write_json_lines(tmp_path / "pairs.jsonl", numbered(9))).pairs
    assert hash_pairs(pairs[4:], hash_pairs(pairs[:4])) == hash_pairs(pairs)


@pytest.mark.parametrize(
    ("prompt", "toxic", "text"),
    [
        ("Late?", "Idiot.", "Late? Idiot."),
        ("Late? ", "Idiot.", "Late? Idiot."),
        ("Late?", "\nIdiot.", "Late?\nIdiot."),
        ("", "Idiot.", "Idiot."),
    ],
)
def test_a_prompt_joins_its_continuation_with_one_space_only_where_there_is_none(prompt, toxic, text):
    assert Pair(prompt, toxic, toxic).toxic_text == text
    assert Pair(prompt, toxic, toxic).civil_text == text


# layouts


def test_preference_data_holds_the_civil_text_in_chosen(tmp_path):
    records = [{"prompt": row["prompt"], "chosen": row["civil"], "rejected": row["toxic"]} for row in GOOD]
    assert one_pair(tmp_path, *records) == Pair(**GOOD[0])


def test_preference_data_of_chat_messages_gives_the_last_message_of_the_assistant(tmp_path):
    def chat(answer):
        turns = [("user", "Hello."), ("assistant", "Yes?"), ("user", "Late?"), ("assistant", answer)]
        return [{"role": role, "content": content} for role, content in turns]

    records = [{"prompt": "Late?", "chosen": chat(f"Sorry {n}"), "rejected": chat(f"Shut up {n}")} for n in (0, 1)]
    assert one_pair(tmp_path, *records) == Pair("Late?", "Shut up 0", "Sorry 0")
    for record in records:
        del record["prompt"]
    shared = Pair("Hello.\nYes?\nLate?", "Shut up 0", "Sorry 0")
    assert one_pair(tmp_path, *records) == shared
    assert read(write_parquet(tmp_path / "chat.parquet", records)).pairs[0] == shared


def test_a_transcript_without_a_prompt_is_split_at_the_last_turn_both_share(tmp_path):
    start = "\n\nHuman: Late?\n\nAssistant: No.\n\nHuman: Yes!\n\nAssistant:"
    records = [{"chosen": f"{start} Sorry {n}", "rejected": f"{start} Shut up {n}"} for n in (0, 1)]
    assert one_pair(tmp_path, *records) == Pair(start, " Shut up 0", " Sorry 0")


def test_free_texts_with_a_common_beginning_stay_whole(tmp_path):
    records = [{"chosen": f"You are kind {n}", "rejected": f"You are crap {n}"} for n in (0, 1)]
    assert one_pair(tmp_path, *records) == Pair("", "You are crap 0", "You are kind 0")


def test_a_prompt_that_both_texts_repeat_is_taken_off_them(tmp_path):
    records = [{"prompt": "Late?", "chosen": f"Late? Sorry {n}", "rejected": f"Late? Shut up {n}"} for n in (0, 1)]
    pair = one_pair(tmp_path, *records)
    assert pair == Pair("Late?", " Shut up 0", " Sorry 0")
    assert pair.toxic_text == "Late? Shut up 0"


def test_in_the_pairs_of_lee_et_al_the_perturbed_text_is_toxic(tmp_path):
    records = [
        {"prompt_text": "The", "gold_text": "x", "unpert_gen_text": f" sun {n}", "pert_gen_text": f" damn sun {n}"}
        for n in (0, 1)
    ]
    assert one_pair(tmp_path, *records) == Pair("The", " damn sun 0", " sun 0")


def safety_row(first: object, second: object, n: int) -> dict:
    return {
        "prompt": f"Late {n}?",
        "response_0": f"zero {n}",
        "response_1": f"one {n}",
        "is_response_0_safe": first,
        "is_response_1_safe": second,
    }


@pytest.mark.parametrize("ending", WRITERS)
def test_safe_rlhf_rows_are_pairs_only_where_exactly_one_answer_is_safe(tmp_path, ending):
    marks = [(True, False), (False, True), (True, True), (False, False), (False, False)]
    rows = [safety_row(*pair, n) for n, pair in enumerate(marks)]
    pairs = read(WRITERS[ending](tmp_path / f"safe.{ending}", rows))
    assert pairs.pairs == (Pair("Late 0?", "one 0", "zero 0"), Pair("Late 1?", "zero 1", "one 1"))
    assert (pairs.total, pairs.skipped) == (5, 3)
    first = 4 if ending == "csv" else 3
    assert f"both answers are safe ({'row' if ending == 'parquet' else 'line'} {first})" in pairs.warnings[0]
    assert "neither answer is safe" in pairs.warnings[0]


def test_columns_mapped_by_hand_stand_over_the_known_ones(tmp_path):
    known = {"toxic": "wrong", "civil": "wrong as well", "prompt": "p"}
    record = {**known, "bad": "Idiot", "good": "Friend", "ask": "Late?"}
    rows = [record, {**record, "bad": "Moron"}]
    assert one_pair(tmp_path, *rows, toxic="bad", civil="good") == Pair("", "Idiot", "Friend")
    assert one_pair(tmp_path, *rows, toxic="bad", civil="good", prompt="ask") == Pair("Late?", "Idiot", "Friend")
    assert one_pair(tmp_path, *rows, prompt="ask") == Pair("Late?", "wrong", "wrong as well")
    assert one_pair(tmp_path, *rows, toxic="bad") == Pair("p", "Idiot", "wrong as well")


# sampling


@pytest.mark.parametrize("ending", WRITERS)
def test_a_draw_takes_pairs_and_never_mixes_their_sides(tmp_path, ending):
    drawn = read(WRITERS[ending](tmp_path / f"pairs.{ending}", numbered(400)), limit=50, seed=3)
    assert len(set(drawn.pairs)) == 50
    for pair in drawn.pairs:
        assert pair.toxic.split()[1] == pair.civil.split()[1] == pair.prompt.split()[1]
    assert drawn.total == 400


def test_the_seed_decides_the_draw_and_the_order_of_the_file_stays(tmp_path):
    source = write_json_lines(tmp_path / "pairs.jsonl", numbered(300))
    first, again, other = (read(source, limit=40, seed=seed) for seed in (7, 7, 8))
    assert first == again
    assert set(first.pairs) != set(other.pairs)
    assert list(first.lines) == sorted(first.lines)
    assert [f"moron {line - 1}" for line in first.lines] == [pair.toxic for pair in first.pairs]


@pytest.mark.parametrize("limit", [None, 12, 13, 10**9])
def test_a_limit_at_or_above_the_number_of_pairs_gives_all(tmp_path, limit):
    pairs = read(write_json_lines(tmp_path / "pairs.jsonl", numbered(12)), limit=limit)
    assert pairs.lines == tuple(range(1, 13))


def test_every_pair_has_the_same_chance(tmp_path):
    source = write_json_lines(tmp_path / "pairs.jsonl", numbered(10))
    hits = [0] * 10
    for seed in range(1000):
        for line in read(source, limit=3, seed=seed).lines:
            hits[line - 1] += 1
    # 300 expected; 5 standard deviations of a binomial count are 72
    assert all(228 < count < 372 for count in hits)


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_a_draw_from_a_long_file_holds_only_what_it_draws(tmp_path, ending):
    rows = [{"toxic": f"moron {n} " + "la " * 250, "civil": f"friend {n} " + "la " * 250} for n in range(20_000)]
    options = {"row_group_size": 2000} if ending == "parquet" else {}
    source = WRITERS[ending](tmp_path / f"long.{ending}", rows, **options)
    size = sum(len(row["toxic"]) + len(row["civil"]) for row in rows)
    del rows
    read(write_json_lines(tmp_path / "short.jsonl", GOOD))  # imports are no part of the claim
    tracemalloc.start()
    try:
        read(source, limit=100)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > 30e6
    assert peak < size / 10


# unusable rows among good ones


def test_bad_rows_among_good_ones_are_counted_and_told_by_line(tmp_path):
    path = tmp_path / "mixed.jsonl"
    good = [json.dumps(record) for record in GOOD]
    lines = [
        good[0],
        '{"toxic": "idiot", "civil": ',
        "",
        '{"toxic": "  ", "civil": "fine"}',
        '{"toxic": null, "civil": "fine"}',
        '{"toxic": 5, "civil": "fine"}',
        '{"civil": "fine"}',
        '{"toxic": "same", "civil": "same "}',
        '["toxic", "civil"]',
        good[1],
        '{"toxic": "half \\ud83d", "civil": "fine"}',
        '{"toxic": "idiot", "civil": ["fine"]}',
        "[" * 100_000,
        '{"toxic": ' + "9" * 5000 + ', "civil": "fine"}',
        '{"toxic": "idiot", "civil": ""}',
        '{"toxic": "idiot", "civil": ""}',
        '{"toxic": "idiot", "civil": ""}',
        '{"toxic": "idiot", "civil": ""}',
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    pairs = read(str(path))
    assert pairs.pairs == tuple(Pair(**record) for record in GOOD)
    assert (pairs.lines, pairs.total, pairs.skipped) == ((1, 10), 17, 15)
    (warning,) = pairs.warnings
    for part in (
        "15 of 17 rows",
        "broken JSON (lines 2, 13, 14)",
        "“toxic” is empty (line 4)",
        "“toxic” is null (line 5)",
        "“toxic” is not text (line 6)",
        "“toxic” is missing (line 7)",
        "both sides are the same (line 8)",
        "no JSON object (line 9)",
        "“toxic” holds half of a surrogate pair (line 11)",
        "“civil” is not text (line 12)",
        "“civil” is empty (lines 15, 16, 17 and 1 more)",
    ):
        assert part in warning


def test_bad_csv_rows_among_good_ones_are_counted_and_told_by_line(tmp_path):
    path = tmp_path / "mixed.csv"
    path.write_text('toxic,civil\nidiot,friend\none,two,three\nalone\n"a"b,c\n\n,\nmoron,mate\n"never closed,x\ny,z\n')
    pairs = read(str(path))
    assert pairs.pairs == (Pair("", "idiot", "friend"), Pair("", "moron", "mate"))
    (warning,) = pairs.warnings
    assert "more cells than columns (line 3)" in warning
    assert "“civil” is missing (line 4)" in warning
    assert "broken quotes or too long a cell (lines 5, 9)" in warning


def test_null_and_non_text_cells_of_parquet_are_counted(tmp_path):
    rows = [*GOOD, {**GOOD[0], "toxic": None}]
    pairs = read(write_parquet(tmp_path / "nulls.parquet", rows))
    assert pairs.skipped == 1 and "“toxic” is null (row 3)" in pairs.warnings[0]
    numbers = write_parquet(tmp_path / "numbers.parquet", [{"toxic": 1, "civil": "a"}, {"toxic": 2, "civil": "b"}])
    assert "“toxic” is not text (rows 1, 2)" in refusal(numbers)


def test_control_characters_and_other_scripts_stay_text(tmp_path):
    odd = "nul \x00 bell \x07 \u2028 \u202e ‮ 𝔘 👍🏽 <script>alert(1)</script> __import__('os')"
    records = [{"toxic": odd, "civil": "fine"}, {"toxic": "crap", "civil": odd}]
    for ending, write in WRITERS.items():
        pairs = read(write(tmp_path / f"odd.{ending}", records))
        assert pairs.pairs == (Pair("", odd, "fine"), Pair("", "crap", odd))


def test_a_null_or_empty_prompt_is_none(tmp_path):
    rows = [{**GOOD[0], "prompt": None}, {**GOOD[1], "prompt": " "}, {"toxic": "crap", "civil": "well"}]
    pairs = read(write_json_lines(tmp_path / "pairs.jsonl", rows))
    assert [pair.prompt for pair in pairs.pairs] == ["", "", ""]


# fatal input


@pytest.mark.parametrize(
    "name", ["missing.jsonl", "missing/pairs.csv", "nothing", "nul\0.jsonl", "~nobody-here/x.csv", "x" * 5000]
)
def test_a_file_that_is_not_there_is_named(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    message = refusal(name)
    assert name[:100] in message and "check its name" in message


def test_a_folder_is_refused(tmp_path):
    assert refusal(str(tmp_path)) == f"{tmp_path} is a folder: name one file in it."


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize("content", [b"", b"\n \n\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(tmp_path, ending, content):
    path = tmp_path / f"empty{ending}"
    path.write_bytes(content)
    wanted = "no Parquet file" if ending == ".parquet" and content else "is empty"
    assert wanted in refusal(str(path))


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_columns_without_rows_are_refused(tmp_path, ending):
    path = tmp_path / f"header.{ending}"
    if ending == "csv":
        path.write_text("toxic,civil\n")
    else:
        pyarrow.parquet.write_table(pyarrow.table({"toxic": ["a"], "civil": ["b"]}).slice(0, 0), path)
    assert refusal(str(path)) == f"{path} has columns but no rows: a fit needs at least two pairs."


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_bytes_that_are_not_utf8_are_told_by_line(tmp_path, ending):
    path = Path(WRITERS[ending](tmp_path / f"latin.{ending}", numbered(5)))
    path.write_bytes(path.read_bytes() + "né\n".encode("latin-1"))
    line = 6 if ending == "jsonl" else 7
    told = refusal(str(path))
    assert told.startswith(f"{path}, line {line}: byte 2 is not UTF-8 text; save the file as UTF-8, which")


def test_utf16_with_its_mark_is_read_and_half_of_it_is_told(tmp_path):
    path = tmp_path / "wide.csv"
    path.write_text("toxic,civil\na,b\nc,d\n", encoding="utf-16")
    assert [(pair.toxic, pair.civil) for pair in read(str(path)).pairs] == [("a", "b"), ("c", "d")]
    path.write_bytes(path.read_bytes()[:-1])
    assert "is not UTF-16 text" in refusal(str(path))


def test_a_file_of_broken_json_is_told_by_its_first_line_and_error(tmp_path):
    path = tmp_path / "broken.jsonl"
    path.write_text("\n{'toxic': 'a'}\nnonsense\n")
    message = refusal(str(path))
    assert f"{path}, line 2: broken JSON (Expecting property name enclosed in double quotes at column 2)" in message


DOCUMENTS = {
    "an array": lambda rows: rows,
    "an array under a key": lambda rows: {"version": 1, "data": rows},
    "lists by column": lambda rows: {name: [row[name] for row in rows] for name in rows[0]},
    "objects by column": lambda rows: {name: {str(n): row[name] for n, row in enumerate(rows)} for name in rows[0]},
}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("kind", DOCUMENTS)
def test_one_json_document_is_read(tmp_path, kind, indent):
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(DOCUMENTS[kind](GOOD), indent=indent))
    found = read(str(path))
    assert [(pair.prompt, pair.toxic) for pair in found.pairs] == [(row["prompt"], row["toxic"]) for row in GOOD]
    assert found.unit == "row" and found.lines == (1, 2)


def packed(path: Path, content: bytes, kind: str) -> str:
    pack = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
    pack["zst"] = lambda content: pyarrow.compress(content, "zstd", asbytes=True)
    path.write_bytes(pack[kind](content))
    return str(path)


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst"])
def test_packed_files_are_read_whatever_they_are_called(tmp_path, kind):
    content = "".join(json.dumps(row) + "\n" for row in GOOD).encode()
    for name in (f"pairs.jsonl.{kind}", "pairs.jsonl"):
        assert len(read(packed(tmp_path / name, content, kind)).pairs) == 2
    broken = tmp_path / f"broken.jsonl.{kind}"
    packed(broken, content * 50, kind)
    broken.write_bytes(broken.read_bytes()[:60])
    assert "\n" not in refusal(str(broken))


def test_a_packed_line_without_an_end_is_not_unpacked_whole(tmp_path):
    path = tmp_path / "bomb.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"toxic": "' + b"a" * 2**27))
    assert "a line of more than" in refusal(str(path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", "sep=;\r\ntoxic;civil\r\nidiot, you;mate, you\r\ncrap;well\r\n"),
        ("x.csv", 'My pairs\n\ntoxic,civil\n"idiot, you","mate, you"\ncrap,well\n'),
        ("x.csv", 'toxic,civil\r"idiot, you","mate, you"\rcrap,well\r'),
        ("x.tsv", "toxic\tcivil\nidiot, you\tmate, you\ncrap\twell\n"),
        ("x.tsv", '"toxic"\t"civil"\n"idiot, you"\t"mate, you"\n"crap"\t"well"\n'),
    ],
)
def test_tables_as_spreadsheets_write_them_are_read(tmp_path, name, content):
    (tmp_path / name).write_bytes(content.encode())
    found = read(str(tmp_path / name)).pairs
    assert [(pair.toxic, pair.civil) for pair in found] == [("idiot, you", "mate, you"), ("crap", "well")]


@pytest.mark.parametrize("cell", ['"You idiot" he said', '"You idiot', 'He said "you idiot"', '"'])
def test_quotation_marks_of_texts_in_a_table_with_tabs_fuse_no_rows(tmp_path, cell):
    rows = [("toxic", "civil"), ("crap", "well"), (f"{cell} x", "kindly"), ("damn", cell), ("jerk", "mate")]
    (tmp_path / "x.tsv").write_text("".join(f"{one}\t{other}\n" for one, other in rows))
    assert [(pair.toxic, pair.civil) for pair in read(str(tmp_path / "x.tsv")).pairs] == rows[1:]


ANSWER, REPLY = "You are an idiot.", "You are welcome."
TURN = {"role": "user", "content": "Late again?"}


def say(text: str, role: str = "assistant") -> dict:
    return {"role": role, "content": text}


@pytest.mark.parametrize(
    "make",
    [
        lambda text: [TURN, say(text)],
        lambda text: [TURN, say(text, "model")],
        lambda text: [TURN, say(text, "Assistant")],
        lambda text: [{"from": "human", "value": "Late again?"}, {"from": "gpt", "value": text}],
        lambda text: [TURN, {"role": "assistant", "content": [{"type": "text", "text": text}]}],
        lambda text: [TURN, {"role": "assistant", "content": None, "tool_calls": [{}]}, say(text)],
        lambda text: json.dumps([TURN, say(text)]),
        lambda text: repr([TURN, say(text)]),
    ],
)
def test_chat_messages_are_read_in_every_form_that_data_sets_have(tmp_path, make):
    rows = [{"chosen": make(REPLY + str(n)), "rejected": make(ANSWER + str(n))} for n in range(3)]
    found = read(write_json_lines(tmp_path / "x.jsonl", rows)).pairs
    assert [(pair.prompt, pair.toxic, pair.civil) for pair in found] == [
        ("Late again?", ANSWER + str(n), REPLY + str(n)) for n in range(3)
    ]


def test_what_begins_as_messages_and_is_none_is_never_read_as_words(tmp_path):
    rows = [{"toxic": "[{'role': 'assistant', 'content': 'You idiot'", "civil": "Well"}] * 3
    told = refusal(write_json_lines(tmp_path / "x.jsonl", rows))
    assert "begins as a list of messages and cannot be read as one" in told
    rows = [{"toxic": "[sic] you idiot", "civil": "[sic] my friend"}, {"toxic": "{x} crap", "civil": "{x} well"}]
    assert len(read(write_json_lines(tmp_path / "y.jsonl", rows)).pairs) == 2


RANKED = {
    "conversations": [{"from": "human", "value": "Late again?"}],
    "chosen": {"from": "gpt", "value": REPLY},
    "rejected": {"from": "gpt", "value": ANSWER},
}


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "Late again?", "input": "", "output": [REPLY, ANSWER]},
        RANKED,
        {"question": "Late again?", "chosen": REPLY, "rejected": ANSWER},
        {"prompt": "Late again?", "chosen": [TURN, say(REPLY)], "rejected": [TURN, say(ANSWER)]},
    ],
)
def test_preferences_of_the_usual_data_sets_are_known_by_their_columns(tmp_path, row):
    found = read(write_json_lines(tmp_path / "x.jsonl", [row, row])).pairs
    assert (found[0].prompt, found[0].toxic, found[0].civil) == ("Late again?", ANSWER, REPLY)


@pytest.mark.parametrize("names", [("en_toxic_comment", "en_neutral_comment"), ("toxic_sentence", "neutral_sentence")])
def test_paradetox_is_known_by_its_columns(tmp_path, names):
    rows = [dict(zip(names, (ANSWER, REPLY), strict=True))] * 2
    assert read(write_json_lines(tmp_path / "x.jsonl", rows)).pairs[0].civil == REPLY


def test_single_answers_with_a_label_are_refused_with_the_reason(tmp_path):
    rows = [{"prompt": "Late?", "completion": ANSWER, "label": False}] * 2
    assert "single answers, each with a label, and no pairs" in refusal(write_json_lines(tmp_path / "x.jsonl", rows))


def test_a_folder_of_save_to_disk_is_read(tmp_path):
    rows = datasets.Dataset.from_list(GOOD)
    rows.save_to_disk(str(tmp_path / "saved"))
    assert len(read(str(tmp_path / "saved")).pairs) == 2
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(str(tmp_path / "both"))
    assert len(read(str(tmp_path / "both"), split="test").pairs) == 2
    assert "has no split “dev”" in refusal(str(tmp_path / "both"), split="dev")
    file = next((tmp_path / "saved").glob("*.arrow"))
    file.write_bytes(file.read_bytes()[:80])
    assert "damaged" in refusal(str(tmp_path / "saved"))


@pytest.mark.parametrize("ending", WRITERS)
def test_unknown_columns_are_listed_and_can_be_mapped(tmp_path, ending):
    rows = [{"bad": "idiot", "good": "mate"}, {"bad": "crap", "good": "well"}]
    path = WRITERS[ending](tmp_path / f"other.{ending}", rows)
    message = refusal(path)
    assert "found: “bad”, “good”" in message and "say which column is which" in message
    assert "no column “worse”" in refusal(path, toxic="worse", civil="good")
    assert "must be different columns" in refusal(path, toxic="bad", civil="bad")
    assert len(read(path, toxic="bad", civil="good").pairs) == 2


def test_two_columns_of_one_name_are_refused(tmp_path):
    path = tmp_path / "twice.csv"
    path.write_text("toxic,civil,toxic\na,b,c\n")
    assert "two columns named “toxic”" in refusal(str(path))


def test_a_header_that_cannot_be_read_is_refused(tmp_path):
    path = tmp_path / "header.csv"
    path.write_text('"toxic,civil\na,b\n')
    assert "line 1: the header cannot be read" in refusal(str(path))


def test_fewer_than_two_usable_pairs_are_refused(tmp_path):
    single = write_json_lines(tmp_path / "single.jsonl", GOOD[:1])
    assert refusal(single) == f"{single} holds one pair: a fit needs at least two."
    mended = write_json_lines(tmp_path / "mended.jsonl", [GOOD[0], {**GOOD[1], "civil": None}])
    message = refusal(mended)
    assert "only one row of 2 makes a pair" in message and "“civil” is null (line 2)" in message
    empty = write_csv(tmp_path / "hollow.csv", [{"toxic": "", "civil": "a"}, {"toxic": "", "civil": "b"}])
    assert "no row of 2 makes a pair" in refusal(empty) and "“toxic” is empty (lines 2, 3)" in refusal(empty)


def test_pairs_with_the_same_text_on_both_sides_are_refused(tmp_path):
    source = write_json_lines(tmp_path / "same.jsonl", [{"toxic": f"text {n}", "civil": f"text {n}"} for n in range(5)])
    assert "in every row both sides are the same (lines 1, 2, 3 and 2 more)" in refusal(source)


@pytest.mark.parametrize("name", ["pairs.ods", "pairs.pkl", "pairs"])
def test_an_unknown_file_ending_is_refused_with_the_known_ones(tmp_path, name):
    path = tmp_path / name
    path.write_text("toxic,civil\na,b\nc,d\n")
    assert "read from .jsonl, .json, .csv, .tsv, .parquet or .xlsx files" in refusal(str(path))


def save_workbook(path: Path, rows: list[tuple]) -> str:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.create_sheet("another").append(("toxic", "civil"))
    book.save(path)
    return str(path)


def test_a_workbook_is_read_below_its_title_and_says_which_row_is_none(tmp_path):
    rows = [("Pairs of 2026",), (), ("toxic", "civil", None, "note"), *((f"bad {n}", f"good {n}") for n in range(4))]
    source = save_workbook(tmp_path / "pairs.xlsx", [*rows, (5, "a number"), ("=1+1", "a formula"), ("left", None)])
    found = read_pairs(PairSpec(source), NO_BUNDLE)
    assert [pair.toxic for pair in found.pairs] == ["bad 0", "bad 1", "bad 2", "bad 3"]
    assert found.unit == "row" and found.lines[0] == 4
    told = " ".join(found.warnings)
    assert "8" in told and "9" in told and "10" in told, told


@pytest.mark.parametrize("content", [b"PK\x03\x04 no archive", b"toxic,civil\na,b\n", b""])
def test_what_is_no_workbook_is_refused(tmp_path, content):
    (tmp_path / "pairs.xlsx").write_bytes(content)
    assert "no Excel workbook" in refusal(str(tmp_path / "pairs.xlsx")) or "is empty" in refusal(
        str(tmp_path / "pairs.xlsx")
    )


def test_a_workbook_that_is_changed_or_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    source = save_workbook(tmp_path / "pairs.xlsx", [("toxic", "civil"), ("a", "b"), ("c", "d")])
    with zipfile.ZipFile(source) as packed:
        parts = {part: packed.read(part) for part in packed.namelist()}
    for part in parts:
        with zipfile.ZipFile(tmp_path / "broken.xlsx", "w") as packed:
            for name, content in parts.items():
                packed.writestr(name, b"<a>&lol;" if name == part else content)
        try:
            assert read_pairs(PairSpec(str(tmp_path / "broken.xlsx")), NO_BUNDLE).pairs
        except InputError as error:
            assert "cannot be read after row" in str(error) or "no row" in str(error), (part, error)
    monkeypatch.setattr(files, "LARGEST_WORKBOOK", 1000)
    assert "unpacks to" in refusal(source)


def test_one_large_document_is_told_to_be_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LARGEST_DOCUMENT", 1000)
    records = [{"toxic": f"you idiot {number}", "civil": f"my friend {number}"} for number in range(40)]
    (tmp_path / "pairs.json.gz").write_bytes(gzip.compress(json.dumps(records, indent=1).encode()))
    assert "one JSON document of more than 1,000 characters: write one object a line" in refusal(
        str(tmp_path / "pairs.json.gz")
    )


def test_a_line_without_end_is_refused_in_utf_16_too(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "LONGEST_LINE", 1000)
    (tmp_path / "pairs.csv").write_bytes(("toxic,civil\n" + "a" * 5000 + ",b\n").encode("utf-16"))
    assert "has a line of 1,000 characters" in refusal(str(tmp_path / "pairs.csv"))


def test_a_damaged_parquet_file_is_refused(tmp_path):
    path = Path(write_parquet(tmp_path / "pairs.parquet", numbered(3000), row_group_size=500))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert "is no Parquet file, or a damaged one" in refusal(str(path))
    middle = len(content) // 2
    path.write_bytes(content[:middle] + b"\xff" * 500 + content[middle + 500 :])
    assert "damaged after row" in refusal(str(path)) or "is not UTF-8 text" in refusal(str(path))


def test_progress_reaches_its_end_and_can_stop_the_reading(tmp_path):
    source = write_json_lines(tmp_path / "pairs.jsonl", numbered(2500))
    seen = []
    read_pairs(PairSpec(source), NO_BUNDLE, lambda stage, done, total: seen.append((done, total)))
    assert len(seen) == 4 and seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] == Path(source).stat().st_size

    class Stopped(Exception):
        pass

    def stop(stage, done, total):
        raise Stopped

    with pytest.raises(Stopped):
        read_pairs(PairSpec(source), NO_BUNDLE, stop)


def test_pairs_of_very_different_lengths_are_told(tmp_path):
    rows = [GOOD[0], {"toxic": "crap", "civil": "a well made and tasty soup"}, GOOD[0]]
    pairs = read(write_json_lines(tmp_path / "pairs.jsonl", rows))
    told = "Pairs in which one side has more than 3 times the words of the other: 1 (line 2)."
    assert pairs.warnings == (told,)


# mapping by hand


@pytest.mark.parametrize("ending", WRITERS)
def test_columns_and_first_rows_can_be_seen_before_they_are_mapped(tmp_path, ending):
    rows = [{"bad": f"idiot {n}", "good": "x" * 500} for n in range(9)]
    preview = read_columns(PairSpec(WRITERS[ending](tmp_path / f"other.{ending}", rows)), NO_BUNDLE, rows=3)
    assert preview.columns == ("bad", "good") and preview.layout is None
    assert [row["bad"] for row in preview.rows] == ["idiot 0", "idiot 1", "idiot 2"]
    assert all(len(row["good"]) == 200 for row in preview.rows)


def test_a_preview_shows_any_cell_as_text_and_the_layout_it_knows(tmp_path):
    rows = [{"toxic": {"a": [1]}, "civil": None}, {"toxic": "half \ud83d", "civil": "b"}]
    preview = read_columns(PairSpec(write_json_lines(tmp_path / "odd.jsonl", rows)), NO_BUNDLE)
    assert preview.rows == ({"toxic": '{"a": [1]}', "civil": ""}, {"toxic": "half ?", "civil": "b"})
    assert (preview.layout.toxic, preview.layout.civil, preview.layout.prompt) == ("toxic", "civil", None)


# Hub data sets, with the library's own objects and errors but without a network


@pytest.fixture
def hub(monkeypatch):
    """Stands for the Hub: `hub(rows)` is what it serves, and a raised error what it answers."""
    calls = []

    def serve(answer):
        def load_dataset(path, **options):
            calls.append({"path": path, **options})
            if isinstance(answer, Exception):
                raise answer
            whole = datasets.Dataset.from_list(answer)
            return whole.to_iterable_dataset() if options["streaming"] else whole

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        return calls

    return serve


def test_a_hub_data_set_is_streamed_where_a_limit_allows_it(hub):
    calls = hub(numbered(50))
    everything = read("owner/name", subset="part", split="test", revision="abc")
    drawn = read("owner/name", limit=10, seed=1)
    assert [call["streaming"] for call in calls] == [False, True]
    assert calls[0] == {"path": "owner/name", "name": "part", "split": "test", "revision": "abc", "streaming": False}
    assert everything.pairs == tuple(Pair(**row) for row in numbered(50))
    assert len(drawn.pairs) == 10 and drawn.total == 50 and drawn.warnings == ()
    assert all(pair == everything.pairs[row - 1] for pair, row in zip(drawn.pairs, drawn.lines, strict=True))


def test_a_stream_is_left_after_its_first_rows_and_says_so(hub):
    hub(numbered(STREAMED_ROWS + 500))
    drawn = read("owner/name", limit=20)
    assert drawn.total == STREAMED_ROWS
    assert drawn.warnings == ("Drawn from the first 20,000 rows of owner/name; without a limit all are read.",)


def test_a_preview_of_a_hub_data_set_streams(hub):
    calls = hub([{"bad": "idiot", "good": "mate", "extra": 5}])
    preview = read_columns(PairSpec("owner/name"), NO_BUNDLE)
    assert preview.columns == ("bad", "good", "extra") and preview.rows[0]["extra"] == "5"
    assert calls[0]["streaming"]


def real_error(**options) -> Exception:
    """What the library itself raises for a wrong split or configuration, from a data set on this machine."""
    with pytest.raises(ValueError) as caught:
        datasets.load_dataset(**options)
    return caught.value


def test_each_failure_of_the_hub_has_its_sentence(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    data = tmp_path / "data"
    data.mkdir()
    write_json_lines(data / "train.jsonl", GOOD)
    wrong_split = [real_error(path=str(data), split="best", streaming=streaming) for streaming in (True, False)]
    wrong_config = real_error(path=str(data), name="small", split="train")
    gated = DatasetNotFoundError("Dataset 'owner/name' is a gated dataset on the Hub. You must be authenticated.")
    missing = DatasetNotFoundError("Dataset 'owner/name' doesn't exist on the Hub or cannot be accessed.")
    revision = DatasetNotFoundError("Revision 'old' doesn't exist for dataset 'owner/name' on the Hub.")
    several = ValueError("Config name is missing.\nPlease pick one among the available configs: ['a', 'b']")
    for error, options, words in [
        (ConnectionError("Couldn't reach 'owner/name' on the Hub"), {}, "check the network"),
        (missing, {}, "is not on the Hub, or is private"),
        (gated, {}, "is gated: ask for access"),
        (revision, {"revision": "old"}, "has no revision “old”"),
        (wrong_split[0], {"split": "best"}, "has no split “best”: choose among 'train'"),
        (wrong_split[1], {"split": "best"}, "has no split “best”: choose among 'train'"),
        (wrong_config, {"subset": "small"}, "has no configuration “small”: choose among 'default'"),
        (several, {}, "has several configurations: choose among 'a', 'b'"),
        (RuntimeError("Dataset scripts are no longer supported, but found x.py"), {}, "no longer supported"),
    ]:
        hub(error)
        message = refusal("owner/name", **options)
        assert message.startswith("The data set owner/name ") and words in message


@pytest.mark.parametrize("limit", [None, 10])
def test_without_a_network_the_ways_out_are_named(monkeypatch, limit):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)  # the library then raises its own error at once
    assert refusal("owner/name", limit=limit) == (
        "The data set owner/name cannot be reached, because the Hub does not answer: check the network, "
        "or use a file or the bundled pairs."
    )


def test_a_stream_that_breaks_off_has_its_sentence(hub, monkeypatch):
    def rows():
        yield GOOD[0]
        raise ConnectionError("gone")

    features = datasets.Features(dict.fromkeys(("prompt", "toxic", "civil"), datasets.Value("string")))
    stream = datasets.IterableDataset.from_generator(rows, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda path, **options: stream)
    assert "check the network" in refusal("owner/name", limit=2)


def test_a_missing_file_in_a_folder_that_exists_is_not_sought_on_the_hub(tmp_path, monkeypatch, hub):
    calls = hub(GOOD)
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("data/pairs", "elsewhere/pairs.jsonl", "./owner/name"):
        assert "There is no file" in refusal(name)
    assert calls == []


def test_a_small_parquet_file_of_long_texts_takes_little_memory(tmp_path):
    """A text of half a million characters, a thousand times, is a file of a few kilobytes."""
    import pyarrow
    import pyarrow.parquet

    long = pyarrow.array(["a" * 500_000]).dictionary_encode()
    column = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 1000, pyarrow.int32()), long.dictionary)
    file = tmp_path / "long.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"toxic": column.cast(pyarrow.string()), "civil": ["b"] * 1000}), file)
    assert file.stat().st_size < 100_000
    pool = pyarrow.default_memory_pool()
    before, rows = pool.bytes_allocated(), 0
    for _ in open_pairs(PairSpec(str(file)), file):
        rows += 1
        assert pool.bytes_allocated() - before < 100_000_000
    assert rows == 1000


def test_a_text_of_megabytes_is_no_pair(tmp_path):
    rows = [{"toxic": "a" * 1_000_001, "civil": "b"}, {"toxic": "c", "civil": "d"}, {"toxic": "e", "civil": "f"}]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_pairs(PairSpec(str(tmp_path / "x.jsonl")), tmp_path)
    assert len(found.pairs) == 2 and "longer than 1,000,000 characters" in found.warnings[0]


@pytest.mark.parametrize("name", ["~nobody-of-this-name/x.csv", "a" * 3000, "a\0b.csv", "/dev/null", "fifo.csv"])
def test_a_name_of_no_regular_file_is_one_sentence_at_once(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "fifo.csv")
    with pytest.raises(InputError, match="no file|cannot be opened"):
        read_pairs(PairSpec(name), tmp_path)
    assert find_place(ModelSpec(name)) in (None, Path(name))
