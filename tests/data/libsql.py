"""A server of libSQL's protocol (Hrana over HTTP, JSON, versions 2 and 3) on Python's SQLite.

No server of libSQL can be had on machines of the tests, so this one follows its specification, docs/HRANA_3_SPEC.md, to
the letter: a request that is not exactly as written there is noted in ``problems``, which tests expect to be empty.
"""

from __future__ import annotations

import base64
import json
import re
import sqlite3
import ssl
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Json = dict[str, Any]
INTEGER = re.compile(r"0|-?[1-9][0-9]*")


class MalformedError(Exception):
    """A request that the specification does not know."""


def fields(of: Any, required: Mapping[str, type], optional: Mapping[str, type] | None = None) -> Json:
    """The structure, if it has these fields with these types, and no others."""
    if not isinstance(of, dict):
        raise MalformedError(f"{of!r} is no object")
    known = {**required, **(optional or {})}
    for name, value in of.items():
        if name not in known or type(value) is not known[name]:
            raise MalformedError(f"{name}: {value!r}")
    if missing := set(required) - set(of):
        raise MalformedError(f"{missing} are missing in {of!r}")
    return of


def value_of(sent: Json) -> Any:
    kind = sent.get("type") if isinstance(sent, dict) else None
    if kind == "null":
        fields(sent, {"type": str})
        return None
    if kind == "blob":
        return base64.b64decode(fields(sent, {"type": str, "base64": str})["base64"] + "==", validate=False)
    kinds = {"integer": str, "float": float, "text": str}
    if kind not in kinds:
        raise MalformedError(f"value {sent!r}")
    value = fields(sent, {"type": str, "value": kinds[kind]})["value"]
    if kind != "integer":
        return value
    if not INTEGER.fullmatch(value):
        raise MalformedError(f"integer {value!r}")
    return int(value)


def sent_value(value: Any) -> Json:
    match value:
        case None:
            return {"type": "null"}
        case int():
            return {"type": "integer", "value": str(value)}
        case float():
            return {"type": "float", "value": value}
        case str():
            return {"type": "text", "value": value}
    return {"type": "blob", "base64": base64.b64encode(value).decode().rstrip("=")}


def error_of(error: sqlite3.Error) -> Json:
    return {"message": f"SQLite error: {error}", "code": getattr(error, "sqlite_errorname", "SQLITE_ERROR")}


class Stream:
    """A stream: one connection, for one pipeline."""

    def __init__(self, file: Path) -> None:
        self.connection = sqlite3.connect(file, isolation_level=None, timeout=5)
        self.connection.execute("PRAGMA foreign_keys = ON")
        self.is_open = True

    def execute(self, stmt: Json) -> Json:
        fields(stmt, {"sql": str}, {"args": list, "want_rows": bool})
        values = [value_of(value) for value in stmt.get("args", [])]
        cursor = self.connection.execute(stmt["sql"], values)
        rows = [[sent_value(value) for value in row] for row in cursor.fetchall()]
        return {
            "cols": [{"name": column[0], "decltype": None} for column in cursor.description or ()],
            "rows": rows if stmt.get("want_rows", True) else [],
            "affected_row_count": max(cursor.rowcount, 0),
            "last_insert_rowid": None if cursor.lastrowid is None else str(cursor.lastrowid),
            "rows_read": len(rows),
            "rows_written": max(cursor.rowcount, 0),
            "query_duration_ms": 0.5,
        }

    def batch(self, batch: Json) -> Json:
        results: list[Json | None] = []
        errors: list[Json | None] = []

        def holds(condition: Json | None) -> bool:
            if condition is None:
                return True
            match condition.get("type"):
                case "ok" | "error" as kind:
                    step = fields(condition, {"type": str, "step": int})["step"]
                    if not 0 <= step < len(results):
                        raise MalformedError(f"step {step} is not before its condition")
                    return (results if kind == "ok" else errors)[step] is not None
                case "not":
                    return not holds(fields(condition, {"type": str, "cond": dict})["cond"])
                case "and":
                    return all(holds(it) for it in fields(condition, {"type": str, "conds": list})["conds"])
            raise MalformedError(f"condition {condition!r}")

        for step in fields(batch, {"steps": list})["steps"]:
            fields(step, {"stmt": dict}, {"condition": dict})
            result, error = None, None
            if holds(step.get("condition")):
                try:
                    result = self.execute(step["stmt"])
                except sqlite3.Error as failed:
                    error = error_of(failed)
            results.append(result)
            errors.append(error)
        return {"step_results": results, "step_errors": errors}

    def request(self, sent: Json) -> Json:
        if not self.is_open:
            raise MalformedError("a request after close")
        match sent.get("type"):
            case "close":
                fields(sent, {"type": str})
                if self.connection.in_transaction:
                    raise MalformedError("a transaction was left open")
                self.is_open = False
                self.connection.close()
                return {"type": "close"}
            case "execute":
                return {"type": "execute", "result": self.execute(fields(sent, {"type": str, "stmt": dict})["stmt"])}
            case "batch":
                return {"type": "batch", "result": self.batch(fields(sent, {"type": str, "batch": dict})["batch"])}
        raise MalformedError(f"request {sent!r}")


class LibSqlServer:
    """The server. ``fault`` is the way in which it fails, if it does."""

    def __init__(self, file: Path, token: str = "", certificate: tuple[Path, Path] | None = None) -> None:
        self.file, self.token = file, token
        self.problems: list[str] = []
        self.connections = 0
        self.paths: list[str] = []
        self.versions = ["v2", "v3"]
        self.fault = ""
        self.go_on = threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                owner.connections += 1
                super().setup()

            def log_message(self, *args: Any) -> None:
                pass

            def do_POST(self) -> None:
                owner.answer(self)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http+libsql://127.0.0.1:{self.port}"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            self.url = f"libsql://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.go_on.set()
        self.server.shutdown()
        self.server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["content-length"]))
        self.paths.append(handler.path)
        match self.fault:
            case "silent":
                self.go_on.wait(30)
                return
            case "hangs up":
                handler.close_connection = True
                return
            case "no http":
                handler.wfile.write(b"220 mail.example.com ESMTP\r\n\r\n")
                handler.close_connection = True
                return
            case "huge":
                handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
                handler.close_connection = True
                return
            case "no json":
                self.send(handler, 200, b"<html>")
                return
            case "broken":
                self.send(handler, 500, b'{"message": "the disk is full"}')
                return
            case "redirect":
                self.send(handler, 307, b"", location="http://127.0.0.1:1/")
                return
        try:
            status, reply = self.pipeline(handler, body)
        except MalformedError as error:
            self.problems.append(str(error))
            status, reply = 400, {"message": str(error)}
        self.send(handler, status, json.dumps(reply).encode())

    def pipeline(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, Json]:
        if self.token and handler.headers["authorization"] != f"Bearer {self.token}":
            return 401, {"error": "Unauthorized"}
        if handler.headers["host"] != f"127.0.0.1:{self.port}":
            raise MalformedError(f"host {handler.headers['host']}")
        if handler.headers["content-type"] != "application/json":
            raise MalformedError("content-type")
        if handler.path.removeprefix("/") not in [f"{version}/pipeline" for version in self.versions]:
            return 404, {"error": "not found"}
        sent = fields(json.loads(body), {"requests": list, "baton": type(None)})
        stream = Stream(self.file)
        results = []
        for request in sent["requests"]:
            try:
                results.append({"type": "ok", "response": stream.request(request)})
            except sqlite3.Error as error:
                results.append({"type": "error", "error": error_of(error)})
        if stream.is_open:
            raise MalformedError("the stream was left open")
        return 200, {"baton": None, "base_url": None, "results": results}

    def send(self, handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        for name, value in headers.items():
            handler.send_header(name, value)
        if self.fault == "chunked":
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            pieces = [body[at : at + 7] for at in range(0, len(body), 7)]
            for piece in [*pieces, b""]:
                handler.wfile.write(b"%x;a=b\r\n%b\r\n" % (len(piece), piece))
                handler.wfile.flush()
            return
        if self.fault == "closes":
            handler.send_header("Connection", "close")
            handler.close_connection = True
        elif self.fault == "until the end":
            handler.close_connection = True
        if self.fault != "until the end":
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
