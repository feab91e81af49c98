"""What must not load: the backbone stays as it was, and the error says why."""

import pickle
from pathlib import Path

import pytest
import torch
from tiny_backbones import ARCH, assert_loaded, refuse, vit

from mmpospretrain.zoo import load_backbone


def test_wrong_prefix(checkpoint):
    match = (
        r"no key of .* begins with 'encoder\.'; they begin with backbone \(30\), head"
    )
    refuse(vit(), checkpoint, match, prefix='encoder.')


def test_a_damaged_teacher_is_not_replaced_by_the_student(tmp_path):
    weights = vit().state_dict()
    both = {
        f'{p}.{k}': v
        for p in ('target_encoder', 'backbone')
        for k, v in weights.items()
    }
    del both['target_encoder.ln1.weight']
    path = tmp_path / 'epoch_1.pth'
    torch.save({'state_dict': both}, path)
    refuse(vit(), path, r'(?s)1 missing:\n    ln1\.weight', source_grid=(4, 6))


def test_prefix_of_something_else(checkpoint):
    refuse(
        vit(), checkpoint, r'(?s)29 missing.*1 unexpected:\n    weight', prefix='head.'
    )


@pytest.mark.parametrize(
    ('options', 'match'),
    [
        (
            dict(arch=dict(ARCH, embed_dims=64)),
            r'(?s)of another shape:\n    cls_token: \(1, 1, 32\) in the checkpoint, '
            r'\(1, 1, 64\) in the model.*arch',
        ),
        (
            dict(patch_size=8, img_size=(32, 48)),
            r'patch_embed.projection.weight: \(32, 3, 16, 16\) .* \(32, 3, 8, 8\)',
        ),
        (
            dict(arch=dict(ARCH, num_layers=3)),
            r'(?s)12 missing:\n    layers.2.*and 2 more',
        ),
        (
            dict(arch=dict(ARCH, num_layers=1)),
            r'(?s)12 unexpected:\n    layers.1',
        ),
        (dict(layer_scale_init_value=1e-5), r'missing:\n    layers.0.attn.gamma1'),
    ],
    ids=['width', 'patch', 'deeper', 'shallower', 'layer scale'],
)
def test_another_architecture(checkpoint, options, match):
    refuse(vit(**options), checkpoint, match)


def test_a_checkpoint_without_cls(tmp_path):
    path = tmp_path / 'no_cls.pth'
    source = vit(with_cls_token=False)
    torch.save(source.state_dict(), path)
    match = r'(?s)1 missing:\n    cls_token.*with_cls_token=False'
    refuse(vit(), path, match, source_grid=(4, 6))
    target = vit(with_cls_token=False)
    load_backbone(target, path, source_grid=(4, 6))
    assert_loaded(target, source)


def test_no_backbone_inside(tmp_path):
    path = tmp_path / 'resnet.pth'
    torch.save({'conv1.weight': torch.zeros(1), 'fc.bias': torch.zeros(1)}, path)
    refuse(vit(), path, r'no weights of such a backbone.* begin with conv1 \(1\), fc')


def test_truncated(checkpoint):
    checkpoint.write_bytes(checkpoint.read_bytes()[:-500])
    refuse(vit(), checkpoint, 'truncated')


def test_web_page(tmp_path):
    path = tmp_path / 'page.pth'
    path.write_text('<!DOCTYPE html><html>not found</html>')
    refuse(vit(), path, 'is a web page')


def test_no_file(tmp_path):
    refuse(vit(), tmp_path / 'nothing.pth', 'there is no checkpoint')
    refuse(vit(), tmp_path, 'it is a folder: give a file in it')


class Evil:
    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return Path.mkdir, (self.trace,)


def test_code_is_not_run(tmp_path):
    path, trace = tmp_path / 'evil.pth', tmp_path / 'trace'
    path.write_bytes(pickle.dumps({'state_dict': Evil(trace)}))
    refuse(vit(), path, 'Nothing of it was executed')
    assert not trace.exists()


def test_a_config_without_a_checkpoint_says_so():
    backbone = vit(init_cfg=dict(type='mmpospretrain.PretrainedBackbone'))
    with pytest.raises(ValueError, match='--pretrained none to train from scratch'):
        backbone.init_weights()
