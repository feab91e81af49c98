"""One file over HTTP: resumed where it broke off, tried again, with a progress bar."""

from pathlib import Path
from time import sleep
from typing import Any

import requests
from mmengine.logging import print_log
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

WAITS = (1, 2, 4)  # seconds before the second, third and fourth attempt
PASSING = (408, 425, 429, 500, 502, 503, 504)  # status codes that may pass
CHUNK = 1 << 16  # bytes; what of a chunk has arrived is lost if the server goes


class TransferError(Exception):
    """A URL gives no file; the message says why.

    Args:
        why: What the user reads.
        passing: Whether another attempt may succeed.
    """

    def __init__(self, why: str, passing: bool = False) -> None:
        super().__init__(why)
        self.passing = passing


class Transfer:
    """A downloader for pooch that goes on where an earlier transfer broke off.

    Beside what has arrived stands the mark by which the server names this version of
    the file, its ``ETag`` or date. It goes with the request for the rest, so that the
    halves of two versions never meet; without a mark the transfer begins again.

    Args:
        part: File that collects what arrives. It stays if the transfer fails, and on
            Ctrl-C.
        timeout: Seconds that the server may be silent.
    """

    def __init__(self, part: Path, timeout: float) -> None:
        self.part = part
        self.mark = mark_of(part)
        self.timeout = timeout

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Transfer ``url`` to ``output_file``, which appears when it is complete.

        Raises:
            TransferError: After the last attempt, or the first where others are vain.
            OSError: The disk cannot be written.
        """
        for wait in (*WAITS, None):
            try:
                self._receive(url)
                break
            except TransferError as error:
                if wait is None or not error.passing:
                    raise
                print_log(f'{url}: {error}; again in {wait} s', logger='current')
                sleep(wait)
        self.mark.unlink(missing_ok=True)
        self.part.replace(output_file)

    def _receive(self, url: str) -> None:
        """Complete the part, by the rest of the file or by all of it."""
        mark = self.mark.read_text() if self.mark.exists() else ''
        arrived = self.part.stat().st_size if mark and self.part.exists() else 0
        headers = {'Accept-Encoding': 'identity'}  # a range is one of stored bytes
        if arrived:
            headers |= {'Range': f'bytes={arrived}-', 'If-Range': mark}
        try:
            response = requests.get(
                url, headers=headers, stream=True, timeout=self.timeout
            )
        except requests.RequestException as error:
            passing = isinstance(error, (requests.ConnectionError, requests.Timeout))
            raise TransferError(_reason(error), passing) from error
        with response:
            if arrived and response.status_code == 416:  # there is no rest
                self._check_complete(response, arrived)
                return
            self._check(response)
            if response.status_code == 206:
                self._check_rest(response, arrived, mark)
            else:
                arrived = 0
            self._write(response, arrived)

    def _check(self, response: requests.Response) -> None:
        status = response.status_code
        if status not in (200, 206):
            moved = f' from {response.url}' if response.history else ''
            raise TransferError(
                f'status {status} ({response.reason}){moved}', status in PASSING
            )
        if response.headers.get('Content-Type', '').startswith('text/html'):
            raise TransferError(
                'a web page comes instead of a file: it may want a login or a click'
            )
        if response.headers.get('Content-Length') == '0':
            raise TransferError('the file is empty')

    def _check_complete(self, response: requests.Response, arrived: int) -> None:
        if response.headers.get('Content-Range') != f'bytes */{arrived}':
            self.part.unlink()
            raise TransferError('what had arrived is no part of the file', passing=True)

    def _check_rest(self, response: requests.Response, arrived: int, mark: str) -> None:
        begin = response.headers.get('Content-Range', '').partition('-')[0]
        # A date need not be said again in an answer with a range.
        if begin != f'bytes {arrived}' or _version_of(response) not in ('', mark):
            self.part.unlink(missing_ok=True)
            raise TransferError('the server sent another part than asked', passing=True)

    def _write(self, response: requests.Response, arrived: int) -> None:
        """Write the body behind what has arrived."""
        total = _total_of(response)
        console = Console(stderr=True)
        columns = (
            TextColumn('{task.description}', markup=False),  # a name out of a URL
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        cause = None
        with (
            self.part.open('ab' if arrived else 'wb') as file,
            Progress(
                *columns,
                console=console,
                transient=True,
                disable=not console.is_terminal,
            ) as progress,
        ):
            if not arrived:
                self.mark.write_text(_version_of(response))
            bar = progress.add_task(self.part.stem, total=total, completed=arrived)
            try:
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    arrived += len(chunk)
                    progress.update(bar, completed=arrived)
            except requests.RequestException as error:
                cause = error
        if cause or total not in (None, arrived):
            of = f' of {total}' if total else ''
            raise TransferError(
                f'the transfer broke off after {arrived}{of} bytes', passing=True
            ) from cause


def mark_of(part: Path) -> Path:
    """The file beside a part that says which version it is of."""
    return part.with_name(f'{part.name}.mark')


def _version_of(response: requests.Response) -> str:
    """By what the server tells versions of a file apart; '' if it does not."""
    tag = response.headers.get('ETag', 'W/')
    weak = tag.startswith('W/')  # the same content, though maybe in other bytes
    return response.headers.get('Last-Modified', '') if weak else tag


def _total_of(response: requests.Response) -> int | None:
    """Bytes of the whole file, of which an answer with a range may be any part."""
    length = response.headers.get('Content-Length', '')
    if response.status_code == 206:
        length = response.headers['Content-Range'].rpartition('/')[2]
    return int(length) if length.isdigit() else None


def _reason(error: requests.RequestException) -> str:
    """The end of a chain of errors that repeat each other: what went wrong."""
    cause = error.args[0] if error.args else error
    return str(getattr(cause, 'reason', cause)).rpartition(': ')[2]
