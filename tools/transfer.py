"""Is a pre-trained backbone better? ``python tools/transfer.py CHECKPOINT``.

Fine-tunes for detection, segmentation and classification from the checkpoint and from
the baseline, each several times, by ``tools/train.py``; then writes ``report.json`` and
the page ``index.html`` into the work dir. What is done is not done again: after Ctrl-C
the same command goes on.
"""

import argparse
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description='Compare a pre-trained backbone with a baseline on other tasks.'
    )
    parser.add_argument('checkpoint', help='of the pre-training')
    parser.add_argument(
        '--tasks',
        nargs='+',
        choices=('detection', 'segmentation', 'classification'),
        default=['detection', 'segmentation', 'classification'],
        help='default: all',
    )
    parser.add_argument(
        '--recipe',
        choices=('photoshapes', 'droppos', 'posfield'),
        default='photoshapes',
        help="the embedded data set's, or a paper's (default: photoshapes)",
    )
    parser.add_argument(
        '--config',
        nargs='+',
        default=[],
        metavar='TASK=FILE',
        help='another config for a task',
    )
    parser.add_argument(
        '--data',
        nargs='+',
        default=[],
        metavar='[TASK=]DIR',
        help='where the data is, for all tasks or one (default: as the configs say)',
    )
    parser.add_argument(
        '--baseline',
        default='scratch',
        metavar='scratch|none|PATH',
        help='what to compare with: scratch, nothing, or another checkpoint',
    )
    parser.add_argument(
        '--seeds',
        nargs='+',
        default=['3'],
        metavar='[TASK=]N',
        help='trainings from each start (default: 3)',
    )
    parser.add_argument(
        '--jobs', type=int, default=1, help='trainings at once (default: 1)'
    )
    parser.add_argument(
        '--gpus', type=int, default=1, help='of each training (default: 1)'
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        default='work_dirs/transfer',
        help='where everything goes (default: work_dirs/transfer)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        metavar='TASK.KEY=VALUE',
        help='override config entries: segmentation.train_cfg.max_iters=1000',
    )
    return parser.parse_args()


if __name__ == '__main__':
    args = parse_args()  # first: the imports below take seconds

import pooch

from mmpospretrain.engine.cli import facts, read_options
from mmpospretrain.engine.errors import readable_errors
from mmpospretrain.engine.pool import JobPool
from mmpospretrain.evaluation.study import Study
from mmpospretrain.evaluation.transfer import (
    RECIPES,
    TASKS,
    overall,
    spread,
)
from mmpospretrain.visualization import (
    Picture,
    Section,
    render_page,
)

PRETRAINED = 'pre-trained'


def from_root(path: str) -> str:
    """A path as commands in the root of the repository see it; others as they are."""
    if '://' in path or path in ('scratch', 'none'):
        return path
    absolute = Path(path).expanduser().resolve()
    inside = absolute.is_relative_to(ROOT)
    return str(absolute.relative_to(ROOT) if inside else absolute)


def by_task(entries: list[str], tasks: list[str], name: str) -> dict[str, str]:
    """``['DIR', 'detection=OTHER']`` by task; what names no task is for all.

    Raises:
        ValueError: If an entry is for a task that there is not.
    """
    found = {}
    for entry in sorted(entries, key=lambda entry: '=' in entry):
        task, equals, value = entry.partition('=')
        if equals and task not in TASKS:
            raise ValueError(f'{name} {entry}: {task!r} is none of {", ".join(TASKS)}')
        found.update({task: value} if equals else dict.fromkeys(tasks, entry))
    return found


def compare(study: Study) -> str:
    """The result of a task in a sentence."""
    results, comparison = study.results(), study.comparison()
    title = study.task.metrics[study.task.headline]
    values = ', '.join(
        f'{start} {spread(metrics[title])}' for start, metrics in results.items()
    )
    if comparison is None:
        return f'{study.name}: {title} {values}'
    return (
        f'{study.name}: {title} {values}: {comparison.difference:+.1f}, '
        f'{comparison.verdict()}'
    )


def section(study: Study) -> Section:
    """Section of a task on the page; draws its pictures."""
    curves, predictions = (
        study.folder / name for name in ('curves.png', 'predictions.png')
    )
    study.draw_curves(curves)
    study.draw_predictions(predictions)
    results = study.results()
    rows = [['start', *study.task.metrics.values()]]
    rows += [
        [start, *(spread(values) for values in metrics.values())]
        for start, metrics in results.items()
    ]
    jobs = study.jobs()
    headline = study.task.metrics[study.task.headline]
    best = '; as many detections as objects' * (study.name == 'detection')
    several = study.seeds > 1  # or else there is no mean
    each = ': each seed, and the mean' * several
    spreads = ', with mean ± standard deviation' * several
    pictures = [
        (curves, f'{headline} on the validation images{each}'),
        (predictions, f'The first validation images, and the models of seed 0{best}'),
    ]
    return Section(
        title=study.name.capitalize(),
        text=f'{compare(study).partition(": ")[2]}. In percent; seeds: {study.seeds}'
        f'{spreads}. The last validation of each training counts. '
        'All starts have the same recipe and the same data.',
        pictures=[
            Picture(f'{study.name}/{path.name}', caption, f'{study.name}: {caption}')
            for path, caption in pictures
        ],
        command='\n'.join(job.command for job in jobs),
        seconds=sum(job.read()['seconds'] for job in jobs),
        table=rows,
    )


def plan(args: argparse.Namespace) -> list[Study]:
    """The studies that the command line asks for.

    Raises:
        ValueError: If an argument names no task, or there is no seed.
    """
    given = by_task(args.config, args.tasks, '--config')
    configs = {**RECIPES[args.recipe], **{t: from_root(c) for t, c in given.items()}}
    data = by_task(args.data, args.tasks, '--data')
    seeds = by_task(['3', *args.seeds], args.tasks, '--seeds')
    for number in seeds.values():
        if not number.isdecimal() or int(number) < 1:
            raise ValueError(f'--seeds must be at least 1, got {number}')
    starts = {PRETRAINED: from_root(args.checkpoint)}
    if args.baseline == 'scratch':
        starts['scratch'] = 'none'
    elif args.baseline != 'none':
        starts['baseline'] = from_root(args.baseline)
    options: dict[str, dict] = {task: {} for task in TASKS}
    for key, value in read_options(args.cfg_options).items():
        task, _, rest = key.partition('.')
        if task not in TASKS or not rest:
            raise ValueError(
                f'--cfg-options {key}: begin with a task, as in '
                'segmentation.train_cfg.max_iters=1000'
            )
        options[task][rest] = value
    return [
        Study(
            name=task,
            config=configs[task],
            data=from_root(data[task]) if task in data else None,
            options=options[task],
            starts=starts,
            seeds=int(seeds[task]),
            gpus=args.gpus,
            folder=args.work_dir / task,
        )
        for task in args.tasks
    ]


def remember(work_dir: Path, studies: list[Study]) -> dict[str, str]:
    """Keep what the results in a work dir are of.

    Returns:
        SHA-256 of the checkpoints, by start.

    Raises:
        ValueError: If it holds results of something else.
    """
    hashes = {
        start: pooch.file_hash(path) if Path(path).is_file() else path
        for start, path in studies[0].starts.items()
    }
    now = {
        study.name: json.loads(json.dumps([hashes, study.cfg.to_dict()], default=str))
        for study in studies
    }
    path = work_dir / 'transfer.json'
    before = json.loads(path.read_text(encoding='utf-8')) if path.exists() else {}
    for study in studies:
        begun = [*study.folder.glob('*/*/last_checkpoint')]
        if begun and before.get(study.name) != now[study.name]:
            raise ValueError(
                f'{work_dir} holds {study.name} results of another checkpoint, config '
                'or baseline: give another --work-dir, or delete it'
            )
    work_dir.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**before, **now}, indent=1), encoding='utf-8')
    return hashes


def write_report(work_dir: Path, studies: list[Study], hashes: dict[str, str]) -> None:
    """Write ``report.json`` and ``index.html``."""
    sections = [section(study) for study in studies]
    lines = [compare(study) for study in studies]
    report = dict(
        starts=studies[0].starts,
        sha256=hashes,
        tasks={
            study.name: dict(
                config=study.config,
                seeds=study.seeds,
                summary=compare(study),
                results=study.results(),
                difference=getattr(study.comparison(), 'difference', None),
                standard_error=getattr(study.comparison(), 'standard_error', None),
                commands=[job.command for job in study.jobs()],
            )
            for study in studies
        },
        facts=facts(),
    )
    html = render_page(
        title='Transfer of a pre-trained backbone',
        introduction=f'{studies[0].starts[PRETRAINED]}, fine-tuned and compared. Each '
        'command is to be run from the root of the repository.',
        verdict='; '.join(lines),
        outcome=overall(study.comparison() for study in studies),
        sections=sections,
        facts=facts(),
    )
    (work_dir / 'index.html').write_text(html, encoding='utf-8')
    text = json.dumps(report, indent=2) + '\n'
    (work_dir / 'report.json').write_text(text, encoding='utf-8')
    print('\n'.join(lines))
    print(f'The page: {(work_dir / "index.html").resolve()}')


def main(args: argparse.Namespace) -> None:
    """Check everything, run what is not done yet, and report."""
    args.work_dir = Path(from_root(str(args.work_dir)))
    with readable_errors():
        studies = plan(args)
        os.chdir(ROOT)
        for study in studies:
            study.check()
        hashes = remember(args.work_dir, studies)
        try:
            jobs = [job for study in studies for job in study.jobs()]
            JobPool(args.jobs, cwd=ROOT).run(jobs)
        except KeyboardInterrupt:
            print('\ninterrupted; the same command goes on from here', file=sys.stderr)
            sys.exit(130)
        write_report(args.work_dir, studies, hashes)


if __name__ == '__main__':
    main(args)
