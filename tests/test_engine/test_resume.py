"""A resume that differs from its beginning: it takes effect and says so, or refuses."""

import pytest
from resumes import (
    COSINE,
    ITER_SAVING,
    UNTIL_4,
    WARMUP,
    edit,
    log,
    plateau,
    rates,
    said,
)
from trainings import assert_same

from mmpospretrain.engine.hooks.scalar_schedule import Schedule
from mmpospretrain.zoo.loading import load_checkpoint_file

# --- nothing differs


@pytest.mark.parametrize('moved', ['', 'elsewhere'])
def test_what_does_not_differ_is_silent_and_exact(run, begun, tmp_path, moved):
    whole = run('whole')
    if moved:
        begun = begun.rename(tmp_path / moved)
    resumed = run(begun.name, True)
    assert said(resumed) == ['train_cfg.max_epochs was 2, is 4']
    assert rates(resumed) == rates(whole)
    one, other = (
        load_checkpoint_file(tmp_path / work / 'epoch_4.pth')
        for work in ('whole', begun.name)
    )
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert_same(one[part], other[part], part)
    again = run(begun.name, True)
    assert said(again) == []
    assert 'Nothing is left to do: 24 of 24' in log(again)


def test_what_hooks_schedule_is_no_difference(run, tmp_path):
    """A weight decay that has grown is not one that was changed."""
    hook = dict(type='mmpospretrain.WeightDecayScheduleHook', start=0.1, end=0.4)
    changes = {'custom_hooks': [hook]}
    whole = run('work', **changes)
    resumed = run('work', tmp_path / 'work/epoch_2.pth', **changes)
    assert said(resumed) == []
    one, other = (
        [g['weight_decay'] for g in r.optim_wrapper.param_groups[:-1]]
        for r in (whole, resumed)
    )
    assert one == other


# --- schedules

LATER = {'train_cfg.max_epochs': 4}
EPOCHS = dict(begin=0, convert_to_iter_based=True)
ITERATIONS = dict(by_epoch=False, begin=0)


def longer(**schedule) -> tuple[dict, dict]:
    """One schedule that ends after two epochs, then after four."""
    return tuple(
        {'param_scheduler': [{**schedule, 'end': end}], 'train_cfg.max_epochs': end}
        for end in (2, 4)
    )


def other(before: dict, after: dict, **common) -> tuple[dict, dict]:
    """One schedule with other options."""
    return tuple(
        {'param_scheduler': [{**common, **part}], 'train_cfg.max_epochs': epochs}
        for part, epochs in ((before, 2), (after, 4))
    )


SCHEDULES = {
    'cosine': longer(type='CosineAnnealingLR', **EPOCHS),
    'cosine by epochs': longer(type='CosineAnnealingLR', begin=0),
    'cosine of beta': longer(type='CosineAnnealingMomentum', eta_min=0.5, **EPOCHS),
    'power': longer(type='PolyLR', power=0.9, **EPOCHS),
    'linear': longer(type='LinearLR', start_factor=1.0, end_factor=0.1, **EPOCHS),
    'one cycle': longer(type='OneCycleLR', eta_max=0.02, **EPOCHS),
    'without an end': (
        {
            'param_scheduler': [dict(type='CosineAnnealingLR', **ITERATIONS)],
            'train_cfg.max_epochs': 2,
        },
        {'param_scheduler': [dict(type='CosineAnnealingLR', **ITERATIONS)]},
    ),
    'restarts': other(
        dict(periods=[1, 1], restart_weights=[1, 0.5]),
        dict(periods=[2, 2], restart_weights=[1, 0.5]),
        type='CosineRestartLR',
        eta_min=0.0,
        convert_to_iter_based=True,
    ),
    'milestones': other(
        dict(milestones=[1]),
        dict(milestones=[2, 3]),
        type='MultiStepLR',
        convert_to_iter_based=True,
    ),
    'another kind': other(
        dict(type='CosineAnnealingLR', eta_min=1e-4),
        dict(type='PolyLR', eta_min=1e-3),
        convert_to_iter_based=True,
    ),
    'another warm-up': (
        {**UNTIL_4, 'train_cfg.max_epochs': 2},
        {**UNTIL_4, 'param_scheduler.0.start_factor': 0.5},
    ),
    'a longer warm-up': (
        {**UNTIL_4, 'train_cfg.max_epochs': 2},
        {'param_scheduler.0.end': 3, 'param_scheduler.1.begin': 3},
    ),
    'shorter': (
        {'train_cfg.max_epochs': 2},
        {'train_cfg.max_epochs': 3, 'param_scheduler.1.end': 3},
    ),
    'taken away': (
        {'train_cfg.max_epochs': 2},
        {'param_scheduler': [WARMUP]},
    ),
    'added': (
        {'train_cfg.max_epochs': 2, 'param_scheduler': [WARMUP]},
        {'param_scheduler': [WARMUP, COSINE]},
    ),
    'learning rate': (
        {'train_cfg.max_epochs': 2},
        {'optim_wrapper.optimizer.lr': 0.02},
    ),
    'its base': ({'train_cfg.max_epochs': 2}, {'auto_scale_lr.base_batch_size': 4}),
    'of layers': (
        {'train_cfg.max_epochs': 2},
        {'optim_wrapper.paramwise_cfg.custom_keys': {'first': dict(lr_mult=0.5)}},
    ),
}


@pytest.mark.parametrize('case', SCHEDULES)
def test_schedules_are_those_of_the_config(run, tmp_path, case):
    """From the resume on, as if they had been so from the beginning."""
    before, after = SCHEDULES[case]
    run('work', **before)
    resumed, whole = run('work', True, **after), run('whole', **after)
    length = 6
    assert rates(resumed)[2 * length :] == rates(whole)[2 * length :]
    one, other = (
        {k: v for k, v in g.items() if k != 'params'}
        for r in (resumed, whole)
        for g in r.optim_wrapper.param_groups[:1]
    )
    assert one == other
    lines = [line for line in said(resumed) if not line.startswith('train_cfg.')]
    assert lines, said(resumed)
    assert any('schedul' in line or line.startswith('lr ') for line in lines)
    # And they are kept where nothing differs any more.
    again = run('work', tmp_path / 'work/epoch_3.pth', **after)
    assert said(again) == []


def test_a_schedule_that_has_ended_is_told_of(run):
    """Raising the epochs alone leaves the learning rate where it ended."""
    first, _ = SCHEDULES['cosine']
    run('work', **first)
    resumed = run('work', True, **{**first, **LATER})
    assert said(resumed)[0] == 'train_cfg.max_epochs was 2, is 4'
    assert said(resumed)[1].startswith('no schedule is left')


def test_a_rate_that_follows_a_metric(run):
    """What it has seen can't be had again: it is kept, or the resume refused.

    Had the best score been lost, the one of epoch 3 would be the first.
    """
    run('work', **plateau(**{'train_cfg.max_epochs': 2}))
    resumed = run('work', True, **plateau())
    assert [line.split()[0] for line in said(resumed)] == [
        'train_cfg.max_epochs',
        'param_scheduler.0',
    ]
    assert rates(resumed)[::6] == [0.01, 0.01, 0.01, 0.005]
    with pytest.raises(ValueError, match='follows a metric'):
        run('work', True, **plateau(**{'optim_wrapper.optimizer.lr': 0.1}))


# --- the optimizer

OPTIONS = {
    'weight_decay': (0.3, 'weight_decay was 0.1, is 0.3 in 2 of 4 groups'),
    'betas': ((0.5, 0.9), 'betas was (0.9, 0.999), is (0.5, 0.9) in 4 of 4 groups'),
    'eps': (1e-6, 'eps was 1e-08, is 1e-06 in 4 of 4 groups'),
    'maximize': (True, 'maximize was False, is True in 4 of 4 groups'),
}


@pytest.mark.parametrize('name', OPTIONS)
def test_options_of_the_optimizer_take_effect(run, begun, name):
    value, line = OPTIONS[name]
    if name == 'eps':  # also where the checkpoint does not say its config
        edit(begun / 'epoch_2.pth', lambda c: c['meta'].pop('cfg'))
    resumed = run('begun', True, **{f'optim_wrapper.optimizer.{name}': value})
    assert line in said(resumed)
    assert resumed.optim_wrapper.param_groups[0][name] == value
    state = resumed.optim_wrapper.optimizer.state_dict()['state'][0]
    assert state['step'] == 4 * 6  # its memory was kept


SGD = dict(type='SGD', lr=0.1, weight_decay=0.1, _delete_=True)
REFUSED = {
    'SGD': (
        {'optim_wrapper.optimizer': SGD},
        'SGD',
    ),
    'Adam': ({'optim_wrapper.optimizer.type': 'Adam'}, "was 'AdamW', is 'Adam'"),
    'amsgrad': ({'optim_wrapper.optimizer.amsgrad': True}, 'amsgrad was False'),
    'groups': (
        {'optim_wrapper.constructor': 'mmpospretrain.MergedGroupsConstructor'},
        'had 4 groups of 4 parameters',
    ),
    'one group': ({'optim_wrapper.paramwise_cfg': None}, 'has 1 groups of 4'),
    'loop': (
        {'train_cfg': dict(by_epoch=False, max_iters=24, _delete_=True)},
        'counted epochs, this one counts iterations',
    ),
}


@pytest.mark.parametrize('case', REFUSED)
def test_what_cannot_take_effect_is_refused_with_the_way(run, begun, case):
    changes, words = REFUSED[case]
    with pytest.raises(ValueError, match='cannot resume from') as error:
        run('begun', True, **changes)
    assert words in str(error.value)
    assert 'load_from=' in str(error.value)
    assert not (begun / 'epoch_3.pth').exists()


def test_another_optimizer_is_known_without_the_config(run, begun):
    edit(begun / 'epoch_2.pth', lambda c: c['meta'].pop('cfg'))
    with pytest.raises(ValueError, match='it has no dampening, momentum'):
        run('begun', True, **REFUSED['SGD'][0])


def test_iterations_do_not_become_epochs(run):
    by_iteration = {'train_cfg': dict(by_epoch=False, max_iters=12, _delete_=True)}
    saving = {f'default_hooks.checkpoint.{k}': v for k, v in ITER_SAVING.items()}
    run('work', **by_iteration, **saving)
    with pytest.raises(ValueError, match='counted iterations, this one counts epochs'):
        run('work', True)


# --- how far it has come

COUNTS = {
    'a double batch': ({'train_dataloader.batch_size': 4}, 3),
    'half the batch': ({'train_dataloader.batch_size': 1}, 12),
    'more data': ({'train_dataloader.dataset.length': 20}, 10),
    'less data': ({'train_dataloader.dataset.length': 8}, 4),
}
SIGMA = dict(type='mmpospretrain.ScalarScheduleHook', target='sigma', start=1, end=0)


@pytest.mark.parametrize('case', COUNTS)
def test_epochs_done_are_done_whatever_their_length(run, tmp_path, case):
    changes, length = COUNTS[case]
    hooks = {'custom_hooks': [SIGMA]}
    run('work', **hooks, **{'train_cfg.max_epochs': 2, **UNTIL_4})
    if (
        'batch' in case
    ):  # older than the notes of processes and of the length of an epoch
        for key in ('epoch_length', 'processes'):
            edit(tmp_path / 'work/epoch_2.pth', lambda c, k=key: c['meta'].pop(k))
    resumed, whole = run('work', True, **hooks, **changes), run('w', **hooks, **changes)
    done = f'{2 * length}: 2 epochs of {length}'
    assert f'the number of iterations done was 12, is {done}' in said(resumed)
    assert resumed.iter == resumed.max_iters == 4 * length
    left = 2 * length
    assert rates(resumed)[-left:] == rates(whole)[-left:]
    assert resumed.model.sigma == whole.model.sigma > 0


def test_accumulation(run, begun):
    """The learning rate follows the batch, the iterations stay."""
    changes = {'optim_wrapper.accumulative_counts': 2}
    resumed, whole = run('begun', True, **changes), run('whole', **changes)
    assert rates(resumed)[12:] == rates(whole)[12:]
    assert 'optim_wrapper.accumulative_counts was not set, is 2' in said(resumed)
    assert 'lr was 0.01, is 0.02 in 4 of 4 groups' in said(resumed)


def test_processes_are_compared(run, begun):
    edit(begun / 'epoch_2.pth', lambda c: c['meta'].update(processes=2))
    assert 'the number of processes was 2, is 1' in said(run('begun', True))


def test_an_epoch_that_was_left_begins_again(run, tmp_path):
    saving = {f'default_hooks.checkpoint.{k}': v for k, v in ITER_SAVING.items()}
    run('work', **saving)
    resumed = run('work', tmp_path / 'work/iter_16.pth')
    (line,) = said(resumed)
    assert line == 'the number of iterations done was 16, is 12: 2 epochs of 6'
    assert resumed.iter == 24
    assert rates(resumed)[16:] == rates(run('whole'))[12:]
    # At the end of an epoch there is nothing to begin again.
    assert said(run('work', tmp_path / 'work/iter_12.pth', **saving)) == []


def test_by_iterations(run):
    """They stay what they are, and their schedules can be planned anew."""

    def changes(end):
        schedule = dict(type='PolyLR', power=0.9, end=end, **ITERATIONS)
        loop = dict(by_epoch=False, max_iters=end, _delete_=True)
        saving = {f'default_hooks.checkpoint.{k}': v for k, v in ITER_SAVING.items()}
        endless = {'train_dataloader.sampler.type': 'InfiniteSampler'}
        return {'train_cfg': loop, 'param_scheduler': [schedule], **saving, **endless}

    run('work', **changes(12))
    batch = {'train_dataloader.batch_size': 4}
    resumed = run('work', True, **changes(20), **batch)
    whole = run('whole', **changes(20), **batch)
    assert rates(resumed)[12:] == rates(whole)[12:]
    assert 'train_dataloader.batch_size was 2, is 4' in said(resumed)
    assert resumed.iter == 20


def test_other_options_are_told_of(run, begun):
    changes = {
        'randomness.seed': 5,
        'optim_wrapper.clip_grad': dict(max_norm=1.0),
        'train_dataloader.dataset.classes': ('b', 'a'),
    }
    resumed = run('begun', True, **changes)
    assert resumed.seed == 5
    lines = said(resumed)
    assert 'randomness.seed was 0, is 5' in lines
    assert "optim_wrapper.clip_grad was not set, is {'max_norm': 1.0}" in lines
    assert "metainfo.classes was ('a', 'b'), is ('b', 'a')" in lines


@pytest.mark.parametrize('step', [-3, 0, 8, 11, 40])
@pytest.mark.parametrize('shape', ['linear', 'cosine'])
def test_schedules_of_numbers_stay_between_their_ends(shape, step):
    value = Schedule(0.996, 1.0, shape).value(step, 8)
    assert 0.996 <= value <= 1.0
    assert (value == 1.0) == (step >= 8)
