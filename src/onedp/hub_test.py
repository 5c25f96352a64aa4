"""Push and pull against a server of our own on loopback that speaks what the hub's client asks."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from onedp.artifact import artifact_name, resolve_artifact, shipped_artifacts
from onedp.cli.main import main
from onedp.errors import ArtifactError, HubError
from onedp.hub import check_name, pull_policy, push_policy

pytest.importorskip("huggingface_hub", reason="the extra 'hub' is not installed")
SHIPPED = "pusht-keypoints-edm"
TOKEN = "hf_of_the_test"
VERBS = [["push", SHIPPED, "me/student"], ["pull", "me/student", "--out", "pulled"]]


class Repositories:
    """What the stand-in hub keeps: repository to visibility and files."""

    def __init__(self) -> None:
        self.private: dict[str, bool] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.commits: list[str] = []

    def sha(self, name: str) -> str:
        return hashlib.sha1(repr(sorted(self.files[name].items())).encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """The requests that huggingface_hub makes for models; everything is stored as a regular file."""

    hub: Repositories

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, content: object = None, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def allowed(self, name: str, writes: bool = False) -> bool:
        known = self.headers.get("authorization") == f"Bearer {TOKEN}"
        if name in self.hub.files and (known or not (writes or self.hub.private[name])):
            return True
        self.answer(404 if known else 401, {"error": "Repository Not Found"}, {"X-Error-Code": "RepoNotFound"})
        return False

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.partition("?")[0]
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path == "/api/validate-yaml":  # of the model card
            return self.answer(200, {"errors": [], "warnings": []})
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/[^/]+", path)
        assert match, path
        if not self.allowed(match[1], writes=True):
            return None
        if match[2] == "preupload":
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": files})
        assert match[2] == "commit"
        files_of = self.hub.files[match[1]]
        for entry in map(json.loads, body.splitlines()):
            value = entry["value"]
            if entry["key"] == "file":
                files_of[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "deletedFile":
                del files_of[value["path"]]
            else:
                self.hub.commits.append(value["summary"])
        sha = self.hub.sha(match[1])
        host = self.headers["Host"]
        return self.answer(200, {"commitUrl": f"http://{host}/{match[1]}/commit/{sha}", "commitOid": sha})

    def create(self, request: dict) -> None:
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid credentials"})
        name = f"{request['organization']}/{request['name']}"
        url = f"http://{self.headers['Host']}/{name}"
        if name in self.hub.files:
            return self.answer(409, {"error": "You already created this model repo", "url": url})
        self.hub.files[name] = {".gitattributes": b""}
        self.hub.private[name] = request.get("visibility") == "private" or request.get("private") is True
        return self.answer(200, {"url": url, "name": name})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/[^/]+)?", path):
            name = match[1]
            if self.allowed(name):
                siblings = [{"rfilename": file} for file in self.hub.files[name]]
                facts = {"id": name, "sha": self.hub.sha(name), "private": self.hub.private[name], "siblings": siblings}
                self.answer(200, facts)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/[^/]+", path):
            if self.allowed(match[1]):
                entries = [
                    {"type": "file", "path": file, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for file, data in self.hub.files[match[1]].items()
                ]
                self.answer(200, entries)
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            if self.allowed(match[1]):
                data = self.hub.files[match[1]][match[3]]
                headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": self.hub.sha(match[1])}
                self.answer(200, data, headers)
        else:
            raise AssertionError(path)


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[Repositories]:
    repositories = Repositories()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": repositories}))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    use_endpoint(monkeypatch, tmp_path, f"http://127.0.0.1:{server.server_port}")
    yield repositories
    server.shutdown()
    server.server_close()


def use_endpoint(monkeypatch, tmp_path: Path, endpoint: str) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


def test_a_policy_comes_back_as_it_was_pushed(hub, tmp_path, capsys):
    main(["push", SHIPPED, "me/student"])
    assert "Pushed to me/student, for you and those you let in: http://127.0.0.1" in capsys.readouterr().out
    assert hub.private == {"me/student": True}
    assert hub.commits == [f"onedp push: {SHIPPED}"]
    card = hub.files["me/student"]["README.md"].decode()
    assert card.startswith("---\nlibrary_name: onedp\n")
    assert "onedp pull me/student --out policy" in card
    hub.files["me/student"]["elsewhere.pkl"] = b"not asked for"
    main(["pull", "me/student", "--out", str(tmp_path / "pulled")])
    assert "Pulled the policy me/student into" in capsys.readouterr().out
    original = shipped_artifacts()[SHIPPED]
    pulled = {path.name: path.read_bytes() for path in (tmp_path / "pulled").iterdir()}
    assert pulled.pop("README.md").decode() == card
    assert pulled == {path.name: path.read_bytes() for path in original.iterdir()}


def test_a_policy_may_be_named_by_its_repository(hub, monkeypatch):
    push_policy(SHIPPED, "me/student")
    folder = resolve_artifact("hub:me/student")
    assert artifact_name(folder) == "student"
    assert (folder / "spec.json").read_bytes() == (shipped_artifacts()[SHIPPED] / "spec.json").read_bytes()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert resolve_artifact("hub:me/student") == folder  # from the cache when the hub does not answer


def test_a_policy_takes_the_place_of_an_export(hub):
    push_policy(SHIPPED, "me/student", public=True)
    assert hub.private == {"me/student": False}
    hub.files["me/student"] |= {"manifest.json": b"{}", "notes.txt": b"kept"}
    push_policy(SHIPPED, "me/student", public=True)
    assert "manifest.json" not in hub.files["me/student"]
    assert "notes.txt" in hub.files["me/student"]


def test_nothing_is_pushed_to_a_public_repository_unasked(hub):
    push_policy(SHIPPED, "me/open", public=True)
    before = len(hub.commits)
    with pytest.raises(HubError, match=r"me/open exists and is public: .* --public, or choose another name"):
        push_policy(SHIPPED, "me/open")
    assert len(hub.commits) == before


def test_what_was_changed_on_the_way_is_refused(hub, tmp_path):
    push_policy(SHIPPED, "me/student")
    hub.files["me/student"]["weights.safetensors"] += b"\0"
    with pytest.raises(ArtifactError, match="is not the file that was saved"):
        pull_policy("me/student", tmp_path / "pulled")
    hub.files["me/student"] = {"README.md": b"no policy"}
    with pytest.raises(ArtifactError, match=r"neither spec.json nor manifest.json"):
        pull_policy("me/student", tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists()


def test_what_is_not_ours_is_explained(hub, monkeypatch, tmp_path):
    with pytest.raises(
        HubError, match=r"does not let you read me/none \(status 404\): it does not exist, or is not you"
    ):
        pull_policy("me/none", tmp_path / "pulled")
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    with pytest.raises(HubError, match=r"write to me/student \(status 401\).* log in with: hf auth login"):
        push_policy(SHIPPED, "me/student")
    assert hub.files == {}


@pytest.mark.parametrize("arguments", VERBS)
def test_offline_is_said_plainly(monkeypatch, tmp_path, capsys, arguments):
    use_endpoint(monkeypatch, tmp_path, "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    message = " ".join(capsys.readouterr().err.split())
    assert f"http://127.0.0.1:9 cannot be reached to {arguments[0]} me/student" in message
    assert "Check the connection" in message
    assert not (tmp_path / "pulled").exists()


@pytest.fixture
def answering(monkeypatch, tmp_path) -> Iterator[Callable[[int, bytes], None]]:
    """Let a server that is no hub be the hub: it gives the same answer to whatever it is asked."""
    answer: list[tuple[int, bytes]] = []

    class Odd(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, data = answer[-1]
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_HEAD = do_POST = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    use_endpoint(monkeypatch, tmp_path, f"http://127.0.0.1:{server.server_port}")
    monkeypatch.chdir(tmp_path)
    yield lambda status, data: answer.append((status, data))
    server.shutdown()
    server.server_close()


def refused(capsys, arguments) -> str:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("arguments", VERBS)
@pytest.mark.parametrize("data", [b"<html>log in</html>", b"", b"[1, 2]", b'{"a": 1}', b"null", b'{"siblings": 3}'])
def test_what_is_no_hub_is_said_to_be_none(answering, tmp_path, capsys, data, arguments):
    answering(200, data)
    message = refused(capsys, arguments)
    assert f"answered to {arguments[0]} me/student, but not as a hub does" in message
    assert "whether the login page of a network answers in its place" in message
    assert not (tmp_path / "pulled").exists()


@pytest.mark.parametrize("arguments", VERBS)
@pytest.mark.parametrize(
    ("status", "expected"), [(404, "does not let you"), (426, "refused to"), (503, "refused to"), (418, "refused to")]
)
def test_a_refusal_is_no_lost_connection(answering, capsys, status, expected, arguments, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)  # between the client's tries
    answering(status, b"no")
    message = refused(capsys, arguments)
    assert expected in message
    assert f"(status {status})" in message
    assert "cannot be reached" not in message


@pytest.mark.parametrize("arguments", VERBS)
@pytest.mark.parametrize("endpoint", ["http://[::1", "nonsense", "ftp://example.org", "http://", "http://x:99999"])
def test_an_endpoint_that_is_no_address_is_named(monkeypatch, tmp_path, capsys, endpoint, arguments):
    use_endpoint(monkeypatch, tmp_path, endpoint)
    message = refused(capsys, arguments)
    assert f"HF_ENDPOINT is '{endpoint}', expected the address of a hub, such as https://huggingface.co" in message


def test_an_odd_endpoint_is_named_before_the_client_is_imported(tmp_path):
    """The client reads the variable while it is imported, and fails."""
    command = [sys.executable, "-m", "onedp.cli.main", "pull", "me/student", "--out", str(tmp_path / "pulled")]
    environment = {**os.environ, "HF_ENDPOINT": "http://[::1"}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert process.returncode == 2
    assert process.stderr.startswith("onedp: HF_ENDPOINT is 'http://[::1', expected the address of a hub")


def test_an_empty_endpoint_is_the_default_one(hub, monkeypatch, tmp_path):
    monkeypatch.setattr("onedp.hub.DEFAULT_ENDPOINT", os.environ["HF_ENDPOINT"])
    monkeypatch.setenv("HF_ENDPOINT", "")
    push_policy(SHIPPED, "me/student")
    assert pull_policy("me/student", tmp_path / "pulled") == "policy"


@pytest.mark.parametrize("name", ["student", "me/", "me/stu/dent", "../me", "me/..", "me/a..b", "hub:me/x", "me/a b"])
def test_names_are_checked_before_anything_is_asked(name):
    with pytest.raises(HubError, match=r"is no repository of the hub. Expected OWNER/NAME"):
        check_name(name)
