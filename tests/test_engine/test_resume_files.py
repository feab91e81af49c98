"""A resume finds the newest whole checkpoint, and leaves other trainings alone."""

import shutil
from pathlib import Path

import pytest
from resumes import edit, log, plateau, said

from mmpospretrain.engine import AtomicLocalBackend

# --- which checkpoint


def test_the_pointer_is_a_hint(run, begun, tmp_path):
    """Empty, missing, old, of a folder that is gone, or of another that is not."""
    other = shutil.copytree(begun, tmp_path / 'other')
    for number, hint in enumerate(
        [
            '',
            None,
            str(begun / 'epoch_1.pth'),
            '/gone/epoch_2.pth',
            other / 'epoch_2.pth',
        ]
    ):
        work = shutil.copytree(begun, tmp_path / f'work_{number}')
        pointer = work / 'last_checkpoint'
        pointer.unlink()
        if hint is not None:
            pointer.write_text(str(hint))
        resumed = run(work.name, True)
        assert f'resumed from the latest checkpoint {work}/epoch_2.pth' in log(resumed)
        assert resumed.iter == 24


def test_the_newest_whole_one(run, begun):
    whole = (begun / 'epoch_2.pth').read_bytes()
    (begun / 'epoch_3.pth').write_bytes(whole[: len(whole) // 2])
    (begun / 'epoch_10.pth').touch()
    (begun / 'epoch_11.pth').mkdir()
    resumed = run('begun', True)
    assert f'checkpoint {begun}/epoch_2.pth' in log(resumed)
    assert '3 checkpoints' in log(resumed)
    for path in begun.glob('*.pth'):
        if path.is_file():
            path.write_bytes(b'PK')
    with pytest.raises(ValueError, match=r'none of the .* checkpoints in .* is whole'):
        run('begun', True)


def test_a_training_begun_anew_is_meant(run, begun):
    """Not the one of before, that had come further."""
    edit(begun / 'epoch_2.pth', lambda c: c['meta'].update(time='20200101_000000'))
    begun.joinpath('epoch_2.pth').rename(begun / 'epoch_9.pth')
    begun.joinpath('last_checkpoint').write_text('epoch_1.pth')
    assert f'checkpoint {begun}/epoch_1.pth' in log(run('begun', True))


def test_nothing_was_saved(run, tmp_path):
    first = run('new', True)
    assert 'training starts from the beginning' in log(first)
    assert first.iter == 24
    for path in (tmp_path / 'new').glob('*.pth'):
        path.unlink()
    with pytest.raises(ValueError, match=r'no checkpoint in .*last_checkpoint names'):
        run('new', True)


def test_weights_alone_are_no_training(run, begun):
    edit(begun / 'epoch_2.pth', lambda c: c.pop('meta'))
    with pytest.raises(ValueError, match='holds weights, and not how far'):
        run('other', begun / 'epoch_2.pth')


def test_a_used_work_dir_is_told_of(run, begun):
    begun.joinpath('last_checkpoint').unlink()
    assert 'epoch_2.pth is of an earlier training' in log(run('begun'))


# --- which files

BEST = plateau(
    **{
        'param_scheduler': [],
        'default_hooks.checkpoint.save_best': 'score',
        'default_hooks.checkpoint.rule': 'greater',
        'default_hooks.checkpoint.max_keep_ckpts': 1,
    }
)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.glob('*.pth')}


def test_the_files_of_another_training_are_left_alone(run, tmp_path):
    run('first', **{**BEST, 'train_cfg.max_epochs': 2})
    first = tmp_path / 'first'
    copy = shutil.copytree(first, tmp_path / 'copy')
    used = shutil.copytree(first, tmp_path / 'used')
    held = files(first)
    assert held == {'epoch_2.pth', 'best_score_epoch_2.pth'}
    after = {'epoch_4.pth', 'best_score_epoch_4.pth'}

    for work, resume, expected in (
        ('new', first / 'epoch_2.pth', after),
        ('copy', True, after),
        ('used', first / 'epoch_2.pth', after | held),
    ):
        resumed = run(work, resume, **BEST)
        assert files(tmp_path / work) == expected
        stays = 'best_ckpt is none' in ' '.join(said(resumed))
        assert stays == (resume is not True)
        assert files(first) == held
    assert (copy / 'last_checkpoint').read_text() == str(copy / 'epoch_4.pth')
    assert used.exists()


@pytest.mark.parametrize('part', ['state', 'pointer'])
def test_the_last_checkpoint_goes_when_there_is_another(
    run, tmp_path, monkeypatch, part
):
    """Whenever the process dies."""
    put, put_text = AtomicLocalBackend.put, AtomicLocalBackend.put_text

    def die(self, content, path):
        if 'epoch_3' in (str(path) if part == 'state' else str(content)):
            raise KeyboardInterrupt
        return (put if part == 'state' else put_text)(self, content, path)

    name = 'put' if part == 'state' else 'put_text'
    monkeypatch.setattr(AtomicLocalBackend, name, die)
    with pytest.raises(KeyboardInterrupt):
        run('work', **{'default_hooks.checkpoint.max_keep_ckpts': 1})
    work = tmp_path / 'work'
    assert 'epoch_2.pth' in files(work)
    assert (work / 'last_checkpoint').read_text() == str(work / 'epoch_2.pth')
    monkeypatch.undo()
