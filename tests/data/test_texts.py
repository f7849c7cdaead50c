import json
from pathlib import Path

import pytest

from detox_engine.data.texts import read_prompts
from detox_engine.errors import InputError

NO_BUNDLE = Path("no-bundled-prompts")


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def refusal(source: str) -> str:
    with pytest.raises(InputError) as caught:
        read_prompts(source, NO_BUNDLE)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_text_file_holds_one_prompt_a_line(tmp_path):
    source = write(tmp_path / "prompts.txt", "\ufeffThe boss said,\r\n\n  \nYou know what? \n<b>&amp;\u2028x")
    assert read_prompts(source, NO_BUNDLE) == ("The boss said,", "You know what?", "<b>&amp;\u2028x")


def test_json_lines_hold_a_text_or_a_real_toxicity_prompts_record(tmp_path):
    records = [{"prompt": "Late? "}, {"prompt": {"text": "The boss", "toxicity": 0.2}, "continuation": {"text": "x"}}]
    source = write(tmp_path / "prompts.jsonl", "\n\n".join(json.dumps(record) for record in records))
    assert read_prompts(source, NO_BUNDLE) == ("Late? ", "The boss")


def test_bundled_means_the_file_given_for_it(tmp_path):
    assert read_prompts("bundled", Path(write(tmp_path / "own.txt", "Late?"))) == ("Late?",)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"prompt": ', "broken JSON (Expecting value at column"),
        ('["Late?"]', "no JSON object (an array instead of an object)"),
        ('{"text": "Late?"}', "“prompt” is missing"),
        ('{"prompt": null}', "“prompt” is null"),
        ('{"prompt": 5}', "“prompt” is not text"),
        ('{"prompt": {"toxicity": 1}}', "“prompt” is null"),
        ('{"prompt": " "}', "“prompt” is empty"),
        ('{"prompt": "\\ud83d"}', "“prompt” holds half of a surrogate pair"),
    ],
)
def test_a_line_without_a_prompt_is_told_by_its_number(tmp_path, line, reason):
    source = write(tmp_path / "prompts.jsonl", f'{{"prompt": "Late?"}}\n\n{line}\n')
    assert refusal(source).startswith(f"{source}, line 3: {reason}")


def test_files_that_hold_no_prompts_are_refused(tmp_path):
    assert "is empty" in refusal(write(tmp_path / "empty.txt", ""))
    assert "holds no prompt" in refusal(write(tmp_path / "blank.txt", "\n \n"))
    assert "is empty" in refusal(write(tmp_path / "blank.jsonl", "\n"))
    assert "There is no file" in refusal(str(tmp_path / "missing.txt"))
    assert "is a folder" in refusal(str(tmp_path))
    assert "line 2: byte 1 is not UTF-8" in refusal(write(tmp_path / "latin.txt", b"Late?\n\xe9\n"))
    assert "has no column of prompts (found: “a”, “b”)" in refusal(write(tmp_path / "prompts.csv", "a,b\nx,y\n"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", "prompt,more\nLate again?,1\n"),
        ("x.tsv", "text\tmore\nLate again?\t1\n"),
        ("x.json", '["Late again?"]'),
        ("x.json", '[{"question": "Late again?"}]'),
        ("x.jsonl", '{"messages": [{"role": "user", "content": "Late again?"}]}\n'),
        ("x.jsonl", "{\"prompt\": \"[{'role': 'user', 'content': 'Late again?'}]\"}\n"),
        ("x.jsonl", '{"conversations": [{"from": "human", "value": "Late again?"}]}\n'),
        ("x.jsonl", '{"prompt": {"text": "Late again?", "toxicity": 0.1}}\n'),
    ],
)
def test_prompts_are_read_from_whatever_has_them(tmp_path, name, content):
    assert read_prompts(write(tmp_path / name, content), Path("none")) == ("Late again?",)


def test_brackets_are_never_taken_for_words(tmp_path):
    content = json.dumps({"prompt": "[{'role': 'user', 'content': 'Late again?'"}) + "\n"
    assert "begins as a list of messages and cannot be read" in refusal(write(tmp_path / "x.jsonl", content))
