#!/usr/bin/env bash
# Run all six stages with ten training steps in a temporary copy of the working tree; leave nothing behind.
set -euo pipefail
cd "$(dirname "$0")/.."
copy=$(mktemp -d) || { echo "error: no room for temporary files; set TMPDIR to a folder that has" >&2; exit 1; }
trap 'code=$?
    [ "$code" = 0 ] || echo "error: failed in $copy, whose disk has $(df -Pm "$copy" | awk "NR == 2 { print \$4 }") MiB free;" \
        "if that is too little, set TMPDIR to a folder that has more" >&2
    rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard |
    while IFS= read -r -d "" file; do [ ! -e "$file" ] || printf "%s\0" "$file"; done |
    tar -cf - --null -T - | tar -xf - -C "$copy"
cd "$copy"
git init --quiet
git add --all
git -c user.name=smoke -c user.email=smoke@example.invalid commit --quiet --no-verify --no-gpg-sign --message smoke
dvc config --local cache.dir cache  # not one that others share
dvc exp run --quiet -S train.steps=10 -S train.policy_steps=10 -S dreams.teacher.steps=10 -S dreams.episodes=64 \
    -S dreams.teacher.transition_steps=10 -S dreams.teacher.points=200
dvc metrics show artifacts/metrics.json
