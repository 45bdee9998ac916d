"""Train a world model on logs of yours, without DVC; the same as `worldmodel train`.

python examples/train_worldmodel.py --logs my-logs --out my-model --epochs 5 --rho 0.3
"""

import sys

from worldmodel.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
