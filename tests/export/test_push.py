"""A folder goes to the Hub only when that is said, whole, and what goes wrong is one sentence.

The Hub is a stand-in for its HTTP interface on this machine.
"""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from detox_engine.errors import InputError
from detox_engine.export.push import push_export
from detox_engine.export.receipt import RECEIPT
from detox_engine.export.take_away import Enclosed, export_edit
from detox_engine.model.load import load_model
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sources import ModelSpec, PairSpec
from detox_engine.study.fit import fit_study
from tests.models import SENTENCES, save_tiny_model

pytestmark = pytest.mark.timeout(60)
TO = "someone/an-edit"
TOKEN = "hf_of_a_test"


class Hub(ThreadingHTTPServer):
    """Takes a repository and a commit, as the Hub does, and remembers what it got."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.refuse = 0
        self.asked: list[str] = []
        self.made: list[dict] = []
        self.files: dict[str, bytes] = {}
        self.objects: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *given: object) -> None:
        pass

    def give(self, record: object, status: int = 200) -> None:
        content = json.dumps(record).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def read(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def is_refused(self) -> bool:
        self.server.asked.append(f"{self.command} {self.path}")
        unknown = self.path.startswith("/api/") and self.headers["Authorization"] != f"Bearer {TOKEN}"
        status = self.server.refuse or (401 if unknown else 0)
        if status:
            self.read()
            self.give({"error": "no"}, status)
        return bool(status)

    def do_POST(self) -> None:
        if self.is_refused():
            return
        body = self.read()
        hub = self.server
        if self.path == "/api/repos/create":
            hub.made.append(json.loads(body))
            self.give({"url": f"{hub.url}/{TO}", "name": TO, "id": TO})
        elif self.path == "/api/validate-yaml":
            self.give({"errors": [], "warnings": []})
        elif self.path.startswith(f"/api/models/{TO}/preupload/"):
            large = {"adapter_model.safetensors", "report.html"}
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"] in large else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for file in json.loads(body)["files"]
            ]
            self.give({"files": files})
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                {
                    "oid": each["oid"],
                    "size": each["size"],
                    "actions": {"upload": {"href": f"{hub.url}/lfs/{each['oid']}"}},
                }
                for each in json.loads(body)["objects"]
            ]
            self.give({"transfer": "basic", "objects": objects})
        elif self.path.startswith(f"/api/models/{TO}/commit/"):
            for line in body.decode().splitlines():
                entry = json.loads(line)
                told = entry["value"]
                if entry["key"] == "file":
                    hub.files[told["path"]] = base64.b64decode(told["content"])
                elif entry["key"] == "lfsFile":
                    hub.files[told["path"]] = hub.objects[told["oid"]]
            self.give({"commitUrl": f"{hub.url}/{TO}/commit/abc", "commitOid": "abc", "pullRequestUrl": None})
        else:
            self.give({"error": f"nothing at {self.path}"}, 404)

    def do_GET(self) -> None:
        if not self.is_refused():
            self.give({"id": TO, "sha": "abc", "siblings": [], "xetEnabled": False})

    def do_PUT(self) -> None:
        if not self.is_refused():
            self.server.objects[self.path.rpartition("/")[2]] = self.read()
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()


@pytest.fixture
def hub(monkeypatch) -> Iterator[Hub]:
    hub = Hub()
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    # The Hub's newer way of large files speaks to servers of its own, which no stand-in has.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield hub
    hub.shutdown()
    hub.server_close()


@pytest.fixture
def folder(tmp_path) -> Path:
    sides = zip(SENTENCES[:5], SENTENCES[5:], strict=True)
    (tmp_path / "pairs.jsonl").write_text(
        "".join(json.dumps({"toxic": one, "civil": other}) + "\n" for one, other in sides)
    )
    (tmp_path / "report.html").write_text("<html></html>")
    model = load_model(ModelSpec(str(save_tiny_model("llama", tmp_path / "model")), device="cpu"))
    study = fit_study(model, FitPlan(PairSpec(str(tmp_path / "pairs.jsonl")), keep=2))
    enclosed = Enclosed(files={"report.html": tmp_path / "report.html"}, licence="mit")
    return export_edit(model, study, EditPlan((0, 1), 1), tmp_path / "edit", enclosed=enclosed).folder


def test_nothing_leaves_unless_it_is_said(folder, hub):
    told = push_export(folder, TO)
    assert hub.asked == [] and told.url == ""
    assert told.sizes == {path.name: path.stat().st_size for path in folder.iterdir()}
    assert told.notes == ("report.html holds prompts and what the model wrote.", "Everybody can read it there.")


@pytest.mark.parametrize("private", [False, True])
def test_every_file_arrives_as_it_is(folder, hub, private):
    told = push_export(folder, TO, private, upload=True)
    assert hub.files == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert told.url.endswith("/commit/abc")
    assert len(hub.made) == 1 and hub.made[0]["name"] == "an-edit" and hub.made[0]["organization"] == "someone"
    made = hub.made[0]
    assert (made.get("private") is True or made.get("visibility") == "private") == private


@pytest.mark.parametrize(
    ("status", "says"), [(401, "does not know your login"), (403, "may not write to"), (500, "refused it")]
)
def test_what_the_hub_refuses_is_one_sentence(folder, hub, status, says):
    hub.refuse = status
    with pytest.raises(InputError, match=says) as error:
        push_export(folder, TO, upload=True)
    assert "\n" not in str(error.value)


def test_a_hub_that_is_not_there_and_no_login_are_one_sentence(folder, hub, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="cannot be reached"):
        push_export(folder, TO, upload=True)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    with pytest.raises(InputError, match="not logged in|does not know your login"):
        push_export(folder, TO, upload=True)


@pytest.mark.parametrize("to", ["edit", "a/b/c", "../up", "some one/edit", "", "a/" + "b" * 200])
def test_what_is_no_repository_is_one_sentence(folder, to):
    with pytest.raises(InputError, match="is no repository: write USER/NAME"):
        push_export(folder, to, upload=True)


def test_a_folder_that_was_changed_or_is_none_does_not_leave(folder, hub, tmp_path):
    (folder / "private.txt").write_text("mine")
    with pytest.raises(InputError, match="private.txt was changed"):
        push_export(folder, TO, upload=True)
    (folder / "private.txt").unlink()
    (folder / "README.md").write_text("another")
    with pytest.raises(InputError, match="README.md was changed"):
        push_export(folder, TO, upload=True)
    (folder / "README.md").unlink()
    (folder / "README.md").mkdir()
    with pytest.raises(InputError, match="README.md was changed"):
        push_export(folder, TO, upload=True)
    (folder / RECEIPT).unlink()
    with pytest.raises(InputError, match="holds no detox_receipt.json"):
        push_export(folder, TO, upload=True)
    assert hub.asked == []
