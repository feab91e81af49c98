"""From a URL, or a name of the zoo, into a backbone: safely, and all of it."""

import io
import pickle
from hashlib import sha256
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors.torch import save
from test_loading import Evil
from tiny_backbones import ARCH, assert_loaded, build, refuse, vit

from mmpospretrain.engine.cli import set_pretrained
from mmpospretrain.zoo import load_backbone, local_file, prefix_tokens, registry


@pytest.fixture
def publish(server, monkeypatch):
    """Serve bytes, and give them a name in the zoo; the URL and the address there."""
    monkeypatch.setattr(torch.hub, 'download_url_to_file', None)  # no other way out

    def serve(content: bytes) -> dict[str, str]:
        url = server.put('/released/vit.pth', content)
        entry = SimpleNamespace(
            urls=(url,),
            filename='tiny-vit.pth',
            sha256=sha256(content).hexdigest(),
            by_hand=None,
        )
        monkeypatch.setattr(registry, 'entries', lambda: {'tiny-vit': entry})
        return {'url': url, 'zoo': 'zoo://tiny-vit'}

    return serve


@pytest.fixture
def published(publish, checkpoint) -> dict[str, str]:
    return publish(checkpoint.read_bytes())


@pytest.mark.parametrize('address', ['url', 'zoo'])
@pytest.mark.parametrize('scope', ['mmpretrain', 'mmdet', 'mmseg'])
@pytest.mark.parametrize('init', ['Pretrained', 'mmpospretrain.PretrainedBackbone'])
def test_init_cfg_in_every_scope(init, scope, address, published, source, server):
    built = build(
        scope,
        type='mmpospretrain.PositionViT',
        arch=ARCH,
        img_size=(64, 96),
        init_cfg=dict(type=init, checkpoint=published[address]),
    )
    assert_loaded(built, source)
    assert len(server.asked) == 1


@pytest.mark.parametrize('address', ['url', 'zoo'])
def test_loading_is_strict(address, published):
    refuse(vit(arch=dict(ARCH, num_layers=3)), published[address], '12 missing')


@pytest.mark.parametrize('address', ['url', 'zoo'])
def test_other_ways_in(address, published, source, server, cache):
    """MMEngine's own loader, the log, [CLS], the command line; one transfer."""
    model = vit()
    checkpoint = load_checkpoint(
        model,
        published[address],
        revise_keys=[(r'^module\.backbone\.', '')],
    )
    assert_loaded(model, source)
    assert 'module.head.weight' in checkpoint['state_dict']
    assert load_backbone(vit(), published[address]).startswith(
        f'{published[address]} (sha256 '
    )
    assert prefix_tokens(published[address])['with_cls_token']
    assert local_file(published[address]).parent == cache
    backbone = dict(type='mmpospretrain.PositionViT', init_cfg=None)
    cfg = Config(dict(model=dict(backbone=backbone)))
    set_pretrained(cfg, published[address])
    assert cfg.model.backbone.with_cls_token
    assert cfg.model.backbone.init_cfg.checkpoint == published[address]
    assert len(server.asked) == 1


@pytest.mark.parametrize('address', ['url', 'zoo'])
@pytest.mark.parametrize('legacy', [False, True], ids=['zip', 'pickle'])
def test_a_malicious_pickle_executes_nothing(legacy, address, publish, tmp_path):
    trace = tmp_path / 'trace'
    content = io.BytesIO()
    evil = {'state_dict': Evil(trace)}
    torch.save(evil, content, _use_new_zipfile_serialization=not legacy)
    published = publish(content.getvalue())[address]
    init_cfg = dict(type='Pretrained', checkpoint=published)
    for attempt in (
        lambda: load_backbone(vit(), published),
        lambda: CheckpointLoader.load_checkpoint(published),
        lambda: vit(init_cfg=init_cfg).init_weights(),
        lambda: build('mmdet', type='mmdet.ResNet', depth=18, init_cfg=init_cfg),
    ):
        with pytest.raises(ValueError, match='Nothing of it was executed'):
            attempt()
    assert not trace.exists()
    pickle.loads(pickle.dumps(evil))  # it is as evil as it claims
    assert trace.exists()


def test_the_suffix_survives_a_query(server, source):
    """By it safetensors are told from pickles."""
    weights = {f'backbone.{key}': value for key, value in source.state_dict().items()}
    url = server.put('/vit.safetensors', save(weights))
    backbone = vit()
    load_backbone(backbone, f'{url}?download=true', source_grid=(4, 6))
    assert_loaded(backbone, source)


def test_a_url_with_nothing_behind_it(server):
    url = server.put('/vit.pth', statuses=[404] * 9)
    refuse(vit(), url, r'vit\.pth: status 404')


def test_no_such_model(published):
    refuse(vit(), 'zoo://tiny-vitt', "no model 'tiny-vitt'.*mean tiny-vit")
