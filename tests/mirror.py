"""A mirror of one file on this machine, whose answers can be spoilt one by one."""

import random
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY = random.Random(0).randbytes(4 << 20)
OTHER = random.Random(1).randbytes(4 << 20)


class Handler(BaseHTTPRequestHandler):
    """Serves the mirror's body; each function of its script answers one request instead."""

    protocol_version = "HTTP/1.1"
    server: "Mirror"
    timeout = 10

    def do_GET(self) -> None:
        self.server.asked.append(dict(self.headers))
        behaviour = self.server.script.pop(0) if self.server.script else Handler.serve
        behaviour(self)

    def log_message(self, *_: object) -> None:
        pass

    def serve(self, stop: int | None = None, stall: bool = False, ranges: bool = True, if_range: bool = True) -> None:
        """The file, or the rest of it: only up to byte `stop`, where the connection is cut or stalls."""
        mirror, start = self.server, 0
        same = self.headers.get("If-Range") in (None, mirror.headers.get("ETag"), mirror.headers.get("Last-Modified"))
        if ranges and "Range" in self.headers and (same or not if_range):
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if start >= len(mirror.body):
            return self.answer(416, **{"Content-Range": f"bytes */{len(mirror.body)}"})
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(mirror.body) - 1}/{len(mirror.body)}")
        for name, value in mirror.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(mirror.body) - start))
        self.end_headers()
        for at in range(start, len(mirror.body), 1 << 14):
            block = mirror.body[at : min(at + (1 << 14), stop or len(mirror.body))]
            if not block:
                break
            self.wfile.write(block)
            mirror.sent += len(block)
        if stop is not None:
            if stall:
                mirror.stopped.wait(10)
            self.connection.shutdown(socket.SHUT_WR)
            self.close_connection = True

    def answer(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


class Mirror(ThreadingHTTPServer):
    """A mirror on this machine: what it holds, how it misbehaves, what it was asked for and how much it sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.headers = BODY, {"ETag": '"one"'}
        self.script: list[Callable[[Handler], None]] = []
        self.asked: list[dict[str, str]] = []
        self.sent = 0
        self.stopped = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/patches.gz"
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def handle_error(self, *_: object) -> None:
        pass  # the other side hung up, as some tests want it

    def stop(self) -> None:
        self.stopped.set()
        self.shutdown()
        self.server_close()


def cut(stop: int) -> Callable[[Handler], None]:
    return lambda handler: handler.serve(stop)


def status(code: int, **headers: str) -> Callable[[Handler], None]:
    return lambda handler: handler.answer(code, **{name.replace("_", "-"): value for name, value in headers.items()})
