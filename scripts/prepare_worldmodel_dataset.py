"""Mix logs and dreams into one data set, without DVC; the same as `worldmodel prepare`.

python scripts/prepare_worldmodel_dataset.py --logs my-logs --out my-dataset --format jsonl
"""

import sys

from worldmodel.cli import main

if __name__ == "__main__":
    main(["prepare", *sys.argv[1:]])
