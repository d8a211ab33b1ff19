"""Serve the endpoints of a Hub that huggingface_hub calls, on this machine and from memory.

See also: test_hub.py.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]


@dataclass
class Repository:
    """Repository with its commits; a ref is a branch or a tag."""

    private: bool = False
    commits: dict[str, Files] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Files, ref: str = "main") -> str:
        """Add a commit with these files and move a ref to it; return its hash."""
        sha = hashlib.sha1(f"{len(self.commits)}".encode()).hexdigest()
        self.commits[sha] = files
        self.refs[ref] = sha
        return sha

    def find(self, revision: str) -> str | None:
        """Return the commit of a branch, a tag or a commit."""
        return self.refs.get(revision, revision if revision in self.commits else None)


class HubStub:
    """State of the server."""

    token = "hf_secret"
    """Token that opens private repositories and may push."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        """Method and path of every request."""
        self.endpoint = ""


@contextmanager
def serve_hub() -> Iterator[HubStub]:
    """Serve a Hub without repositories."""
    stub = HubStub()

    class Handler(_Handler):
        hub = stub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: HubStub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        self._get()

    def do_GET(self) -> None:
        self._get()

    def _get(self) -> None:
        words = self._words()
        if words[:2] == ["api", "models"] and words[4:5] in (["revision"], ["tree"]):
            self._listing("/".join(words[2:4]), words[4], "/".join(words[5:]))
        elif words[2:3] == ["resolve"]:
            self._file("/".join(words[:2]), words[3], "/".join(words[4:]))
        else:
            self._answer(404, {"error": "not found"})

    def do_POST(self) -> None:
        words = self._words()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._has_token():
            self._answer(401, {"error": "Invalid username or password."})
        elif words == ["api", "repos", "create"]:
            content = json.loads(body)
            name = f"{content['organization']}/{content['name']}"
            if name not in self.hub.repositories:
                self.hub.repositories[name] = Repository(private=content.get("visibility") == "private")
                self.hub.repositories[name].commit({})
            self._answer(200, {"url": f"{self.hub.endpoint}/{name}"})
        elif words == ["api", "validate-yaml"]:
            self._answer(200, {"errors": [], "warnings": []})
        elif words[4:5] == ["preupload"]:
            names = [each["path"] for each in json.loads(body)["files"]]
            modes = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
            self._answer(200, {"files": modes})
        elif words[4:5] == ["commit"]:
            self._commit("/".join(words[2:4]), body)
        else:
            self._answer(404, {"error": "not found"})

    def _commit(self, name: str, body: bytes) -> None:
        repository = self.hub.repositories[name]
        files = dict(repository.commits[repository.refs["main"]])
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        sha = repository.commit(files)
        self._answer(200, {"commitUrl": f"{self.hub.endpoint}/{name}/commit/{sha}", "commitOid": sha})

    def _listing(self, name: str, kind: str, revision: str) -> None:
        commit = self._find(name, revision)
        if commit is None:
            return
        files = self.hub.repositories[name].commits[commit]
        if kind == "revision":
            siblings = [{"rfilename": path} for path in files]
            self._answer(200, {"id": name, "modelId": name, "sha": commit, "siblings": siblings, "tags": []})
        else:
            entries = [
                {"type": "file", "path": path, "size": len(content), "oid": _etag(content)}
                for path, content in files.items()
            ]
            self._answer(200, entries)

    def _file(self, name: str, revision: str, path: str) -> None:
        commit = self._find(name, revision)
        if commit is None:
            return
        content = self.hub.repositories[name].commits[commit].get(path)
        if content is None:
            self._answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        else:
            self._send(200, content, {"ETag": f'"{_etag(content)}"', "X-Repo-Commit": commit})

    def _find(self, name: str, revision: str) -> str | None:
        """Return the commit, or answer as the Hub does for a missing or private one."""
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not self._has_token()):
            error = "Repository not found"
            self._answer(401, {"error": error}, {"X-Error-Code": "RepoNotFound", "X-Error-Message": error})
            return None
        commit = repository.find(unquote(revision))
        if commit is None:
            error = f"Invalid rev id: {revision}"
            self._answer(
                404, {"error": error}, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": error}
            )
        return commit

    def _has_token(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.hub.token}"

    def _words(self) -> list[str]:
        self.hub.requests.append(f"{self.command} {self.path}")
        return urlsplit(self.path).path.strip("/").split("/")

    def _answer(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        self._send(
            status, json.dumps(content).encode(), {"Content-Type": "application/json", **(headers or {})}
        )

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
