"""A small Hub on the loopback address, for downloads: models and datasets come from folders of this machine.

Standard library only, except the two dataset writers, which need pyarrow. Nothing here imports `huggingface_hub`, so a
process may start the server, set `env()` and only then import the libraries that read it.
"""

import hashlib
import json
import re
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import unquote, urlsplit


LFS_SUFFIXES = frozenset({".safetensors", ".bin", ".parquet", ".onnx", ".png", ".jpg", ".model"})
KINDS = ("models", "datasets", "spaces")

_VERBS = frozenset({"resolve", "revision", "tree", "refs", "paths-info", "discussions", "commits"})
_STAMP = "2024-01-01T00:00:00.000Z"


class _NotFoundError(Exception):
    """What the Hub says with status 404; `code` goes into X-Error-Code."""

    def __init__(self, code: str, message: str, commit: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.commit = commit


class _Reply(NamedTuple):
    body: bytes
    headers: dict[str, str]
    status: int = 200


def _json_reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> _Reply:
    return _Reply(json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})}, status)


@lru_cache(maxsize=4096)
def _digests(path: Path, size: int, modified: int) -> tuple[str, str]:
    """The git blob sha1 and the sha256 of a file; size and time are there to notice a change."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(), hashlib.sha256(content).hexdigest()


class _Snapshot:
    """The files of one repository at one revision."""

    def __init__(self, folder: Path) -> None:
        self.files = {
            path.relative_to(folder).as_posix(): path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and ".cache" not in path.relative_to(folder).parts
        }

    def entry(self, name: str) -> dict[str, Any]:
        path = self.files[name]
        facts = path.stat()
        blob, sha256 = _digests(path, facts.st_size, facts.st_mtime_ns)
        entry: dict[str, Any] = {"type": "file", "path": name, "size": facts.st_size, "oid": blob}
        if path.suffix in LFS_SUFFIXES:
            entry["lfs"] = {"oid": sha256, "size": facts.st_size, "pointerSize": 134}
        return entry

    @property
    def commit(self) -> str:
        """Forty hex digits that change when any file does."""
        listing = [(name, self.entry(name)["oid"]) for name in self.files]
        return hashlib.sha1(json.dumps(listing).encode()).hexdigest()

    def folders(self) -> set[str]:
        return {str(parent) for name in self.files for parent in _parents(name)}

    def listing(self, sub: str, recursive: bool) -> list[dict[str, Any]]:
        """What the tree endpoint shows: folders first, and with `recursive` all that lies below `sub`."""
        start = f"{sub}/" if sub else ""

        def shown(name: str) -> bool:
            return name.startswith(start) and (recursive or "/" not in name[len(start) :])

        folders = [_folder_entry(name) for name in sorted(self.folders()) if shown(name)]
        return folders + [self.entry(name) for name in self.files if shown(name)]


def _parents(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _folder_entry(name: str) -> dict[str, Any]:
    return {"type": "directory", "path": name, "size": 0, "oid": hashlib.sha1(name.encode()).hexdigest()}


class HubServer:
    """Serves `root/models/<namespace>/<name>/` and `root/datasets/<namespace>/<name>/` as a Hub would.

    The folders are read at every request, so repositories may be added or changed while the server runs. `revisions`
    adds branches or tags to `main`: {"ns/name" or "datasets/ns/name": {"branch": folder with its files}}.
    `requests` lists every (method, path) asked for, the query included; what was meant for another host stands there
    with its whole address.
    """

    def __init__(self, root: Path, revisions: Mapping[str, Mapping[str, Path]] | None = None) -> None:
        self.root = Path(root)
        self.revisions = revisions or {}
        self.requests: list[tuple[str, str]] = []
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self._home: tempfile.TemporaryDirectory[str] | None = None

    def start(self) -> Self:
        handler = type("Handler", (_Handler,), {"hub": self})
        self._home = tempfile.TemporaryDirectory(prefix="hub-home-")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        if self._server is not None and self._thread is not None and self._home is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._home.cleanup()
        self._server = self._thread = self._home = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        if self._server is None:
            raise RuntimeError("the server is not running")
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def env(self, home: Path | None = None) -> dict[str, str]:
        """Variables for a client process, to be set before it imports `huggingface_hub`.

        Every cache goes below `home`, by default a folder that goes away with the server; no token is sent. The
        server is the client's proxy too, and refuses: what is meant for another host (the dataset viewer, say) fails
        at once, with no name looked up and nothing leaving the machine.
        """
        url = self.url  # refuses when the server is not running
        assert self._home is not None
        base = Path(home or self._home.name)
        return {
            "HF_ENDPOINT": url,
            "HF_HOME": str(base),
            "HF_HUB_CACHE": str(base / "hub"),
            "HF_DATASETS_CACHE": str(base / "datasets"),
            "HF_MODULES_CACHE": str(base / "modules"),
            "HF_ASSETS_CACHE": str(base / "assets"),
            "HF_TOKEN": "",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "HF_HUB_OFFLINE": "0",
            "HF_DATASETS_OFFLINE": "0",
            "TRANSFORMERS_OFFLINE": "0",
            **dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"), url),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
        }

    def sha(self, hub_id: str, revision: str = "main", kind: str = "models") -> str:
        """The commit that a revision of this repository stands at."""
        return self._snapshot(kind, hub_id, revision)[0]

    def _branches(self, kind: str, hub_id: str) -> dict[str, Path]:
        folder = self.root / kind / hub_id
        if kind not in KINDS or not folder.is_dir() or not any(path.is_file() for path in folder.rglob("*")):
            raise _NotFoundError("RepoNotFound", "Repository not found")
        if "/" not in hub_id and not any(path.is_file() for path in folder.iterdir()):
            raise _NotFoundError("RepoNotFound", "Repository not found")  # a namespace
        key = hub_id if kind == "models" else f"{kind}/{hub_id}"
        return {"main": folder, **{name: Path(path) for name, path in self.revisions.get(key, {}).items()}}

    def _snapshot(self, kind: str, hub_id: str, revision: str) -> tuple[str, _Snapshot]:
        branches = self._branches(kind, hub_id)
        if revision in branches:
            found = _Snapshot(branches[revision])
            return found.commit, found
        if re.fullmatch(r"[0-9a-f]{7,40}", revision):
            for folder in branches.values():
                found = _Snapshot(folder)
                commit = found.commit
                if commit.startswith(revision):
                    return commit, found
        raise _NotFoundError("RevisionNotFound", f"Invalid rev id: {revision}")

    # ------------------------------------------------------------------------------------------ endpoints

    def answer(self, path: str, query: str, fields: Mapping[str, list[str]]) -> _Reply:
        """The reply to a request; `fields` is the form that a POST brought."""
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if any(part in ("", ".", "..") for part in parts):
            raise _NotFoundError("EntryNotFound", "Not found")
        if parts[0] == "api":
            return self._answer_api(parts[1:], query, fields)
        kind = parts.pop(0) if parts[0] in KINDS else "models"
        hub_id, rest = _split_id(parts)
        if len(rest) >= 3 and rest[0] == "resolve":
            return self._file(kind, hub_id, rest[1], "/".join(rest[2:]))
        raise _NotFoundError("EntryNotFound", "Not found")

    def _answer_api(self, parts: list[str], query: str, fields: Mapping[str, list[str]]) -> _Reply:
        if len(parts) < 2 or parts[0] not in KINDS:
            raise _NotFoundError("EntryNotFound", "Not found")
        kind = parts[0]
        hub_id, rest = _split_id(parts[1:])
        verb = rest[0] if rest else "revision"
        revision = rest[1] if len(rest) > 1 else "main"
        if verb == "revision":
            return self._info(kind, hub_id, revision)
        if verb == "tree":
            return self._tree(kind, hub_id, revision, "/".join(rest[2:]), "recursive=true" in query.lower())
        if verb == "paths-info":
            return self._paths_info(kind, hub_id, revision, fields.get("paths", []))
        if verb == "refs":
            return self._refs(kind, hub_id)
        raise _NotFoundError("EntryNotFound", "Not found")

    def _info(self, kind: str, hub_id: str, revision: str) -> _Reply:
        commit, found = self._snapshot(kind, hub_id, revision)
        info: dict[str, Any] = {"_id": commit[:24], "id": hub_id, "author": hub_id.split("/")[0], "sha": commit}
        info |= {"private": False, "gated": False, "disabled": False, "tags": [], "downloads": 0, "likes": 0}
        info |= {
            "lastModified": _STAMP,
            "createdAt": _STAMP,
            "siblings": [{"rfilename": name} for name in found.files],
        }
        return _json_reply(info | ({"modelId": hub_id} if kind == "models" else {}))

    def _tree(self, kind: str, hub_id: str, revision: str, sub: str, recursive: bool) -> _Reply:
        commit, found = self._snapshot(kind, hub_id, revision)
        if sub and sub not in found.folders():
            raise _NotFoundError("EntryNotFound", f"{sub} does not exist", commit)
        return _json_reply(found.listing(sub, recursive), headers={"X-Repo-Commit": commit})

    def _paths_info(self, kind: str, hub_id: str, revision: str, names: Sequence[str]) -> _Reply:
        _, found = self._snapshot(kind, hub_id, revision)
        folders = found.folders()
        files = [found.entry(name) for name in names if name in found.files]
        return _json_reply(files + [_folder_entry(name) for name in names if name in folders])

    def _refs(self, kind: str, hub_id: str) -> _Reply:
        branches = [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": _Snapshot(folder).commit}
            for name, folder in self._branches(kind, hub_id).items()
        ]
        return _json_reply({"branches": branches, "converts": [], "tags": []})

    def _file(self, kind: str, hub_id: str, revision: str, name: str) -> _Reply:
        commit, found = self._snapshot(kind, hub_id, revision)
        if name not in found.files:
            raise _NotFoundError("EntryNotFound", "Entry not found", commit)
        entry = found.entry(name)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{entry["oid"]}"', "Accept-Ranges": "bytes"}
        headers |= {"Content-Type": "application/octet-stream"}
        if "lfs" in entry:
            headers |= {"ETag": f'"{entry["lfs"]["oid"]}"', "X-Linked-Etag": f'"{entry["lfs"]["oid"]}"'}
            headers |= {"X-Linked-Size": str(entry["size"])}
        return _Reply(found.files[name].read_bytes(), headers)


def _split_id(parts: list[str]) -> tuple[str, list[str]]:
    """`name` or `ns/name`, and what follows it."""
    length = 1 if len(parts) < 2 or parts[1] in _VERBS else 2
    return "/".join(parts[:length]), parts[length:]


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body leave together

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent: `HubServer.requests` keeps what a test may want to see."""

    def _respond(self) -> None:
        self.hub.requests.append((self.command, self.path))
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        target = urlsplit(self.path)
        try:
            if self.command == "CONNECT" or target.netloc:  # asked as a proxy
                raise _NotFoundError("EntryNotFound", "Not this host")
            reply = self.hub.answer(target.path, target.query, _fields(sent, self.headers.get("Content-Type", "")))
        except _NotFoundError as error:
            headers = {"X-Error-Code": error.code, "X-Error-Message": str(error)}
            headers |= {"X-Repo-Commit": error.commit} if error.commit else {}
            reply = _json_reply({"error": str(error)}, 404, headers)
        self._send(_ranged(reply, self.headers.get("Range")))

    def _send(self, reply: _Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    do_GET = do_HEAD = do_POST = do_CONNECT = _respond  # noqa: N815 - names that the base class looks for


def _fields(sent: bytes, content_type: str) -> dict[str, list[str]]:
    """The fields of a posted form or JSON object, each as a list."""
    if not sent:
        return {}
    if "json" in content_type:
        value = json.loads(sent)
        return {key: item if isinstance(item, list) else [item] for key, item in value.items()}
    fields: dict[str, list[str]] = {}
    for pair in sent.decode().split("&"):
        key, _, value = pair.partition("=")
        fields.setdefault(unquote(key), []).append(unquote(value.replace("+", " ")))
    return fields


def _ranged(reply: _Reply, wanted: str | None) -> _Reply:
    """Cut the body to `bytes=first-last`, where that was asked for."""
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted or "")
    if reply.status != 200 or "Accept-Ranges" not in reply.headers or match is None:
        return reply
    total = len(reply.body)
    first = int(match[1])
    if first >= total:
        return _Reply(b"", {"Content-Range": f"bytes */{total}"}, 416)
    last = min(int(match[2] or total - 1), total - 1)
    return _Reply(
        reply.body[first : last + 1], {**reply.headers, "Content-Range": f"bytes {first}-{last}/{total}"}, 206
    )


# ---------------------------------------------------------------------------------------------- datasets

EMOTION_NAMES = ("sadness", "joy", "love", "anger", "fear", "surprise")
BEANS_NAMES = ("angular_leaf_spot", "bean_rust", "healthy")

_Splits = Mapping[str, Sequence[tuple[Any, int]]]


def _as_splits(rows: Sequence[tuple[Any, int]] | _Splits) -> _Splits:
    """Rows that are not split yet become train, validation and test: 80, 10 and 10 percent, in order."""
    if isinstance(rows, Mapping):
        return rows
    first, second = len(rows) * 8 // 10, len(rows) * 9 // 10
    return {"train": rows[:first], "validation": rows[first:second], "test": rows[second:]}


def _write_parquet(path: Path, columns: Mapping[str, Any], features: Mapping[str, Any]) -> int:
    """Write the table with the features in its metadata, as `push_to_hub` does; return its size in memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    note = json.dumps({"info": {"features": features}})
    table = pa.table(dict(columns)).replace_schema_metadata({"huggingface": note})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return int(table.nbytes)


def _class_label_yaml(name: str, names: Sequence[str]) -> str:
    listed = "".join(f"          '{index}': {label}\n" for index, label in enumerate(names))
    return f"  - name: {name}\n    dtype:\n      class_label:\n        names:\n{listed}"


def _info_yaml(config: str, features: str, splits: Mapping[str, tuple[int, int]]) -> str:
    """One entry of the card's `dataset_info`; each split comes with its bytes and its rows."""
    lines = "".join(
        f"  - name: {split}\n    num_bytes: {size}\n    num_examples: {count}\n"
        for split, (size, count) in splits.items()
    )
    total = sum(size for size, _ in splits.values())
    return f"- config_name: {config}\n  features:\n{features}  splits:\n{lines}  dataset_size: {total}\n"


def _config_yaml(config: str, prefix: str, splits: Sequence[str], default: bool) -> str:
    files = "".join(f"  - split: {split}\n    path: {prefix}/{split}-*\n" for split in splits)
    return f"- config_name: {config}\n  data_files:\n{files}" + ("  default: true\n" if default else "")


def _write_card(folder: Path, title: str, infos: str, configs: str) -> None:
    text = f"---\ndataset_info:\n{infos}configs:\n{configs}---\n\n# {title}\n\nMade up for a test.\n"
    (folder / "README.md").write_text(text, encoding="utf-8")


def serve_text_dataset(
    root: Path,
    hub_id: str,
    rows: Sequence[tuple[str, int]] | _Splits,
    names: Sequence[str] = EMOTION_NAMES,
) -> Path:
    """Write a dataset laid out as dair-ai/emotion is: configurations `split` (the default) and `unsplit`.

    `rows` are (text, label), cut into 80/10/10, or {split: rows}. Returns the dataset's folder below `root`.
    """
    folder = Path(root) / "datasets" / hub_id
    splits = _as_splits(rows)
    label = {"names": list(names), "_type": "ClassLabel"}
    features = {"text": {"dtype": "string", "_type": "Value"}, "label": label}
    features_yaml = "  - name: text\n    dtype: string\n" + _class_label_yaml("label", names)
    tables: dict[str, _Splits] = {
        "split": splits,
        "unsplit": {"train": [row for part in splits.values() for row in part]},
    }
    infos = configs = ""
    for config, parts in tables.items():
        sizes = {}
        for split, part in parts.items():
            columns = {"text": [text for text, _ in part], "label": [index for _, index in part]}
            size = _write_parquet(folder / config / f"{split}-00000-of-00001.parquet", columns, features)
            sizes[split] = (size, len(part))
        infos += _info_yaml(config, features_yaml, sizes)
        configs += _config_yaml(config, config, list(parts), default=config == "split")
    _write_card(folder, hub_id.split("/")[-1], infos, configs)
    return folder


def serve_image_dataset(
    root: Path,
    hub_id: str,
    rows: Sequence[tuple[bytes, int]] | _Splits,
    names: Sequence[str] = BEANS_NAMES,
) -> Path:
    """Write a dataset laid out as AI-Lab-Makerere/beans is: columns `image_file_path`, `image` and `labels`.

    `rows` are (PNG bytes, label), cut into 80/10/10, or {split: rows}. Returns the dataset's folder below `root`.
    """
    folder = Path(root) / "datasets" / hub_id
    splits = _as_splits(rows)
    features = {
        "image_file_path": {"dtype": "string", "_type": "Value"},
        "image": {"_type": "Image"},
        "labels": {"names": list(names), "_type": "ClassLabel"},
    }
    sizes = {}
    for split, part in splits.items():
        paths = [f"{split}/{names[label]}/{names[label]}_{split}.{index}.png" for index, (_, label) in enumerate(part)]
        images = [{"bytes": content, "path": Path(path).name} for (content, _), path in zip(part, paths, strict=True)]
        columns = {"image_file_path": paths, "image": images, "labels": [label for _, label in part]}
        size = _write_parquet(folder / "data" / f"{split}-00000-of-00001.parquet", columns, features)
        sizes[split] = (size, len(part))
    features_yaml = "  - name: image_file_path\n    dtype: string\n  - name: image\n    dtype: image\n"
    infos = _info_yaml("default", features_yaml + _class_label_yaml("labels", names), sizes)
    _write_card(folder, hub_id.split("/")[-1], infos, _config_yaml("default", "data", list(splits), default=False))
    return folder
