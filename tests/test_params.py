import copy
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from factories import STAGES
from worldmodel.core import params

ROOT = Path(__file__).parents[1]
WHOLE = yaml.safe_load((ROOT / "params.yaml").read_text())
LEAVES = list(params.leaves(params.Params))

# leaf -> (least, most), as params.yaml's comments say; open ends are written as the nearest refused number
REFUSED = {
    "dreams.seed": (-1, 2**32),
    "dreams.episodes": (-1, 10**10),
    "dreams.length": (0, 1025),
    "dreams.action_noise": (-0.1, float("inf")),
    "dreams.start_noise": (-0.1, float("inf")),
    "dreams.directed_share": (-0.1, 1.1),
    "dreams.max_disagreement": (0.0, float("inf")),
    "dreams.teacher.members": (1, 65),
    "dreams.teacher.horizon": (0, 1025),
    "dreams.teacher.steps": (0, 10**10),
    "dreams.teacher.batch_size": (0, 10**10),
    "dreams.teacher.lr": (0.0, 1.1),
    "dreams.teacher.dropout": (-0.1, 1.0),
    "dreams.teacher.points": (-1, 20_001),
    "dreams.teacher.transition_steps": (-1, 10**10),
    "dreams.teacher.z_dim": (1, 4097),
    "dreams.teacher.hidden_dim": (0, 8193),
    "prepare.seed": (-1, 2**32),
    "prepare.val_share": (-0.1, 1.1),
    "prepare.test_share": (-0.1, 1.1),
    "prepare.train_episodes": (-1, 10**10),
    "prepare.max_gap_s": (0.0, float("inf")),
    "prepare.max_rejected_share": (-0.1, 1.1),
    "normalize.min_std": (0.0, float("inf")),
    "train.seed": (-1, 2**32),
    "train.rho": (-0.1, 1.1),
    "train.rho_start": (-0.1, 1.1),
    "train.history": (0, 1025),
    "train.horizon": (0, 1025),
    "train.z_dim": (1, 4097),
    "train.hidden_dim": (0, 8193),
    "train.batch_size": (0, 10**10),
    "train.lr": (0.0, 1.1),
    "train.steps": (0, 10**10),
    "train.nll_start": (-0.1, 1.1),
    "train.kl_weight": (-0.1, float("inf")),
    "train.contrastive_weight": (-0.1, float("inf")),
    "train.threads": (0, 257),
    "export.opset": (17, 24),
    "validate.horizon": (0, 1025),
    "validate.tolerance": (0.0, float("inf")),
    "validate.latency_calls": (0, 10**10),
}
CHOICES = {
    "dreams.source": ["teacher", "simulator", "repeat"],
    "prepare.split_by": ["episode", "agent"],
    "prepare.format": ["npz", "lmdb"],
    "normalize.method": ["standard", "minmax"],
    "train.rho_schedule": ["constant", "linear", "cosine"],
    "train.dream_weighting": ["none", "confidence"],
    "train.encoder": ["gru", "mlp", "transformer"],
    "train.numerics": ["portable", "fast"],
    "train.device": ["cpu", "cuda"],
}
NAMES = ["dreams.simulator"]  # text of the form module:function


def at(whole, leaf):
    """The section that holds a leaf, and the leaf's last name."""
    *sections, name = leaf.split(".")
    for section in sections:
        whole = whole[section]
    return whole, name


def written(folder, **changes):
    """params.yaml with other values: leaf (`__` for the dot) -> value."""
    whole = copy.deepcopy(WHOLE)
    for leaf, value in changes.items():
        section, name = at(whole, leaf.replace("__", "."))
        section[name] = value
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(whole))
    return path


def changed(folder, leaf, value):
    return written(folder, **{leaf.replace(".", "__"): value})


def mistakes(path):
    with pytest.raises(ValueError, match=r".") as caught:
        params.load(path, params.Params)
    return [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()]


def text(tmp_path, content):
    path = tmp_path / "params.yaml"
    path.write_text(content)
    return path


def test_the_committed_file_is_read_as_it_stands():
    assert asdict(params.load(ROOT / "params.yaml", params.Params)) == WHOLE


def test_every_leaf_has_a_test_of_its_range_choices_or_form():
    assert sorted(LEAVES) == sorted([*REFUSED, *CHOICES, *NAMES])


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_missing_key_is_named(tmp_path, leaf):
    whole = copy.deepcopy(WHOLE)
    section, name = at(whole, leaf)
    del section[name]
    assert mistakes(text(tmp_path, yaml.safe_dump(whole))) == [f"{leaf}: missing"]


@pytest.mark.parametrize("leaf", LEAVES)
@pytest.mark.parametrize("wrong", [True, None, [1], "a word"])
def test_a_value_of_another_type_is_named_with_what_was_found(tmp_path, leaf, wrong):
    (mistake,) = mistakes(changed(tmp_path, leaf, wrong))
    assert mistake.startswith(f"{leaf}: found {wrong!r}, expected ")


@pytest.mark.parametrize("leaf", [leaf for leaf, (_, most) in REFUSED.items() if isinstance(most, int)])
def test_a_fraction_is_no_integer(tmp_path, leaf):
    assert mistakes(changed(tmp_path, leaf, 2.5)) == [f"{leaf}: found 2.5, expected a valid integer"]


@pytest.mark.parametrize(
    ("leaf", "wrong"), [(leaf, value) for leaf, ends in REFUSED.items() for value in (*ends, float("nan"))]
)
def test_a_number_out_of_range_is_named(tmp_path, leaf, wrong):
    (mistake,) = mistakes(changed(tmp_path, leaf, wrong))
    assert mistake.startswith(f"{leaf}: found {wrong!r}, expected ")


@pytest.mark.parametrize(
    ("leaf", "edge"),
    [(leaf, edge) for leaf, (low, high) in REFUSED.items() if isinstance(high, int) for edge in (low + 1, high - 1)],
)
def test_the_ends_of_an_integer_range_belong_to_it(tmp_path, leaf, edge):
    edge = min(edge, 10**9)
    section, name = at(asdict(params.load(changed(tmp_path, leaf, edge), params.Params)), leaf)
    assert section[name] == edge


@pytest.mark.parametrize(("leaf", "choices"), CHOICES.items())
def test_a_choice_is_one_of_those_listed(tmp_path, leaf, choices):
    for choice in choices:
        section, name = at(asdict(params.load(changed(tmp_path, leaf, choice), params.Params)), leaf)
        assert section[name] == choice
    (mistake,) = mistakes(changed(tmp_path, leaf, "other"))
    assert all(f"'{choice}'" in mistake for choice in choices)


@pytest.mark.parametrize("name", ["mine:run", "my_folder.mine:run", "a.b.c2:_d"])
def test_a_callable_is_named_by_its_module_and_function(tmp_path, name):
    assert params.load(written(tmp_path, dreams__simulator=name), params.DreamsStage).dreams.simulator == name


@pytest.mark.parametrize("name", ["", "mine", "mine:", ":run", "mine:run()", "my-file:run", "a/b:run", "a..b:c"])
def test_what_names_no_function_is_refused_with_the_form(tmp_path, name):
    (mistake,) = mistakes(written(tmp_path, dreams__simulator=name))
    assert mistake == (
        f"dreams.simulator: found {name!r}, expected module:function, such as my_folder.my_file:my_function"
    )


def test_an_unknown_key_is_named_with_the_nearest_known_one(tmp_path):
    found = mistakes(written(tmp_path, train__horizont=16, dreams__teacher__step=3))
    assert sorted(found) == [
        "dreams.teacher.step: unknown key; did you mean dreams.teacher.steps?",
        "train.horizont: unknown key; did you mean train.horizon?",
    ]


def test_an_unknown_key_like_no_other_is_only_named(tmp_path):
    assert mistakes(written(tmp_path, qqqqqqqq=1)) == ["qqqqqqqq: unknown key"]


def test_every_mistake_is_listed_at_once(tmp_path):
    found = mistakes(written(tmp_path, train__lr=0, train__rho=True, prepare__seed=-1, validate__horizom=4))
    assert [line.split(":")[0] for line in found] == ["prepare.seed", "train.rho", "train.lr", "validate.horizom"]


def test_shares_that_leave_nothing_to_train_on_are_refused(tmp_path):
    (mistake,) = mistakes(written(tmp_path, prepare__val_share=0.4, prepare__test_share=0.6))
    assert mistake.startswith("prepare: val_share + test_share is 1, which leaves nothing to train on")


def test_a_section_that_is_no_section_is_named(tmp_path):
    (mistake,) = mistakes(written(tmp_path, train=3))
    assert mistake.startswith("train: ")


@pytest.mark.parametrize("number", ["1e-05", "1E-5", ".00001", "0.00001", "1.0e-5", "+1e-05"])
def test_a_small_number_is_a_number_in_every_spelling(tmp_path, number):
    lines = re.sub(r"(?m)^  lr: \S+", f"  lr: {number}", (ROOT / "params.yaml").read_text())
    assert params.load(text(tmp_path, lines), params.TrainStage).train.lr == 1e-5


@given(st.floats(1e-9, 1))
def test_any_rate_survives_a_dump_by_pyyaml(tmp_path_factory, rate):
    path = changed(tmp_path_factory.mktemp("params"), "train.lr", rate)
    assert params.load(path, params.TrainStage).train.lr == rate


def test_a_quoted_number_is_text(tmp_path):
    (mistake,) = mistakes(written(tmp_path, train__lr="1e-05x"))
    assert mistake == "train.lr: found '1e-05x', expected a valid number"


def test_an_integer_serves_as_a_float(tmp_path):
    assert params.load(written(tmp_path, prepare__max_gap_s=60), params.PrepareStage).prepare.max_gap_s == 60.0


@pytest.mark.parametrize(("content", "message"), [("a: [", "not YAML: "), ("- 1", "holds list, expected sections")])
def test_a_file_that_is_no_params_is_refused(tmp_path, content, message):
    assert mistakes(text(tmp_path, content))[0].startswith(message)


def test_a_missing_file_is_named(tmp_path):
    assert mistakes(tmp_path / "gone.yaml")[0].startswith("no such file")


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_holds_the_leaves_that_it_declares_and_no_others(name):
    found = params.load(ROOT / "params.yaml", STAGES[name])

    def held(value, prefix):
        for key, inner in value.items():
            yield from held(inner, f"{prefix}{key}.") if isinstance(inner, dict) else [prefix + key]

    assert sorted(held(asdict(found), "")) == sorted(params.leaves(STAGES[name]))
    for leaf in params.leaves(STAGES[name]):
        section, last = at(asdict(found), leaf)
        whole_section, _ = at(WHOLE, leaf)
        assert section[last] == whole_section[last]


def test_reading_what_a_stage_does_not_declare_is_an_error():
    dreams = params.load(ROOT / "params.yaml", params.DreamsStage)
    assert dreams.train.history == WHOLE["train"]["history"]
    with pytest.raises(AttributeError):
        dreams.train.rho  # noqa: B018
    with pytest.raises(AttributeError):
        dreams.validate  # noqa: B018
    with pytest.raises(AttributeError):
        params.load(ROOT / "params.yaml", params.PrepareStage).train  # noqa: B018


def test_params_are_never_written_to():
    found = params.load(ROOT / "params.yaml", params.TrainStage)
    with pytest.raises(AttributeError, match="cannot assign"):
        found.train.lr = 1.0


def test_a_mistake_anywhere_stops_every_stage(tmp_path):
    path = written(tmp_path, validate__horizon=0)
    with pytest.raises(ValueError, match=r"validate\.horizon"):
        params.load(path, params.NormalizeStage)


def test_rho_is_read_by_train_and_export_alone():
    assert {name for name, stage in STAGES.items() if "train.rho" in params.leaves(stage)} == {"train", "export"}


def test_a_key_that_stands_twice_is_named(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text().replace("  rho: ", "  rho: 0.4\n  rho: "))
    with pytest.raises(ValueError, match="'rho' stands there twice"):
        params.load(path, params.TrainStage)
