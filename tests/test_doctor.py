"""The doctor: findings, ways out, exit code; no fit environment needed."""

import shutil
import sys
from types import SimpleNamespace

import pytest

from mmpospretrain import doctor, environment
from mmpospretrain.doctor import FAILURE, OK, WARNING


def findings(check):
    return {finding.subject: finding for finding in doctor._guarded(check)}


def test_a_fit_environment_passes(capsys, monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: SimpleNamespace(free=1e11))
    assert doctor.main() == 0
    shown = capsys.readouterr().out
    for subject in ('torch', 'mmengine', 'device', 'mmcv ops', 'free disk'):
        assert subject in shown


def test_everything_but_ok_has_a_way_out(monkeypatch):
    monkeypatch.setattr(environment, 'version_of', lambda *_: None)
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: SimpleNamespace(free=1e9))
    monkeypatch.setitem(doctor.BASES, 'mmdet', 'mmdet::_base_/no_such.py')
    monkeypatch.setitem(sys.modules, 'mmcv.ops', None)
    troubles = [finding for finding in doctor.examine() if finding.status != OK]
    assert {finding.subject for finding in troubles} == {
        'environment',
        'free disk',
        'mmdet:: configs',
        'mmcv ops',
    }
    assert all(finding.way_out for finding in troubles)


def test_missing_ops_are_no_failure(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmcv.ops', None)
    finding = findings(doctor.check_ops)['mmcv ops']
    assert finding.status == WARNING
    assert '--no-ops' in finding.way_out


@pytest.mark.parametrize(
    ('module', 'status'), [('mmpretrain', FAILURE), ('mmdet', WARNING)]
)
def test_configs_that_do_not_resolve(monkeypatch, module, status):
    monkeypatch.setitem(doctor.BASES, module, f'{module}::_base_/no_such.py')
    assert findings(doctor.check_configs)[f'{module}:: configs'].status == status


def test_missing_mmdet_is_no_failure(monkeypatch):
    real, missing = environment.version_of, {'mmdet', 'onedl-mmdetection'}

    def version_of(*names):
        return None if missing & {*names} else real(*names)

    monkeypatch.setattr(environment, 'version_of', version_of)
    finding = findings(doctor.check_packages)['mmdet']
    assert (finding.status, finding.detail) == (WARNING, 'not installed')


def test_full_disk_fails(monkeypatch, capsys):
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: SimpleNamespace(free=4.9e9))
    monkeypatch.setattr(doctor, 'examine', lambda: list(doctor.check_disk()))
    assert doctor.main() == 1
    assert 'free some' in capsys.readouterr().out


def test_a_check_that_breaks_is_a_finding():
    def check_flux():
        raise KeyError('capacitor')
        yield

    finding = findings(check_flux)['flux']
    assert (finding.status, finding.detail) == (FAILURE, "KeyError: 'capacitor'")


def test_shows_without_rich(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'rich.console', None)
    monkeypatch.delitem(sys.modules, 'rich.console', raising=False)
    monkeypatch.setitem(sys.modules, 'rich', None)
    doctor.show([doctor.Finding('disk', FAILURE, '0 GB', 'buy one')])
    assert capsys.readouterr().out == 'failure  disk: 0 GB\ndisk: buy one\n'
