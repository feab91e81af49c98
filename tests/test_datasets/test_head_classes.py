"""Outputs of all heads are compared with the classes of the data, before the start."""

import pytest
from mmengine.config import Config
from mmengine.hub import get_config

from mmpospretrain.datasets.head_classes import check_heads
from mmpospretrain.datasets.labelled import LOADERS, labelled_datasets

FASTER = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
MASK = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
CASCADE = 'mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py'
RETINA = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
DETR = 'mmdet::detr/detr_r50_8xb2-150e_coco.py'
PANOPTIC = 'mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py'
MASK2FORMER = 'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic.py'
UPERNET = 'mmseg::upernet/upernet_r50_4xb4-80k_ade20k-512x512.py'
SEGMENTER = 'mmseg::segmenter/segmenter_vit-b_mask_8xb1-160k_ade20k-512x512.py'
POINTREND = 'mmseg::point_rend/pointrend_r50_4xb4-160k_ade20k-512x512.py'
KNET = 'mmseg::knet/knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512.py'
RESNET = 'mmpretrain::resnet/resnet50_8xb32_in1k.py'
DEIT = 'mmpretrain::deit/deit-tiny_4xb256_in1k.py'
VGG = 'mmpretrain::vgg/vgg11_8xb32_in1k.py'
MULTI_LABEL = 'mmpretrain::csra/resnet101-csra_1xb16_voc07-448px.py'


def check(cfg: Config) -> None:
    datasets = [(name, d) for name in LOADERS for d in labelled_datasets(cfg, [name])]
    check_heads(cfg, datasets, cfg.default_scope)


def changed(name: str, **options) -> Config:
    cfg = get_config(name)
    cfg.merge_from_dict(options)
    return cfg


@pytest.mark.parametrize(
    'name',
    [
        *(FASTER, MASK, CASCADE, RETINA, DETR, PANOPTIC, MASK2FORMER),
        *(UPERNET, SEGMENTER, POINTREND, KNET, RESNET, DEIT, VGG, MULTI_LABEL),
        'mmdet::rpn/rpn_r50_fpn_1x_coco.py',
        'mmdet::htc/htc_r50_fpn_1x_coco.py',  # with a head for stuff
        'mmdet::grounding_dino/grounding_dino_r50_scratch_8xb2_1x_coco.py',
        'mmdet::bytetrack/bytetrack_yolox_x_8xb4-amp-80e_crowdhuman-mot17halftrain_'
        'test-mot17halfval.py',
        'mmseg::stdc/stdc1_4xb12-80k_cityscapes-512x1024.py',  # with one for borders
        'mmpretrain::mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py',
    ],
)
def test_upstream_configs_are_fine(name):
    check(get_config(name))


@pytest.mark.parametrize(
    ('name', 'head', 'outputs'),
    [
        (FASTER, 'roi_head.bbox_head', 3),
        (FASTER, 'roi_head.bbox_head', 81),
        (MASK, 'roi_head.mask_head', 1),
        (CASCADE, 'roi_head.bbox_head.1', 79),
        (CASCADE, 'roi_head.mask_head', 20),
        (RETINA, 'bbox_head', 365),
        (DETR, 'bbox_head', 91),
        (PANOPTIC, 'roi_head.bbox_head', 133),
        (UPERNET, 'decode_head', 19),
        (UPERNET, 'auxiliary_head', 151),
        (SEGMENTER, 'decode_head', 100),
        (POINTREND, 'decode_head.1', 19),
        (KNET, 'decode_head.kernel_generate_head', 19),
        (KNET, 'decode_head.kernel_update_head.2', 19),
        (RESNET, 'head', 10),
        (VGG, 'backbone', 10),
        (MULTI_LABEL, 'head', 80),
    ],
)
def test_each_head_is_named(name, head, outputs):
    with pytest.raises(ValueError) as error:
        check(changed(name, **{f'model.{head}.num_classes': outputs}))
    message = str(error.value)
    assert f'model.{head} has {outputs} outputs, but the data of train_dat' in message
    assert f' model.{head}.num_classes=' in message
    assert message.count(' outputs, but') == 1


def test_the_option_that_is_named_mends_it():
    cfg = changed(CASCADE)
    names = [f'part {k}' for k in range(4)]
    for dataset in labelled_datasets(cfg):
        dataset.metainfo = dict(classes=names)
    with pytest.raises(ValueError) as error:
        check(cfg)
    message = str(error.value)
    assert message.count('has 80 outputs, but the data of train_dataloader, val') == 4
    assert '4 classes: part 0, part 1, part 2, part 3.' in message
    options = message.partition('--cfg-options ')[2].partition('. ')[0].split()
    cfg.merge_from_dict({key: int(n) for key, n in (o.split('=') for o in options)})
    check(cfg)


def test_defaults_count():
    """A head that says nothing has the outputs of its class: of COCO, here."""
    cfg = changed(FASTER)
    del cfg.model.roi_head.bbox_head.num_classes
    check(cfg)
    for dataset in labelled_datasets(cfg, ['train_dataloader']):
        dataset.metainfo = dict(classes=('bolt',))
    with pytest.raises(
        ValueError, match=r'bbox_head has 80 .* train_dataloader have 1'
    ):
        check(cfg)


def test_the_loader_that_differs_is_named():
    cfg = changed(UPERNET, **{'val_dataloader.dataset.metainfo.classes': ['a', 'b']})
    with pytest.raises(ValueError, match='data of val_dataloader have 2 classes: a, b'):
        check(cfg)


def test_things_and_stuff():
    head = 'model.panoptic_head.num_things_classes'
    with pytest.raises(ValueError, match='panoptic_head has 123 outputs') as error:
        check(changed(MASK2FORMER, **{head: 70}))
    assert f'{head}=80' in str(error.value)


def test_the_preprocessor_counts_where_it_mixes_labels():
    option = {'data_preprocessor.num_classes': 7}
    with pytest.raises(ValueError, match=r'^data_preprocessor has 7 outputs'):
        check(changed(DEIT, **option))
    check(changed(RESNET, **option))


def test_all_parts_of_a_concatenation_are_looked_at():
    cfg = changed(FASTER)
    whole = cfg.train_dataloader.dataset
    part = {**whole, 'metainfo': dict(classes=('bolt', 'nut'))}
    both = dict(type='ConcatDataset', datasets=[whole, part])
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=both)
    with pytest.raises(ValueError, match=r'bbox_head has 80 .* 2 classes: bolt, nut'):
        check(cfg)


def test_a_class_agnostic_mask_head_has_one_output_whatever_it_is_told():
    cfg = changed(MASK, **{'model.roi_head.mask_head.num_classes': 3})
    cfg.model.roi_head.mask_head.class_agnostic = True
    check(cfg)


def test_types_may_be_classes():
    from mmdet.datasets import CocoDataset
    from mmdet.models import RetinaHead

    cfg = changed(RETINA, **{'model.bbox_head.num_classes': 3})
    cfg.model.bbox_head.type = RetinaHead
    for dataset in labelled_datasets(cfg):
        dataset.type = CocoDataset
    with pytest.raises(ValueError, match='bbox_head has 3 outputs'):
        check(cfg)
