"""Shares a cache between swiftlet and huggingface_hub; usage: hub_shared.py SWIFTLET.

A hub on this machine has one repository. What `swiftlet pull` fetched must be whole for huggingface_hub, without the network and
with it (then no file is asked for again), and the other way round; and a file under a tag and in a folder as well.
Ran with huggingface_hub 2.4.0.
"""
import hashlib
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading

swiftlet = sys.argv[1]
COMMIT = "c0ffee00" * 5
FILES = {"config.json": b'{"model_type": "llama"}', "model.safetensors": os.urandom(3_000_000), "sub/notes.txt": b"notes",
         "empty.txt": b""}
gets = []


def digest(data):
    if len(data) > 1000:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, sends):
        path = self.path.split("?")[0]
        if path.startswith("/api/models/someone/model/tree/"):
            tree = []
            for name, data in FILES.items():
                entry = {"type": "file", "path": name, "size": len(data), "oid": digest(data)}
                if len(data) > 1000:
                    entry["lfs"] = {"oid": digest(data), "size": len(data), "pointerSize": 134}
                tree.append(entry)
            return self.reply(200, {"Content-Type": "application/json"}, json.dumps(tree).encode(), sends)
        if path.startswith("/api/models/someone/model"):
            siblings = []
            for name, data in FILES.items():
                entry = {"rfilename": name, "size": len(data), "blobId": digest(data)}
                if len(data) > 1000:
                    entry["lfs"] = {"sha256": digest(data), "size": len(data), "pointerSize": 134}
                siblings.append(entry)
            body = json.dumps({"id": "someone/model", "sha": COMMIT, "siblings": siblings}).encode()
            return self.reply(200, {"Content-Type": "application/json"}, body, sends)
        name = path.removeprefix("/someone/model/resolve/").partition("/")[2]
        if name not in FILES:
            return self.reply(404, {}, b"", sends)
        data = FILES[name]
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{digest(data)}"', "Accept-Ranges": "bytes"}
        status, body = 200, data
        if sends:
            gets.append(name)
        if sends and self.headers.get("Range"):
            first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
            first, last = int(first), int(last or len(data) - 1)
            status, body = 206, data[first:last + 1]
            headers["Content-Range"] = f"bytes {first}-{first + len(body) - 1}/{len(data)}"
        self.reply(status, headers, body, sends)

    def reply(self, status, headers, body, sends):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if sends:
            self.wfile.write(body)

    def do_GET(self):
        self.answer(True)

    def do_HEAD(self):
        self.answer(False)


def by_swiftlet(home, *words, **variables):
    result = subprocess.run([swiftlet, "pull", *words], capture_output=True, text=True,
                            env=os.environ | {"HF_HOME": str(home)} | variables)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def by_others(home, code, **variables):
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                            env=os.environ | {"HF_HOME": str(home)} | variables)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def whole(folder):
    for name, data in FILES.items():
        assert (pathlib.Path(folder) / name).read_bytes() == data, name


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    snapshot = "from huggingface_hub import snapshot_download as s; print(s('someone/model'))"
    file = "from huggingface_hub import hf_hub_download as h; print(h('someone/model', 'sub/notes.txt', revision='v1'))"
    with tempfile.TemporaryDirectory() as temporary:
        ours, theirs = pathlib.Path(temporary) / "ours", pathlib.Path(temporary) / "theirs"
        folder = by_swiftlet(ours, "someone/model", "--include", "*")
        whole(folder)
        first = len(gets)
        assert by_others(ours, snapshot, HF_HUB_OFFLINE="1") == folder
        assert by_others(ours, snapshot) == folder and len(gets) == first, gets[first:]
        assert by_swiftlet(ours, "someone/model/sub/notes.txt", "--revision", "v1") == f"{folder}/sub/notes.txt"
        assert by_others(ours, file, HF_HUB_OFFLINE="1") == f"{folder}/sub/notes.txt"
        print("what swiftlet fetched, huggingface_hub uses:", first, "requests for files, none again")
        folder = by_others(theirs, snapshot)
        whole(folder)
        first = len(gets)
        assert by_swiftlet(theirs, "someone/model", HF_HUB_OFFLINE="1") == folder
        assert by_swiftlet(theirs, "someone/model", "--include", "*") == folder and len(gets) == first, gets[first:]
        by_others(theirs, file)
        assert by_swiftlet(theirs, "someone/model/sub/notes.txt@v1", HF_HUB_OFFLINE="1") == f"{folder}/sub/notes.txt"
        print("what huggingface_hub fetched, swiftlet uses: none again")


main()
