#!/usr/bin/env bash
# Run all six stages with ten training steps in a temporary copy of the working tree; leave nothing behind.
set -euo pipefail
cd "$(dirname "$0")/.."
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$copy"
cd "$copy"
git init --quiet
git add --all
git -c user.name=smoke -c user.email=smoke@example.invalid commit --quiet --message smoke
dvc exp run --quiet -S train.steps=10 -S dreams.teacher.steps=10 -S dreams.episodes=64
dvc metrics show artifacts/metrics.json
