"""Other categories for files in COCO's format."""

import json
from pathlib import Path


def rename(folder: Path, names) -> None:
    """The categories of both files; those without a new name go with their objects."""
    for path in (folder / 'annotations').glob('*.json'):
        coco = json.loads(path.read_text())
        boxes = [a for a in coco['annotations'] if a['category_id'] <= len(names)]
        categories = [dict(id=k, name=name) for k, name in enumerate(names, start=1)]
        path.write_text(
            json.dumps({**coco, 'categories': categories, 'annotations': boxes})
        )
