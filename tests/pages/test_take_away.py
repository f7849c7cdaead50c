"""Take away: the edit as an adapter to save, with its proof, and the command for a whole model."""

import io
import json
import shlex
import zipfile

from typer.testing import CliRunner

from detox_engine.cli.main import app as command_line
from detox_engine.export import report
from detox_engine.plans.commands import EXPORTED, REPORT, STUDY
from tests.models import save_tiny_model
from tests.pages.conftest import fitted_app, run_until, texts

PAGE = "take_away/page.py"


def open_page(folder: str, **link: object):
    session = fitted_app(folder, **({"layers": "0-2", "rank": 2, "method": "detox"} | link)).switch_page(PAGE).run()
    assert not session.exception, session.exception
    return session


def make(session, button: str = "make_adapter"):
    session.button(key=button).click().run()
    run_until(session, lambda session: "adapter" not in session.session_state["jobs"] or session.error)
    assert not session.exception, session.exception
    return session


def find_taken(session):
    return list(session.session_state["answers of adapter"].all().values())[-1][0]


def test_before_the_button_is_pressed_the_page_says_what_to_do(tiny_folder):
    session = open_page(tiny_folder)
    run_until(session, lambda session: session.get("plotly_chart"))
    shown = texts(session)
    assert "Of the edit plan: layers 0-2, rank 2" in shown and "3 weight matrices change" in shown
    assert "Adapter for llama.cpp" in shown and "Whole model" in shown, "what there is to take, before it is made"
    assert "download_adapter" not in {button.key for button in session.get("download_button")}


def test_the_adapter_is_made_shown_verified_and_whole(tiny_folder):
    session = make(open_page(tiny_folder))
    shown = texts(session)
    assert len(session.get("plotly_chart")) == 1 and "What was verified" in shown
    taken = find_taken(session)
    assert [claim.holds for claim in taken.claims] == [True] * 4
    with zipfile.ZipFile(io.BytesIO(taken.content)) as archive:
        assert archive.testzip() is None
        assert {name.rpartition("/")[2] for name in archive.namelist()} == taken.sizes.keys()
        receipt = json.loads(archive.read("detox_adapter/detox_receipt.json"))
    assert receipt["edit"]["rank"] == 2 and tiny_folder not in json.dumps(receipt)
    session.toggle(key="edit_bias").set_value(True).run()
    assert "the edit plan has changed" in texts(session)


def test_what_cannot_be_an_adapter_is_one_sentence(tiny_folder):
    session = make(open_page(tiny_folder, edit_bias=1))
    assert any("carries no change of a bias" in error.value for error in session.error)


def test_the_commands_write_and_verify_what_the_page_shows(tiny_folder, tmp_path, monkeypatch):
    session = open_page(tiny_folder)
    session.button_group(key="take_away_form").set_value("model").run()
    assert "written by the command below" in session.info[0].value
    commands = [shlex.split(line) for code in session.code for line in code.value.splitlines() if line.strip()]
    assert [command[1] for command in commands] == ["fit", "export", "verify", "report"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, "write_report", lambda study, told, out, progress: out.write_text(told.model))
    for command in commands:
        done = CliRunner().invoke(command_line, command[1:])
        assert done.exit_code == 0, done.output
    assert (tmp_path / STUDY).is_dir() and (tmp_path / EXPORTED / "model.safetensors").is_file()
    assert (tmp_path / REPORT).is_file()


def test_what_a_mixture_of_experts_would_weigh_is_told_before_it_is_made(tmp_path):
    session = open_page(str(save_tiny_model("qwen2_moe", tmp_path / "mixture")))
    run_until(session, lambda session: session.get("plotly_chart"))
    assert not session.error and "3 weight matrices change" in texts(session) and "≈" in texts(session)
