"""A server on this machine that speaks the hub's routes for one repository, and can be made to fail."""

import hashlib
import json
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import close_session, constants

ID, COMMIT = "someone/tiny-squad", "5e1f" * 10
LARGE = ".safetensors"  # such files are stored elsewhere, under their sha256
CHUNK = 4096


class FakeHub(ThreadingHTTPServer):
    """Serves files, {name: content}, under hub_id at COMMIT, the head of main.

    status: answer everything with it; cut: how many times a large file ends half-way; stalls: a large file stops there
    and the connection stays open; published: {name: content} whose hashes are reported instead of the true ones.
    """

    daemon_threads = True

    def __init__(self, files, hub_id=ID):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.hub_id, self.published = files, hub_id, {}
        self.status, self.cut, self.stalls = 200, 0, False
        self.requests, self.ranges, self.over = Counter(), [], threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"

    def environment(self, cache):
        """The variables that make a client use it and a cache."""
        return {
            "HF_ENDPOINT": self.address,
            "HF_HUB_CACHE": str(cache),
            "HF_HUB_ETAG_TIMEOUT": 1,
            "HF_HUB_DOWNLOAD_TIMEOUT": 1,
            "HF_HUB_DISABLE_XET": 1,
        }

    def sha256(self, name):
        return hashlib.sha256(self.published.get(name, self.files[name])).hexdigest()

    def handle_error(self, request, client_address):
        """A client that hung up is no news."""

    def close(self):
        self.over.set()
        self.shutdown()
        self.server_close()


@contextmanager
def client_of(environment):
    """In this process, where huggingface_hub has read its variables already, it does as if they were these."""
    read = dict(environment)
    address = read["ENDPOINT"] = read.pop("HF_ENDPOINT")
    read["HUGGINGFACE_CO_URL_TEMPLATE"] = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    close_session()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("NO_PROXY", "*")
        for name, value in read.items():
            patched.setattr(constants, name, value)
        yield


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        hub, path = self.server, unquote(urlsplit(self.path).path)
        hub.requests[self.command, path.rsplit("/", 1)[-1]] += 1
        if hub.status != 200:
            return self.reply(hub.status, b"{}", {"X-Error-Code": "RepoNotFound"} if hub.status == 404 else {})
        if path.startswith("/blobs/"):
            return self.blob(next(name for name in hub.files if hub.sha256(name) == path.removeprefix("/blobs/")))
        of = hub.hub_id
        if path in (f"/api/models/{of}/revision/main", f"/api/models/{of}/revision/{COMMIT}"):
            siblings = [{"rfilename": name} for name in hub.files]
            return self.json({"_id": "1", "id": of, "modelId": of, "sha": COMMIT, "siblings": siblings})
        if path == f"/api/models/{of}/tree/{COMMIT}":
            return self.json([self.entry(name) for name in hub.files])
        for revision in ("main", COMMIT):
            name = path.removeprefix(f"/{of}/resolve/{revision}/")
            if name in hub.files:
                return self.file(name)
        self.reply(404, b"{}", {"X-Error-Code": "RevisionNotFound" if f"/{of}/" in path else "RepoNotFound"})

    def entry(self, name):
        content = self.server.files[name]
        entry = {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
        if name.endswith(LARGE):
            entry["lfs"] = {"oid": self.server.sha256(name), "size": len(content), "pointerSize": 134}
        return entry

    def file(self, name):
        content, headers = self.server.files[name], {"X-Repo-Commit": COMMIT}
        if not name.endswith(LARGE):
            return self.reply(200, content, headers | {"ETag": f'"{hashlib.sha1(content).hexdigest()}"'})
        headers |= {"X-Linked-Etag": f'"{self.server.sha256(name)}"', "X-Linked-Size": str(len(content))}
        location = f"http://localhost:{self.server.server_port}/blobs/{self.server.sha256(name)}"
        self.reply(302, b"", headers | {"Location": location})

    def blob(self, name):
        hub, content = self.server, self.server.files[name]
        wanted = self.headers.get("Range")
        hub.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if wanted else {}
        self.send_response(206 if wanted else 200)
        for key, value in (headers | {"Content-Length": str(len(content) - start)}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        content = content[start:]
        if hub.cut or hub.stalls:
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            if hub.stalls:
                hub.over.wait(60)
            hub.cut -= 1
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(content)

    def json(self, value):
        self.reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def reply(self, status, content, headers=()):
        self.send_response(status)
        for key, value in (dict(headers) | {"Content-Length": str(len(content))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
