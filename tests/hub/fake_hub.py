"""The Hub's HTTP API on loopback, as far as huggingface-hub uses it to make a repository, commit to it and fetch it.

Large files go the way of Git LFS: asked for in a batch, put under their sha256, then named in the commit.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_of_the_fake"
LARGE = (".safetensors", ".png")
FRONT = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)


@dataclass
class Hub:
    """What was pushed: repositories by id, each with its commits in order."""

    address: str = ""
    repositories: dict[str, list[dict[str, bytes]]] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def files(self, id: str) -> dict[str, bytes]:
        """Those of the last commit."""
        return self.repositories[id][-1]


def commit_id(number: int) -> str:
    return f"{number:040x}"


@contextmanager
def running() -> Iterator[Hub]:
    """A Hub with nothing on it, while the block runs."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def answer(self, status: int, body: Any = b"", **headers: str) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"{self.command} {path}")
            if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
                self.info(match[1])
            elif match := re.match(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
                self.tree(match[1])
            elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                self.file(match[1], match[3])
            else:
                self.answer(404, {"error": "not found"})

        def do_POST(self) -> None:
            path, body = urlsplit(self.path).path, self.body()
            hub.asked.append(f"POST {path}")
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.answer(401, {"error": "Invalid username or password."})
            elif path == "/api/repos/create":
                asked = json.loads(body)
                id = f"{asked['organization']}/{asked['name']}"
                known = id in hub.repositories
                hub.repositories.setdefault(id, [{}])
                self.answer(409 if known else 200, {"url": f"{hub.address}/{id}"})
            elif path == "/api/validate-yaml":
                front = FRONT.match(json.loads(body)["content"])
                found = yaml.safe_load(front[1]) if front else None
                wrong = [] if isinstance(found, dict) and found.get("license") else [{"message": "no license"}]
                self.answer(400 if wrong else 200, {"errors": wrong, "warnings": []})
            elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
                files = [
                    {"path": one["path"], "shouldIgnore": False,
                     "uploadMode": "lfs" if one["path"].endswith(LARGE) else "regular"}
                    for one in json.loads(body)["files"]
                ]  # fmt: skip
                self.answer(200, {"files": files})
            elif path.endswith(".git/info/lfs/objects/batch"):
                objects = [
                    one | {"actions": {"upload": {"href": f"{hub.address}/large/{one['oid']}"}}}
                    for one in json.loads(body)["objects"]
                ]
                self.answer(200, {"transfer": "basic", "objects": objects})
            elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
                self.commit(match[1], [json.loads(line) for line in body.splitlines()])
            else:
                self.answer(404, {"error": "not found"})

        def do_PUT(self) -> None:
            body, oid = self.body(), self.path.rsplit("/", 1)[1]
            if hashlib.sha256(body).hexdigest() != oid:
                self.answer(400)
                return
            hub.large[oid] = body
            self.answer(200)

        def commit(self, id: str, lines: list[dict[str, Any]]) -> None:
            files = dict(hub.files(id))
            for line in lines:
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = hub.large[value["oid"]]
            hub.repositories[id].append(files)
            oid = commit_id(len(hub.repositories[id]))
            self.answer(200, {"success": True, "commitOid": oid, "commitUrl": f"{hub.address}/{id}/commit/{oid}"})

        def known(self, id: str) -> bool:
            if id not in hub.repositories:
                self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            return id in hub.repositories

        def info(self, id: str) -> None:
            if self.known(id):
                siblings = [{"rfilename": path} for path in hub.files(id)]
                self.answer(200, {"id": id, "sha": commit_id(len(hub.repositories[id])), "siblings": siblings})

        def tree(self, id: str) -> None:
            if self.known(id):
                self.answer(200, [
                    {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for path, data in hub.files(id).items()
                ])  # fmt: skip

        def file(self, id: str, path: str) -> None:
            if not self.known(id):
                return
            if (data := hub.files(id).get(path)) is None:
                self.answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
                return
            self.answer(200, data, ETag=f'"{hashlib.sha1(data).hexdigest()}"',
                        X_Repo_Commit=commit_id(len(hub.repositories[id])))  # fmt: skip

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
