import copy
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import load_yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from copies import ROOT
from factories import STAGES
from worldmodel.core import params
from worldmodel.core.yaml12 import read_yaml

FILE = Path("params.yaml")
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
    "dreams.teacher.z_dim": (3, 4097),
    "dreams.teacher.hidden_dim": (0, 8193),
    "prepare.seed": (-1, 2**32),
    "prepare.val_share": (-0.1, 1.1),
    "prepare.test_share": (-0.1, 1.1),
    "prepare.train_episodes": (-1, 10**10),
    "prepare.margin": (-1, 10**10),
    "prepare.max_gap_s": (0.0, float("inf")),
    "prepare.max_length_s": (0.0, float("inf")),
    "prepare.resample_s": (0.0, float("inf")),
    "prepare.max_rejected_share": (-0.1, 1.1),
    "normalize.min_std": (0.0, float("inf")),
    "train.seed": (-1, 2**32),
    "train.rho": (-0.1, 1.1),
    "train.rho_start": (-0.1, 1.1),
    "train.history": (0, 1025),
    "train.horizon": (0, 1025),
    "train.z_dim": (3, 4097),
    "train.hidden_dim": (0, 8193),
    "train.batch_size": (0, 10**10),
    "train.lr": (0.0, 1.1),
    "train.steps": (0, 10**10),
    "train.nll_start": (-0.1, 1.1),
    "train.kl_weight": (-0.1, float("inf")),
    "train.contrastive_weight": (-0.1, float("inf")),
    "train.policy_steps": (-1, 10**10),
    "train.threads": (0, 257),
    "export.opset": (17, 24),
    "validate.horizon": (0, 1025),
    "validate.tolerance": (0.0, float("inf")),
    "validate.latency_calls": (0, 10**10),
}
CHOICES = {
    "dreams.source": ["teacher", "simulator", "repeat"],
    "prepare.split_by": ["episode", "agent", "time"],
    "prepare.missing": ["refuse", "mask"],
    "prepare.format": ["npz", "lmdb"],
    "normalize.method": ["standard", "minmax"],
    "train.rho_schedule": ["constant", "linear", "cosine"],
    "train.dream_weighting": ["none", "confidence"],
    "train.encoder": ["gru", "mlp", "transformer"],
    "train.numerics": ["portable", "fast"],
    "train.device": ["cpu", "cuda"],
}
NULLABLE = [(leaf, None) for leaf in ("train.rho_start", "prepare.max_length_s", "prepare.resample_s")]
NAMES = ["dreams.simulator"]  # text of the form module:function


def at(whole, leaf):
    """The section that holds a leaf, and the leaf's last name."""
    *sections, name = leaf.split(".")
    for section in sections:
        whole = whole[section]
    return whole, name


def changed(values):
    """What params.yaml holds, with other values: leaf -> value."""
    whole = copy.deepcopy(WHOLE)
    for leaf, value in values.items():
        section, name = at(whole, leaf)
        section[name] = value
    return whole


def checked(leaf, value, others=None):
    """The value of a leaf once it is checked, with what others have to be for it."""
    section, name = at(asdict(params.check(changed({leaf: value} | (others or {})), FILE)), leaf)
    return section[name]


def mistakes(given):
    """Of values that are checked, or of a file that is read."""
    path = FILE if isinstance(given, Mapping) else given
    with pytest.raises(ValueError, match=r".") as caught:
        params.check(given, path) if isinstance(given, Mapping) else params.load(path, params.Params)
    return [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()]


def test_the_committed_file_is_read_as_it_stands():
    assert asdict(params.load(ROOT / "params.yaml", params.Params)) == WHOLE


def test_every_leaf_has_a_test_of_its_range_choices_or_form():
    assert sorted(LEAVES) == sorted([*REFUSED, *CHOICES, *NAMES])


def test_a_missing_key_is_named():
    for leaf in LEAVES:
        whole = copy.deepcopy(WHOLE)
        section, name = at(whole, leaf)
        del section[name]
        assert mistakes(whole) == [f"{leaf}: missing"]


def test_a_value_of_another_type_or_out_of_range_is_named_with_what_was_found_and_expected():
    wrong = [(leaf, value) for leaf in LEAVES for value in (True, None, [1], "a word")]
    wrong = [each for each in wrong if each not in NULLABLE]
    wrong += [(leaf, value) for leaf, ends in REFUSED.items() for value in (*ends, float("nan"))]
    wrong += [(leaf, "other") for leaf in CHOICES]
    for leaf, value in wrong:
        (mistake,) = mistakes(changed({leaf: value}))
        assert mistake.startswith(f"{leaf}: found {value!r}, expected ")
        assert all(f"'{choice}'" in mistake for choice in CHOICES.get(leaf, []))


def test_integers_are_whole_and_the_ends_of_their_range_belong_to_it():
    for leaf, (low, high) in REFUSED.items():
        if isinstance(high, int):
            assert mistakes(changed({leaf: 2.5})) == [f"{leaf}: found 2.5, expected a valid integer"]
            least, most = low + 1, min(high - 1, 10**9)
            others = {"train.rho": 0, "train.horizon": 1024, "validate.horizon": 1}  # which go with any of them
            others.pop(leaf, None)
            assert [checked(leaf, value, others) for value in (least, most)] == [least, most]


def test_all_choices_are_taken_and_an_integer_serves_as_a_float():
    also = {"linear": {"train.rho_start": 0.0}, "cosine": {"train.rho_start": 0.0}}
    for leaf, choice in ((leaf, choice) for leaf, choices in CHOICES.items() for choice in choices):
        assert checked(leaf, choice, also.get(choice)) == choice
    assert checked("prepare.max_gap_s", 60) == 60.0


def test_a_callable_is_named_by_its_module_and_function():
    for name in ("mine:run", "my_folder.mine:run", "a.b.c2:_d"):
        assert checked("dreams.simulator", name) == name
    for name in ("", "mine", "mine:", ":run", "mine:run()", "my-file:run", "a/b:run", "a..b:c"):
        form = "expected module:function, such as my_folder.my_file:my_function"
        assert mistakes(changed({"dreams.simulator": name})) == [f"dreams.simulator: found {name!r}, {form}"]


def test_every_mistake_is_listed_at_once_an_unknown_key_with_the_nearest_known_one():
    values = {"train.lr": 0, "train.rho": True, "prepare.seed": -1, "dreams.teacher.step": 3, "validate.horizom": 4}
    found = sorted(mistakes(changed(values | {"qqqqqqqq": 1})))
    assert found[0] == "dreams.teacher.step: unknown key; did you mean dreams.teacher.steps?"
    assert [line.split(":")[0] for line in found[1:4]] == ["prepare.seed", "qqqqqqqq", "train.lr"]
    assert found[2] == "qqqqqqqq: unknown key"
    assert found[4:][1:] == ["validate.horizom: unknown key; did you mean validate.horizon?"]


def test_shares_that_leave_nothing_to_train_on_are_refused():
    (mistake,) = mistakes(changed({"prepare.val_share": 0.4, "prepare.test_share": 0.6}))
    assert mistake.startswith("prepare: val_share + test_share is 1, which leaves nothing to train on")


def test_what_is_no_file_of_sections_is_refused_with_what_it_is(tmp_path):
    path = tmp_path / "params.yaml"
    assert mistakes(path)[0].startswith("no such file")
    committed = (ROOT / "params.yaml").read_text()
    for text, message in [
        ("a: [", "not YAML: "),
        ("- 1", "holds list, expected sections"),
        (yaml.safe_dump(WHOLE | {"train": 3}), "train: "),
        (committed.replace("  rho: ", "  rho: 0.4\n  rho: "), "train: found the key rho twice (line"),
        (
            committed.replace("  lr: 0.003", "  lr: '1e-05x'"),
            "dreams.teacher.lr: found '1e-05x', expected a valid number",
        ),
    ]:
        path.write_text(text)
        assert mistakes(path)[0].startswith(message)


@settings(max_examples=20)
@given(st.floats(1e-9, 1))
@example(1e-5)
def test_a_small_number_is_a_number_in_every_spelling(tmp_path_factory, rate):
    path = tmp_path_factory.getbasetemp() / "params.yaml"
    path.write_text(yaml.safe_dump(changed({"train.lr": rate})))
    assert params.load(path, params.TrainStage).train.lr == rate
    if rate == 1e-5:
        for number in ("1e-05", "1E-5", ".00001", "0.00001", "1.0e-5", "+1e-05"):
            path.write_text(re.sub(r"(?m)^  lr: \S+", f"  lr: {number}", (ROOT / "params.yaml").read_text()))
            assert params.load(path, params.TrainStage).train.lr == 1e-5


DIGITS = st.text("0123456789", min_size=1, max_size=4)
SIGN = st.sampled_from(["", "-", "+"])
INNER = st.sampled_from(["", ".", "_", ":", "-", "e", "E", ".e", ".5e", "e-", "x", "0x", "o", "0b", ".."])
SCALARS = (
    st.builds("{}{}{}{}".format, SIGN, DIGITS | st.just(""), INNER, DIGITS)
    | st.text("0123456789abefinoxy_.:+-~", min_size=1, max_size=8)
    | st.floats().map(repr)
    | st.dates().map(str)
    | st.datetimes().map(str)
    | st.sampled_from(
        ["y", "n", "Yes", "no", "ON", "True", "FALSE", "null", "~", "<<", "=", "!!int", "&a", "*a", "'yes'"]
    )
    | st.sampled_from([".inf", "+.inf", "-.INF", ".NaN"])
)


def read(path):
    """What a file holds, or None, and how it was refused."""
    try:
        return read_yaml(path), ""
    except ValueError as error:
        return None, str(error)


@settings(max_examples=300)
@given(SCALARS)
def test_a_scalar_is_what_dvc_reads_or_is_refused_by_its_key(tmp_path_factory, scalar):
    path = tmp_path_factory.getbasetemp() / "scalar.yaml"
    path.write_text(f"train:\n  lr: {scalar}\n")
    found, refusal = read(path)
    if found is None:
        assert re.match(rf"{re.escape(str(path))}: (train\.lr: found .* \(line 2\); |not YAML: )", refusal)
        return
    value, known = found["train"]["lr"], load_yaml(path)["train"]["lr"]
    assert (type(value), repr(value)) == (type(known), repr(known))
    # PyYAML, of YAML 1.1, may take a number for text (1e-05, which DVC writes), and never for another number
    older = yaml.safe_load(path.read_text())["train"]["lr"]
    assert repr(older) == repr(value) or (isinstance(older, str) and isinstance(value, float))


def test_what_one_reader_takes_for_another_value_is_refused_by_key_and_line_in_a_short_message(tmp_path):
    path = tmp_path / "params.yaml"
    committed = (ROOT / "params.yaml").read_text()
    line = committed.splitlines().index("  steps: 3400              # optimizer steps; >= 1") + 1
    for value, found in [
        *(
            (text, text)
            for text in ("0100", "0o17", "0b11", "0x1F", "1:30", "1_00", "2024-01-02", "yes", "off", "+.inf")
        ),
        ("2024-13-45", "2024-13-45"),
        ("9" * 5000, "a number of 5000 characters"),
        ("!!int '3'", "the tag tag:yaml.org,2002:int"),
        ("!!python/object:os.system x", "the tag tag:yaml.org,2002:python/object"),
        ("&a 3", "the anchor a"),
        ("*a", "the anchor a"),
        ("{<<: {a: 1}}", "the key <<"),
        ("{1: 2}", "the key 1"),
        ("{yes: 2}", "the key yes"),
        ("{[1]: 2}", "a mapping or a list for a key"),
        ("{a: 1, a: 2}", "the key a twice"),
        ("[" * 3000, "more than 20 levels"),
        ("&x [&y [1, 1], *y, *y]", "the anchor x"),
    ]:
        path.write_text(re.sub(r"(?m)^  steps: 3400 ", f"  steps: {value} ", committed))
        (mistake,) = mistakes(path)
        assert re.match(rf"train\.steps[.0]*: found {re.escape(found)}.*\(line {line}\); ", mistake)
        assert len(mistake) < 400
    for text, message in [
        (f"{committed}---\n{committed}", "found a second document"),
        (f"%YAML 1.1\n---\n{committed}", "found a second document or a directive"),
        (f"\ufeff{committed}", "found the character U+FEFF on line 1"),
        (f"{committed}# \x85  lr: 1\n", "found the character U+0085 on line 65"),
        (f"{committed}{'#' * 10**6}", "holds 10"),
        (f'{committed}x: "\\U00110000"', "not YAML: "),
    ]:
        path.write_text(text, encoding="utf-8")
        assert mistakes(path)[0].startswith(message)


def test_a_message_is_no_longer_than_what_can_be_read():
    for values in ({f"x{number}": 1 for number in range(1000)}, {"x" * 10**5: 1}, {"train": "x" * 10**6}):
        assert len("\n".join(mistakes(WHOLE | values))) < 3000


def test_what_an_experiment_sets_is_read_as_dvc_has_it(tmp_path):
    path = tmp_path / "params.yaml"
    for text, leaf, value in [
        ("train.lr=0.00001", "train.lr", 1e-5),
        ("train.lr=1e-7", "train.lr", 1e-7),
        ("prepare.max_gap_s=1e22", "prepare.max_gap_s", 1e22),
        ("train.rho=1", "train.rho", 1),
        ("train.steps=1_000", "train.steps", 1000),
        ("train.rho_start=null", "train.rho_start", None),
        ("train.encoder=mlp", "train.encoder", "mlp"),
        ("train.steps=0100", "train.steps", "0100"),
        ("train.steps=true", "train.steps", True),
        ("train.lr=inf", "train.lr", float("inf")),
    ]:
        path.write_bytes((ROOT / "params.yaml").read_bytes())
        apply_overrides(path, [text])
        found, _ = read(path)
        section, name = at(found, leaf)
        assert (section[name], type(section[name])) == (value, type(value))
        assert found == load_yaml(path)
    for text in ("train.encoder=yes", "train.encoder=1:30"):  # which DVC writes without quotes
        apply_overrides(path, [text])
        assert f"train.encoder: found {text.rpartition('=')[2]}, which not all readers" in read(path)[1]


def test_a_stage_holds_the_leaves_that_it_declares_and_reading_another_is_an_error():
    for stage in STAGES.values():
        found = asdict(params.load(ROOT / "params.yaml", stage))
        for leaf in params.leaves(stage):
            (section, name), (whole, _) = at(found, leaf), at(WHOLE, leaf)
            assert section.pop(name) == whole[name]
        assert not [leaf for leaf in LEAVES if holds(found, leaf)]
    assert {name for name, stage in STAGES.items() if "train.rho" in params.leaves(stage)} == {"train", "export"}
    dreams = params.load(ROOT / "params.yaml", params.DreamsStage)
    with pytest.raises(AttributeError):
        dreams.train.rho  # noqa: B018


def holds(found, leaf):
    *sections, name = leaf.split(".")
    for section in sections:
        found = found.get(section, {})
    return name in found


def test_params_are_never_written_to():
    found = params.load(ROOT / "params.yaml", params.TrainStage)
    with pytest.raises(AttributeError, match="cannot assign"):
        found.train.lr = 1.0


def test_a_mistake_anywhere_stops_every_stage(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(changed({"validate.horizon": 0})))
    with pytest.raises(ValueError, match=r"validate\.horizon"):
        params.load(path, params.NormalizeStage)


# what one key is while another is what it is -> both names and values, and what to do
UNRELATED = [
    (
        {"train.rho_start": 0.2},
        ["train.rho_start is 0.2", "train.rho_schedule constant", "make train.rho_start null"],
    ),
    (
        {"train.rho_schedule": "linear"},
        ["train.rho_start is null", "train.rho_schedule linear", "give it a share from 0 to 1"],
    ),
    (
        {"dreams.episodes": 0, "train.rho": 0.5},
        ["dreams.episodes is 0", "train.rho 0.5", "raise dreams.episodes, or set train.rho to 0"],
    ),
    (
        {"dreams.episodes": 0, "train.rho": 0.0, "train.rho_start": 0.2, "train.rho_schedule": "linear"},
        ["dreams.episodes is 0", "train.rho_start 0.2", "raise dreams.episodes"],
    ),
    (
        {"prepare.split_by": "time", "prepare.margin": 23},
        ["prepare.split_by is time", "prepare.margin 23", "train.history + train.horizon = 24", "prepare.margin to 24"],
    ),
    (
        {"prepare.max_length_s": 4.0, "prepare.resample_s": 0.5},
        ["prepare.max_length_s is 4", "prepare.resample_s 0.5", "train.history (8)", "max_length_s above 4"],
    ),
    (
        {"train.contrastive_weight": 0.1, "train.batch_size": 1},
        ["train.contrastive_weight is 0.1", "train.batch_size 1", "raise train.batch_size"],
    ),
]


def test_keys_that_cannot_work_together_stop_every_stage_with_both_named(tmp_path):
    path = tmp_path / "params.yaml"
    for values, parts in UNRELATED:
        path.write_text(yaml.safe_dump(changed(values)))
        for stage in STAGES.values():
            with pytest.raises(ValueError, match=r".") as caught:
                params.load(path, stage)
            (line,) = str(caught.value).splitlines()
            assert line.startswith(f"{path}: {parts[0]}")
            assert all(part in line for part in parts)
        params.read(path)  # a command that overrides some looks at what it will run with


def test_keys_that_work_together_are_taken():
    for values in (
        {"validate.horizon": 64, "train.horizon": 8},
        {"dreams.episodes": 0, "train.rho": 0, "train.dream_weighting": "confidence"},
        {"dreams.episodes": 0, "train.rho": 0, "train.rho_start": 0.0, "train.rho_schedule": "cosine"},
        {"dreams.episodes": 0, "train.rho": 0, "train.rho_start": 0},
        {"train.rho": 0},  # the baseline of a sweep, whose dreams are there
        {"train.contrastive_weight": 0.1, "train.batch_size": 2},
        {"prepare.split_by": "time"},
        {"prepare.margin": 0},
        {"train.contrastive_weight": 0, "train.batch_size": 1},
    ):
        params.check(changed(values), FILE)
    none = params.read(ROOT / "params.yaml")
    without = replace(none, dreams=replace(none.dreams, episodes=0))
    params.require_related(without, "dreams of a folder", dreams_given=True)
