"""A real HTTP server on the loopback address, which misbehaves where it is told to."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Page:
    """What the server has at a path.

    Args:
        content: The body.
        statuses: Of the first answers; those after are 200, or 206 to a range.
        headers: Sent along, as ``ETag``.
        ranges: Whether it heeds ``Range``.
        heeds_if_range: Whether a range is refused if the ``ETag`` has changed.
        cuts: Bytes of the body after which the first answers break off; None is not.
        shift: Bytes that a range begins too late.
        longest: Bytes that a range has at most.
        says_length: Whether it says how long the body is.
        before: Called before anything is said.
        halfway: Called once half of a body is out.
    """

    content: bytes = b''
    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=lambda: {'ETag': '"1"'})
    ranges: bool = True
    heeds_if_range: bool = True
    cuts: list[int | None] = field(default_factory=list)
    shift: int = 0
    longest: int | None = None
    says_length: bool = True
    before: Callable[[], object] | None = None
    halfway: Callable[[], object] | None = None


class WeightsServer:
    """Serves `pages`; to be used in a ``with``.

    Attributes:
        pages: By path.
        asked: The path and the ``Range`` of every request.
        sent: Bytes of bodies that went out.
    """

    def __init__(self, port: int = 0) -> None:
        self.pages: dict[str, Page] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.sent = 0
        self._http = ThreadingHTTPServer(('127.0.0.1', port), Handler)
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self._http.weights = self
        self.port = self._http.server_port

    def __enter__(self) -> 'WeightsServer':
        Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exception) -> None:
        self.stop()

    def stop(self) -> None:
        """Take no other request; those under way are answered."""
        self._http.shutdown()
        self._http.server_close()

    def put(self, path: str, content: bytes = b'', **options) -> str:
        """Serve a page; its URL."""
        self.pages[path] = Page(content, **options)
        return f'http://127.0.0.1:{self.port}{path}'


class Handler(BaseHTTPRequestHandler):
    """Answers for a `WeightsServer`."""

    def log_message(self, *args) -> None:
        pass

    def do_GET(self) -> None:
        server: WeightsServer = self.server.weights
        wanted = self.headers.get('Range')
        server.asked.append((self.path, wanted))
        page = server.pages.get(self.path.partition('?')[0], Page(statuses=[404] * 99))
        if page.before:
            page.before()
        status = page.statuses.pop(0) if page.statuses else 200
        content = page.content
        if status == 200 and wanted and page.ranges and self._same_version(page):
            begin = int(wanted.removeprefix('bytes=').removesuffix('-')) + page.shift
            status = 206 if begin < len(content) else 416
        self.send_response(status)
        for name, value in page.headers.items():
            self.send_header(name, value)
        total = len(content)
        if status == 206:
            content = content[begin:][: page.longest]
            end = begin + len(content) - 1
            self.send_header('Content-Range', f'bytes {begin}-{end}/{total}')
        elif status == 416:
            self.send_header('Content-Range', f'bytes */{total}')
            content = b''
        if page.says_length:
            self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        self._send(content, page.cuts.pop(0) if page.cuts else None, page.halfway)

    def _same_version(self, page: Page) -> bool:
        version = page.headers.get('ETag', page.headers.get('Last-Modified'))
        return not page.heeds_if_range or self.headers.get('If-Range') == version

    def _send(
        self, content: bytes, cut: int | None, halfway: Callable[[], object] | None
    ) -> None:
        content = content[:cut]
        half = len(content) // 2
        self._write(content[:half])
        if halfway:
            halfway()
        self._write(content[half:])

    def _write(self, content: bytes) -> None:
        # Counted first: whoever has all of it may look before this thread goes on.
        self.server.weights.sent += len(content)
        with suppress(ConnectionError):  # who asked is tired of waiting
            self.wfile.write(content)
