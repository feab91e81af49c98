"""One file over HTTP from servers good and bad: right, or a clear error."""

import io
import signal
import threading

import numpy as np
import pytest
from rich.console import Console
from weights_server import WeightsServer

from mmpospretrain.zoo import http_transfer
from mmpospretrain.zoo.fetch import fetch

CONTENT = np.random.default_rng(0).bytes(1_000_000)
OTHER = np.random.default_rng(1).bytes(1_000_000)
CUT = 300_000  # no multiple of a chunk
NAME = 'vit.pth'


def files(cache) -> list[str]:
    """What lies in the cache, but for locks."""
    return sorted(p.name for p in cache.iterdir() if p.suffix != '.lock')


def interrupt(server: WeightsServer, url: str, cache) -> int:
    """A fetch whose transfers all break off; the number of bytes that are left."""
    page = server.pages['/vit.pth']
    page.cuts = [CUT, 0, 0, 0]
    with pytest.raises(FileNotFoundError, match='broke off'):
        fetch([url], NAME)
    assert files(cache) == ['vit.pth.part', 'vit.pth.part.mark']
    server.asked.clear()
    server.sent = 0
    return (cache / 'vit.pth.part').stat().st_size


def test_a_good_file(server, cache, waits):
    url = server.put('/vit.pth', CONTENT)
    assert fetch([url], NAME) == cache / NAME
    assert (cache / NAME).read_bytes() == CONTENT
    assert files(cache) == ['vit.pth', 'vit.pth.sha256']
    assert server.asked == [('/vit.pth', None)]
    assert waits == []


@pytest.mark.parametrize(
    'headers',
    [
        {'ETag': '"1"'},
        {'Last-Modified': 'Mon, 07 Sep 2026 07:00:00 GMT'},
        {'ETag': 'W/"1"', 'Last-Modified': 'Mon, 07 Sep 2026 07:00:00 GMT'},
    ],
    ids=['tag', 'date', 'weak tag'],
)
def test_goes_on_where_it_broke_off(headers, server, cache, waits):
    url = server.put('/vit.pth', CONTENT, cuts=[CUT, 200_000])
    server.pages['/vit.pth'].headers = headers
    if 'W/' in headers.get('ETag', ''):
        server.pages['/vit.pth'].heeds_if_range = False
    fetch([url], NAME)
    assert (cache / NAME).read_bytes() == CONTENT
    assert files(cache) == ['vit.pth', 'vit.pth.sha256']
    begins = [int(wanted[6:-1]) for _, wanted in server.asked[1:]]
    assert 0 < begins[0] <= CUT < begins[1] <= CUT + 200_000
    # No byte twice, but for what of a chunk had arrived.
    assert server.sent < len(CONTENT) + 2 * http_transfer.CHUNK
    assert waits == [1, 2]


def test_goes_on_in_the_next_run(server, cache, waits):
    url = server.put('/vit.pth', CONTENT)
    arrived = interrupt(server, url, cache)
    assert waits == [1, 2, 4]
    assert CUT - http_transfer.CHUNK < arrived <= CUT
    fetch([url], NAME)
    assert (cache / NAME).read_bytes() == CONTENT
    assert server.asked == [('/vit.pth', f'bytes={arrived}-')]
    assert server.sent == len(CONTENT) - arrived


@pytest.mark.parametrize('heeds_if_range', [True, False])
def test_two_versions_never_meet(heeds_if_range, server, cache):
    """Neither by a server that compares them, nor by one that sends any rest."""
    url = server.put('/vit.pth', CONTENT)
    interrupt(server, url, cache)
    server.put(
        '/vit.pth', OTHER, headers={'ETag': '"2"'}, heeds_if_range=heeds_if_range
    )
    fetch([url], NAME)
    assert (cache / NAME).read_bytes() == OTHER


@pytest.mark.parametrize('options', [dict(ranges=False), dict(headers={})])
def test_begins_again_where_it_has_to(options, server, cache):
    """A server that ignores ranges, and one that does not tell versions apart."""
    url = server.put('/vit.pth', CONTENT, cuts=[CUT], **options)
    fetch([url], NAME)
    assert (cache / NAME).read_bytes() == CONTENT
    assert server.sent == CUT + len(CONTENT)
    assert len(server.asked) == 2


def test_another_rest_than_asked(server, cache):
    url = server.put('/vit.pth', CONTENT, cuts=[CUT], shift=7)
    fetch([url], NAME)
    assert (cache / NAME).read_bytes() == CONTENT
    assert [wanted is None for _, wanted in server.asked] == [True, False, True]


def test_less_than_the_rest(server, cache):
    """A server may send a shorter range than was asked for."""
    url = server.put('/vit.pth', CONTENT, cuts=[CUT], longest=400_000)
    fetch([url], NAME)
    assert (cache / NAME).read_bytes() == CONTENT
    assert len(server.asked) == 3


@pytest.mark.parametrize('surplus', [0, 5])
def test_nothing_is_left_to_send(surplus, server, cache):
    """All had arrived, but for its name; or more than there is."""
    url = server.put('/vit.pth', CONTENT)
    interrupt(server, url, cache)
    (cache / 'vit.pth.part').write_bytes(CONTENT + bytes(surplus))
    fetch([url], NAME)
    assert (cache / NAME).read_bytes() == CONTENT
    assert server.sent == (len(CONTENT) if surplus else 0)


def test_not_found_is_not_asked_for_again(server, cache, waits):
    url = server.put('/vit.pth', statuses=[404] * 9)
    with pytest.raises(FileNotFoundError) as caught:
        fetch([url], NAME)
    assert f'{url}: status 404 (Not Found)' in str(caught.value)
    assert f'put it at {cache / NAME}' in str(caught.value)
    assert len(server.asked) == 1
    assert waits == []
    assert files(cache) == []


def test_a_busy_server(server, cache, waits):
    url = server.put('/vit.pth', CONTENT, statuses=[503, 429])
    fetch([url], NAME)
    assert (cache / NAME).read_bytes() == CONTENT
    assert waits == [1, 2]
    server.put('/vit.pth', statuses=[503] * 9)
    with pytest.raises(FileNotFoundError, match=r'status 503 \(Service Unav'):
        fetch([url], 'other.pth')


def test_redirects(server, cache):
    target = server.put('/store/1', CONTENT, cuts=[CUT])
    url = server.put('/vit.pth', statuses=[302] * 9, headers={'Location': target})
    fetch([url], NAME)
    assert (cache / NAME).read_bytes() == CONTENT
    assert server.asked[-1][1] is not None  # the rest, through the redirect
    gone = server.put('/gone', statuses=[404] * 9)
    server.put('/vit.pth', statuses=[302] * 9, headers={'Location': gone})
    with pytest.raises(FileNotFoundError, match=rf'404 \(Not Found\) from {gone}'):
        fetch([url], 'other.pth')
    server.put('/vit.pth', statuses=[302] * 99, headers={'Location': url})
    with pytest.raises(FileNotFoundError, match='Exceeded 30 redirects'):
        fetch([url], 'other.pth')


@pytest.mark.parametrize(
    ('moment', 'timeout', 'message', 'left'),
    [
        ('before', 0.2, r'Read timed out\. \(read timeout=0\.2\)', []),
        ('halfway', 1, 'broke off after', ['vit.pth.part', 'vit.pth.part.mark']),
    ],
)
def test_a_silent_server(moment, timeout, message, left, server, cache, waits):
    end = threading.Event()
    url = server.put('/vit.pth', CONTENT, **{moment: end.wait})
    with pytest.raises(FileNotFoundError, match=f'{url}: .*{message}'):
        fetch([url], NAME, timeout=timeout)
    assert waits == [1, 2, 4]
    assert files(cache) == left
    end.set()
    fetch([url], NAME)
    assert (cache / NAME).read_bytes() == CONTENT


def test_the_server_goes_and_comes_back(server, cache, waits):
    url = server.put('/vit.pth', CONTENT, cuts=[CUT])
    server.pages['/vit.pth'].halfway = server.stop
    with pytest.raises(FileNotFoundError, match='Connection refused') as caught:
        fetch([url], NAME)
    assert 'Run again, and it goes on from what has arrived.' in str(caught.value)
    assert waits == [1, 2, 4]
    assert files(cache) == ['vit.pth.part', 'vit.pth.part.mark']
    arrived = (cache / 'vit.pth.part').stat().st_size
    with WeightsServer(server.port) as again:
        again.put('/vit.pth', CONTENT)
        fetch([url], NAME)
        assert again.sent == len(CONTENT) - arrived
    assert (cache / NAME).read_bytes() == CONTENT


@pytest.fixture
def ctrl_c():
    """Python's own answer to Ctrl-C, which a job in the background does not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures('ctrl_c')
def test_ctrl_c_keeps_what_has_arrived(server, cache):
    main = threading.main_thread().ident
    part = cache / 'vit.pth.part'

    def press() -> None:
        while not part.exists() or part.stat().st_size < len(CONTENT) // 4:
            threading.Event().wait(0.01)
        signal.pthread_kill(main, signal.SIGINT)

    url = server.put('/vit.pth', CONTENT, halfway=press)
    with pytest.raises(KeyboardInterrupt):
        fetch([url], NAME)
    assert files(cache) == ['vit.pth.part', 'vit.pth.part.mark']
    arrived = part.stat().st_size
    server.pages['/vit.pth'].halfway = None
    fetch([url], NAME)
    assert server.asked[1:] == [('/vit.pth', f'bytes={arrived}-')]
    assert (cache / NAME).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ('content', 'headers', 'message'),
    [
        (b'<html>log in', {'Content-Type': 'text/html; charset=utf-8'}, 'a web page'),
        (b'', {}, 'empty'),
    ],
)
def test_what_is_no_file(content, headers, message, server, cache):
    url = server.put('/vit.pth', content, headers=headers)
    with pytest.raises(FileNotFoundError, match=message):
        fetch([url], NAME)
    assert files(cache) == []


@pytest.mark.parametrize('url', ['http://', 'http://a b/c', 'https://[/vit.pth'])
def test_what_is_no_url(url, cache):
    with pytest.raises(FileNotFoundError, match='was not fetched'):
        fetch([url], NAME)


@pytest.mark.parametrize('terminal', [True, False])
def test_a_progress_bar_on_a_terminal_only(terminal, server, cache, monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(
        http_transfer,
        'Console',
        lambda **_: Console(file=screen, force_terminal=terminal, width=100),
    )
    fetch([server.put('/vit.pth', CONTENT)], NAME)
    assert ('vit.pth' in screen.getvalue()) == terminal
    assert ('1.0/1.0 MB' in screen.getvalue()) == terminal
