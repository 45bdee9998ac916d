"""Each kind of remark is found where it was injected, and a clean log gets none."""

import gzip
import json
from collections import defaultdict
from copy import deepcopy

import pytest
from numpy.random import default_rng

from copies import ROOT
from research.linter import INJECTIONS, kinds_found, one_file
from worldmodel.core.params import read
from worldmodel.core.project import default_params
from worldmodel.linting.remarks import Limits

LIMITS = Limits(read(default_params()).prepare, history=8, horizon=16)
EPISODES = 20


@pytest.fixture(scope="module")
def episodes():
    """Some of the committed log's, of several agents."""
    found = defaultdict(list)
    with gzip.open(ROOT / "data/worldmodel/offline/halfcheetah.jsonl.gz", "rt") as lines:
        for line in lines:
            frame = json.loads(line)
            found[frame["meta"]["episode"]].append(frame)
    return list(found.values())[:EPISODES]


@pytest.mark.parametrize("kind", INJECTIONS)
def test_what_was_injected_is_found(episodes, kind):
    assert kind in kinds_found(INJECTIONS[kind](deepcopy(episodes), default_rng(1)), LIMITS)


def test_a_clean_log_gets_no_remark(episodes):
    assert kinds_found(one_file(deepcopy(episodes)), LIMITS) == []
