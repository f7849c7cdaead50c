"""What people really type and have, a line a case: it ends in exit code 0 or 2, in one sentence, and leaves nothing.

Rows are added below; most come from generators: every file of `BROKEN` under every ending, every flag of every command
with every value of `WRONG`.
"""

import itertools
import json
from pathlib import Path

import pytest
from typer.main import get_command

from detox_engine.cli import main
from tests.cli.test_cli import home, picture, run  # noqa: F401  (a fixture)
from tests.fuzz import EXAMPLES

PAIR = {"toxic": "You idiot", "civil": "My friend"}
BROKEN = {
    "nothing": b"",
    "white space": b" \n\t\n",
    "a mark alone": b"\xef\xbb\xbf",
    "bytes": bytes(range(256)),
    "latin": "toxic,civil\né,à\n".encode("latin-1"),
    "half of utf-16": "toxic,civil\na,b\n".encode("utf-16")[:-1],
    "one row": json.dumps(PAIR).encode() + b"\n",
    "the same on both sides": b"".join(json.dumps({"toxic": "a", "civil": "a"}).encode() + b"\n" for _ in range(3)),
    "nulls": b'{"toxic": null, "civil": null}\n' * 3,
    "numbers": b'{"toxic": 1, "civil": 2}\n' * 3,
    "a list": b"[1, 2, 3]\n",
    "brackets": b"[" * 5000,
    "other columns": b'{"good": "a", "bad": "b"}\n' * 3,
    "half a record": b'{"toxic": "a", "civil": \n' * 3,
    "half of a pair of surrogates": b'{"toxic": "\\ud83d", "civil": "b"}\n' * 3,
    "an open quotation": b'toxic,civil\n"a,b\nc,d\n',
    "cut gzip": b"\x1f\x8b\x08\x00\x00\x00",
    "cut zstd": b"\x28\xb5\x2f\xfd\x04",
    "html": b"<!doctype html><title>Sign in</title>\n" * 3,
    "an LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 1\n",
    "single answers": b'{"prompt": "a", "completion": "b", "label": true}\n' * 3,
    "broken chats": b'{"toxic": "[{\'role\': \'x\', \'content\': ", "civil": "b"}\n' * 3,
}
ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".jsonl.gz", ".xlsx")
WRONG = ("x", "9" * 5000, *(("", "1e999", "nan", "\0", "../../x", "-1") if EXAMPLES > 100 else ()))
MAKES_NOTHING = ("app", "push", "verify", "reproduce", "auto", "report", "export")
"""Commands that need more than a study, or start something: they have tests of their own."""


def list_flags() -> list[tuple[str, str, str]]:
    """Command, flag and value: every option that takes a value, with every wrong one."""
    rows = []
    for name, command in get_command(main.app).commands.items():
        flags = [param.opts[0] for param in command.params if param.param_type_name == "option" and not param.is_flag]
        if name not in MAKES_NOTHING:
            rows += [(name, flag, value) for flag, value in itertools.product(flags, WRONG)]
    return rows


FLAGS = list_flags()
FILES = list(itertools.product(BROKEN, ENDINGS))


def test_there_are_enough_of_them():
    assert len(FLAGS) + len(FILES) >= 300


def is_told(result, one_line: bool = True) -> None:
    """It ended as a command ends, with nothing of Python."""
    assert result.exit_code in (0, 2), (result.exit_code, result.output, result.exception)
    told = result.stderr
    assert "Traceback" not in told and len(told) < 8000
    if result.exit_code == 2 and one_line:
        assert told.count("\n") == 1, told


@pytest.mark.parametrize(("kind", "ending"), FILES, ids=lambda value: value)
def test_a_file_of_pairs(home, tmp_path, monkeypatch, kind, ending):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"pairs{ending}").write_bytes(BROKEN[kind])
    before = picture(tmp_path)
    result = run("fit", "--model", home / "model", "--pairs", f"pairs{ending}", "--out", "study", "--no-suggest")
    is_told(result)
    assert result.exit_code == 2 and picture(tmp_path) == before, result.output


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("ending", [".txt", ".jsonl", ".csv"])
def test_a_file_of_prompts(home, tmp_path, monkeypatch, kind, ending):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"prompts{ending}").write_bytes(BROKEN[kind])
    asked = ("--layers", "1", "--rank", 1, "--max-new-tokens", 1, "--limit-prompts", 2)
    is_told(run("compare", home / "study", "--prompts", f"prompts{ending}", *asked))


def test_a_flag_with_a_wrong_value(home, tmp_path, monkeypatch):  # noqa: F811
    """All in one test: they are hundreds, and each takes a moment."""
    monkeypatch.chdir(tmp_path)
    before = picture(home)
    needs = {
        "fit": ("--model", home / "model", "--pairs", "nothing.jsonl", "--out", "study"),
        "extend": (home / "study", "--pairs", "nothing.jsonl", "--out", "study"),
        "check": (home / "study",),
        "directions": (home / "study", "--layers", 99),
        "compare": (home / "study", "--layers", 99),
        "evaluate": (home / "study", "--layers", 99),
        "sweep": (home / "study", "--starts", 99),
        "lens": (home / "study", "--text", ""),
        "map": (home / "study", "--layer", 99),
        "bench": (home / "study", "--layers", 99),
        "tune": (home / "study", "--journal", tmp_path / "nowhere" / "trials"),
    }
    for name, flag, value in FLAGS:
        result = run(name, *needs[name], flag, value)
        try:
            is_told(result, one_line=False)
            assert result.exit_code == (0 if flag == "--text" else 2)
        except AssertionError as error:
            raise AssertionError(f"{name} {flag} {value[:20]!r}: {error}") from None
    assert picture(home) == before and not list(Path().iterdir())
