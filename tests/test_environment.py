"""The check of the environment, in doctored ones, and what is set right in MMEngine."""

import subprocess
import sys
from importlib import metadata

import pytest
from mmengine import Config
from mmengine.config.utils import MODULE2PACKAGE

from mmpospretrain import environment

ONEDL = {
    'onedl-mmengine': '0.10.12',
    'onedl-mmcv': '2.3.6',
    'onedl-mmpretrain': '1.3.6',
    'torch': '2.13.0+cpu',
}
OPENMMLAB = {
    'mmengine': '0.10.7',
    'mmcv': '2.1.0',
    'mmpretrain': '1.2.0',
    'torch': '2.6.0',
}


@pytest.fixture
def install(monkeypatch):
    """Pretend that these distributions are all there are."""

    def pretend(distributions):
        def version(name):
            if name not in distributions:
                raise metadata.PackageNotFoundError(name)
            return distributions[name]

        monkeypatch.setattr(metadata, 'version', version)

    return pretend


@pytest.fixture
def fake_distribution(tmp_path, monkeypatch):
    """Add one to the path, as real as metadata can tell, for child processes."""

    def add(name, version):
        folder = tmp_path / f'{name.replace("-", "_")}-{version}.dist-info'
        folder.mkdir()
        (folder / 'METADATA').write_text(
            f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setenv('PYTHONPATH', f'{tmp_path}:.')

    return add


def python(*arguments):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize('stack', [ONEDL, OPENMMLAB, {**OPENMMLAB, 'mmdet': '1.0'}])
def test_either_stack_will_do_without_mmdet_and_mmseg(install, stack):
    install(stack)
    environment.require()


@pytest.mark.parametrize(
    ('distributions', 'what', 'way_out'),
    [
        ({'torch': '2.13.0'}, 'neither the OneDL nor the OpenMMLab', 'install.sh'),
        ({**ONEDL, **OPENMMLAB}, 'both stacks, onedl and openmmlab', '--venv DIR'),
        ({**ONEDL, 'mmcv-lite': '2.1.0'}, 'both stacks', 'fresh environment'),
        ({**ONEDL, 'onedl-mmcv': '2.3.5'}, 'mmcv 2.3.5 is older than 2.3.6', 'onedl'),
        (
            {**OPENMMLAB, 'mmengine': '0.9.1'},
            '0.9.1 is older than 0.10.7',
            '--stack op',
        ),
        ({**ONEDL, 'torch': '2.5.1'}, 'torch 2.5.1 is older than 2.6', '--venv DIR'),
        ({'mmpretrain': '1.2.0'}, 'torch is not installed', '--stack openmmlab'),
    ],
)
def test_problems_name_the_way_out(install, distributions, what, way_out):
    install(distributions)
    with pytest.raises(environment.EnvironmentProblem) as caught:
        environment.require()
    assert what in str(caught.value)
    assert way_out in str(caught.value)


@pytest.mark.parametrize(
    ('version', 'coco', 'found'),
    [('4.57.6', True, 0), ('5.0.0', True, 1), ('5.23.0', False, 0)],
)
def test_transformers_that_break_mmpretrain(install, version, coco, found):
    """Without pycocotools MMPretrain leaves its multimodal models alone."""
    others = {'transformers': version, **({'pycocotools': '2.0.8'} if coco else {})}
    install(ONEDL | others)
    problems = [str(problem) for problem in environment.find_problems()]
    assert len(problems) == found
    assert all("pip install 'transformers<5'" in problem for problem in problems)


def test_all_problems_are_named_at_once(install):
    install({'mmpretrain': '1.0.0', 'torch': '2.13.0'})
    assert [problem.what for problem in environment.find_problems()] == [
        'mmcv is not installed',
        'mmengine is not installed',
        'mmpretrain 1.0.0 is older than 1.2.0',
    ]


@pytest.mark.parametrize(
    ('version', 'oldest', 'older'),
    [
        ('2.9', '2.13.0', True),
        ('2.13.0+cu130', '2.13.0', False),
        ('2.13.0+cpu', '2.13.1', True),
        ('0.10.7', '0.10.7', False),
    ],
)
def test_is_older(version, oldest, older):
    assert environment.is_older(version, oldest) is older


def test_mmseg_is_mapped_on_onedl_only(install, monkeypatch):
    for stack, expected in ((OPENMMLAB, 'mmsegmentation'), (ONEDL, 'mmseg')):
        monkeypatch.setitem(MODULE2PACKAGE, 'mmseg', 'mmsegmentation')
        install(stack)
        environment.prepare()
        assert MODULE2PACKAGE['mmseg'] == expected


@pytest.mark.parametrize(
    ('base', 'key'),
    [
        ('mmpretrain::_base_/default_runtime.py', 'default_scope'),
        ('mmdet::_base_/models/mask-rcnn_r50_fpn.py', 'model'),
        ('mmseg::_base_/models/upernet_r50.py', 'model'),
    ],
)
def test_bases_of_the_libraries_resolve(tmp_path, base, key):
    pytest.importorskip(base.partition('::')[0])
    (tmp_path / 'heir.py').write_text(f'_base_ = [{base!r}]\n')
    assert key in Config.fromfile(tmp_path / 'heir.py')


def test_import_needs_no_ops_no_mmdet_no_mmseg():
    code = (
        'import sys\n'
        "for name in ('mmcv._ext', 'mmcv.ops', 'mmdet', 'mmseg'):\n"
        '    sys.modules[name] = None\n'
        'import mmpospretrain\n'
        'print(mmpospretrain.models.DropPos.__name__)'
    )
    result = python('-W', 'error::UserWarning:mmpospretrain', '-c', code)
    # Nothing else is on stdout, which callers read with $( ).
    assert result.stdout == 'DropPos\n', result.stderr
    assert 'OneDL' not in result.stderr


def test_broken_environment_warns_on_import_and_stops_use(fake_distribution):
    other = 'mmcv' if environment.version_of('onedl-mmcv') else 'onedl-mmcv'
    fake_distribution(other, '9.9.9')
    result = python('-c', 'import mmpospretrain; import mmpospretrain.registry')
    assert result.returncode == 1
    assert 'both stacks' in result.stderr.partition('Traceback')[0]
    assert 'EnvironmentProblem: mmpospretrain cannot work' in result.stderr


def test_doctor_survives_a_broken_environment(fake_distribution):
    other = 'mmcv' if environment.version_of('onedl-mmcv') else 'onedl-mmcv'
    fake_distribution(other, '9.9.9')
    result = python('-m', 'mmpospretrain.doctor')
    assert result.returncode == 1
    assert 'holds both stacks' in result.stdout
    assert 'make a fresh environment' in result.stdout


def test_script_for_the_installer_names_the_stacks():
    result = python('-I', environment.__file__)
    assert result.stdout.split() == environment.installed_stacks()
