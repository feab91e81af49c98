"""The cache: what is in it is whole and verified, whoever else asks."""

import importlib
import shutil
from hashlib import sha256
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from threading import Event as Wait

import numpy as np
import pytest

from mmpospretrain.zoo.fetch import cache_dir, fetch, fetch_url, recorded_sha256

CONTENT = np.random.default_rng(0).bytes(200_000)
OTHER = np.random.default_rng(1).bytes(200_000)
SHA256 = sha256(CONTENT).hexdigest()
NAME = 'vit.pth'


def files(cache: Path) -> list[str]:
    """What lies in the cache, but for locks."""
    return sorted(p.name for p in cache.iterdir() if p.suffix != '.lock')


@pytest.fixture
def said(monkeypatch) -> list[str]:
    """Lines of the log."""
    lines = []
    module = importlib.import_module('mmpospretrain.zoo.fetch')
    monkeypatch.setattr(module, 'print_log', lambda line, **_: lines.append(line))
    return lines


@pytest.fixture
def url(server) -> str:
    return server.put('/vit.pth', CONTENT)


@pytest.mark.parametrize('known', [SHA256, SHA256.upper(), None])
def test_offline_afterwards(known, url, server, cache, tmp_path, monkeypatch):
    """Nor is anything written: the cache may be one that others have filled."""
    fetch([url], NAME, known)
    server.stop()
    assert fetch([url], NAME, known).read_bytes() == CONTENT
    elsewhere = tmp_path / 'elsewhere'
    elsewhere.mkdir()
    for name in files(cache):
        shutil.copy(cache / name, elsewhere)
    before = sorted(elsewhere.iterdir())
    monkeypatch.setenv('MMPOSPRETRAIN_CACHE', str(elsewhere))
    assert fetch([url], NAME, known) == elsewhere / NAME
    assert sorted(elsewhere.iterdir()) == before
    assert len(server.asked) == 1


def test_the_cache_is_no_part_of_the_checkout(monkeypatch, tmp_path):
    for name in ('MMPOSPRETRAIN_CACHE', 'XDG_CACHE_HOME'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('HOME', str(tmp_path))
    checkout = Path(__file__).parents[2]
    assert not cache_dir().is_relative_to(checkout)
    assert cache_dir().name == 'mmpospretrain'
    monkeypatch.setenv('MMPOSPRETRAIN_CACHE', '~/weights')
    assert cache_dir() == Path.home() / 'weights'


# --- SHA-256


def test_a_wrong_file_is_refused(url, cache):
    wrong = sha256(OTHER).hexdigest()
    with pytest.raises(ValueError, match=rf'(?s){url}: .*expected {wrong} .*{SHA256}'):
        fetch([url], NAME, wrong)
    assert files(cache) == []


def test_an_unknown_hash_is_recorded_and_enforced(url, server, cache, said):
    fetch([url], NAME)
    record = cache / 'vit.pth.sha256'
    assert record.read_text() == f'{SHA256}  vit.pth\n'  # for sha256sum -c
    assert recorded_sha256(cache / NAME) == SHA256
    assert len(said) == 1
    assert f'It is {SHA256}, recorded in {record} and enforced' in said[0]

    (cache / NAME).unlink()
    server.put('/vit.pth', OTHER)
    with pytest.raises(ValueError, match=f'(?s)that of the first .*, delete {record}'):
        fetch([url], NAME)
    assert files(cache) == ['vit.pth.sha256']
    record.unlink()
    assert fetch([url], NAME).read_bytes() == OTHER


def test_a_published_hash_goes_before_a_recorded_one(url, server, cache):
    fetch([url], NAME)
    server.put('/vit.pth', OTHER)
    fetch([url], NAME, sha256(OTHER).hexdigest())
    assert (cache / NAME).read_bytes() == OTHER


@pytest.mark.parametrize('known', [SHA256, None])
@pytest.mark.parametrize('damage', [CONTENT[:1000], b'', OTHER])
def test_a_damaged_file_is_fetched_again(damage, known, url, cache, said):
    fetch([url], NAME, known)
    (cache / NAME).write_bytes(damage)
    said.clear()
    assert fetch([url], NAME, known).read_bytes() == CONTENT
    assert 'vit.pth.damaged' not in files(cache)
    assert f'its SHA-256 is {sha256(damage).hexdigest()}, not {SHA256}' in said[0]


def test_a_damaged_file_is_not_used_offline(url, server, cache):
    fetch([url], NAME)
    (cache / NAME).write_bytes(CONTENT[:1000])
    server.stop()
    with pytest.raises(ValueError, match=r'(?s)its SHA-256 is .*Connection refused'):
        fetch([url], NAME)
    assert files(cache) == ['vit.pth.damaged', 'vit.pth.sha256']


def test_put_there_by_hand(cache, said):
    with pytest.raises(FileNotFoundError, match=f'(?s)no address.*at {cache}/vit'):
        fetch([], NAME)
    (cache / NAME).write_bytes(CONTENT)
    assert fetch([], NAME) == cache / NAME
    assert recorded_sha256(cache / NAME) == SHA256
    assert 'by hand' in said[-1]
    (cache / NAME).write_bytes(OTHER)
    with pytest.raises(ValueError, match='its SHA-256 is'):
        fetch([], NAME)


# --- several sources


def test_the_next_url_where_one_fails(url, server, cache, said):
    gone = server.put('/gone', statuses=[404] * 9)
    wrong = server.put('/wrong', OTHER)
    assert fetch([gone, wrong, url], NAME, SHA256).read_bytes() == CONTENT
    assert [path for path, _ in server.asked] == ['/gone', '/wrong', '/vit.pth']
    assert gone in said[0]
    assert wrong in said[1]
    with pytest.raises(ValueError, match=f'(?s){gone}: status 404.*{wrong}: SHA256'):
        fetch([gone, wrong], 'other.pth', SHA256)


def test_urls_that_end_alike(server, cache):
    first = server.put('/a/checkpoint.pth', CONTENT)
    second = server.put('/b/checkpoint.pth', OTHER)
    paths = [fetch_url(address) for address in (first, second, f'{first}?v=2')]
    assert len(set(paths)) == 3
    assert [path.read_bytes() for path in paths] == [CONTENT, OTHER, CONTENT]
    assert all(path.name.endswith('-checkpoint.pth') for path in paths)


@pytest.mark.parametrize('kind', ['folder', 'http', 'http/'])
def test_a_mirror_is_asked_first(kind, url, server, cache, tmp_path, monkeypatch):
    (tmp_path / 'mirror').mkdir()
    (tmp_path / 'mirror/my vit.pth').write_bytes(CONTENT)
    served = server.put('/zoo/my%20vit.pth', CONTENT)
    mirror = str(tmp_path / 'mirror')
    if kind != 'folder':
        mirror = served.removesuffix('my%20vit.pth').rstrip('/') + kind[4:]
    monkeypatch.setenv('MMPOSPRETRAIN_MIRROR', mirror)
    path = fetch([url], 'my vit.pth', SHA256)
    assert path == cache / 'my vit.pth'
    assert path.read_bytes() == CONTENT
    asked = [] if kind == 'folder' else [('/zoo/my%20vit.pth', None)]
    assert server.asked == asked
    ordinary = tmp_path / 'ordinary'
    ordinary.touch()
    assert path.stat().st_mode == ordinary.stat().st_mode  # others may read it


@pytest.mark.parametrize('content', [None, OTHER], ids=['lacks it', 'another file'])
def test_a_poor_mirror(content, url, cache, tmp_path, monkeypatch):
    mirror = tmp_path / 'mirror'
    mirror.mkdir()
    if content:
        (mirror / NAME).write_bytes(content)
    monkeypatch.setenv('MMPOSPRETRAIN_MIRROR', str(mirror))
    assert fetch([url], NAME, SHA256).read_bytes() == CONTENT
    with pytest.raises(FileNotFoundError, match=f'{mirror}/b.pth: there is no such'):
        fetch([], 'b.pth')


def test_no_leftovers_of_another_source(server, cache, tmp_path, monkeypatch):
    broken = server.put('/broken', CONTENT, cuts=[150_000, 0, 0, 0])
    (tmp_path / NAME).write_bytes(OTHER)
    monkeypatch.setenv('MMPOSPRETRAIN_MIRROR', str(tmp_path))
    with pytest.raises(ValueError, match='broke off'):
        fetch([broken], NAME, SHA256)
    assert files(cache) == ['vit.pth.part', 'vit.pth.part.mark']
    (tmp_path / NAME).write_bytes(CONTENT)
    fetch([broken], NAME)
    assert files(cache) == ['vit.pth', 'vit.pth.sha256']


def test_a_cache_makes_a_mirror(url, server, cache, tmp_path, monkeypatch):
    fetch_url(url)
    server.stop()
    cache.rename(tmp_path / 'mirror')
    monkeypatch.setenv('MMPOSPRETRAIN_MIRROR', str(tmp_path / 'mirror'))
    assert fetch_url(url).read_bytes() == CONTENT


def test_no_mirror(url, server, monkeypatch):
    monkeypatch.setenv('MMPOSPRETRAIN_MIRROR', 'zoo.example')
    with pytest.raises(ValueError, match=r"'zoo\.example', which is neither a URL nor"):
        fetch([url], NAME)
    assert server.asked == []


# --- disks and processes


def test_a_cache_that_cannot_be_written(url, tmp_path, monkeypatch):
    """Not even by root, as which tests may run."""
    (tmp_path / 'file').touch()
    monkeypatch.setenv('MMPOSPRETRAIN_CACHE', str(tmp_path / 'file/cache'))
    with pytest.raises(ValueError, match=r'cannot be written .*CACHE=FOLDER'):
        fetch([url], NAME)


def test_a_full_disk(url, cache):
    part = cache / 'vit.pth.part'
    part.mkdir(parents=True)
    with pytest.raises(ValueError, match=f'cannot be written to the cache {cache} '):
        fetch([url], NAME)
    part.rmdir()
    assert fetch([url], NAME).read_bytes() == CONTENT


def ask(url: str, begun: Event) -> None:
    begun.set()
    fetch([url], NAME)


def test_two_processes_at_once(server, cache):
    context = get_context('fork')
    begun = [context.Event(), context.Event()]

    def halfway() -> None:
        assert all(event.wait(30) for event in begun)
        Wait().wait(0.3)  # both ask now, or would if they did not wait

    url = server.put('/vit.pth', CONTENT, halfway=halfway)
    processes = [context.Process(target=ask, args=(url, event)) for event in begun]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        process.kill()
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(server.asked) == 1
    assert files(cache) == ['vit.pth', 'vit.pth.sha256']
    assert (cache / NAME).read_bytes() == CONTENT


def test_a_killed_process_locks_nobody_out(server, cache):
    halfway, end = Wait(), Wait()
    url = server.put('/vit.pth', CONTENT, halfway=lambda: halfway.set() or end.wait(30))
    context = get_context('fork')
    process = context.Process(target=ask, args=(url, context.Event()))
    process.start()
    assert halfway.wait(30)
    process.kill()
    process.join(30)
    end.set()
    assert NAME not in files(cache)
    assert fetch([url], NAME).read_bytes() == CONTENT


@pytest.mark.parametrize(
    'name', ['../x', '/x', 'a/b', r'a\b', 'C:x', '', '.', '..', 'a\0', 'x.lock', None]
)
def test_a_name_that_leaves_the_cache(name, url, server, cache, tmp_path):
    with pytest.raises(ValueError, match='names no file in the cache'):
        fetch([url], name)
    assert not server.asked
    assert not cache.exists()
    assert not (tmp_path / 'x').exists()


@pytest.mark.parametrize('address', ['/etc/hostname', 'file:///x', '../x', 'ftp://x/y'])
def test_an_address_is_no_path_of_this_machine(address, cache):
    with pytest.raises(ValueError, match='is no address on the web'):
        fetch([address], NAME)
    assert not cache.exists()


@pytest.mark.parametrize(
    'path',
    ['/a..', '/a/..%2Fb', '/a:b.pth', '/a.lock', '/a.sha256', '/a%5Cb', '/%00'],
)
def test_names_out_of_urls_stay_in_the_cache(path, server, cache):
    found = fetch_url(server.put(path, CONTENT))
    assert found.parent == cache
    assert found.read_bytes() == CONTENT
    assert {file.parent for file in cache.rglob('*')} == {cache}
