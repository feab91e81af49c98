# Stanford Cars at 224², ViT-B/16 pre-trained on ImageNet and fine-tuned end to end
# (App. B of MP3): the recipe of our CIFAR-10, for the same reasons.
#
# bash tools/dist_train.sh \
#     configs/transfer/classification/vit-base-p16_8xb96-coslr-1000e_stanford-cars.py \
#     8 --pretrained PRETRAINED.pth --amp
#
# Not run by this project. Reported by the paper: 91.8 after 150 epochs of MP3 with
# η = .75 (Tab. 7): see the config of CIFAR-10.
_base_ = './vit-base-p16_8xb256-coslr-150e_in1k.py'

model = dict(head=dict(num_classes=196))
data_preprocessor = dict(num_classes=196)

train_dataloader = dict(
    batch_size=768 // 8,
    dataset=dict(
        _delete_=True,
        type='mmpospretrain.StanfordCars',
        data_root='data/stanford_cars',
        split='train',
        pipeline=_base_.train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmpospretrain.StanfordCars',
        data_root='data/stanford_cars',
        split='test',
        pipeline=_base_.test_pipeline,
    ),
)
test_dataloader = val_dataloader

max_epochs = 1000
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = max_epochs
train_cfg = dict(max_epochs=max_epochs)
