"""make pr-report on a branch of a scratch project."""

import re
import shutil
from dataclasses import replace

import pytest

from scratch import Scratch, two_commits
from worldmodel.ci.gates import Outcome
from worldmodel.ci.pr_report import NONE, change, curves, rendered
from worldmodel.ci.revisions import VERDICT

pytestmark = pytest.mark.dvc
JUDGED = "reason,holds,text\nok,0,use ridge\ndreams_told,1,by @states\nonnx_differs,0,\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Scratch:
    return two_commits(tmp_path_factory.mktemp("report") / "project", files={VERDICT: JUDGED})


@pytest.fixture(scope="module")
def told(project) -> str:
    done = project.review("pr-report", "--base", "main")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_compares_with_the_merge_base_and_names_both_bundles(project, told):
    left = project.run("git", "merge-base", "main", "change")[:7]
    assert told.startswith("### World model: `mse.mean` 0.4, ▲ 100.0 % 🔴 worse\n")
    assert f"Compared with `{left}`, the merge base with `main`." in told
    assert "Run-id: `000000000014` → `000000000028`." in told
    assert "NEWS" not in told
    assert "#### Verdict: `use ridge`\n\n- `dreams_told`: `by @states`\n\n#### Gates" in told


def test_it_has_params_metrics_and_verdicts_in_rows(told):
    assert "| `train.rho` | `0.2` | `0.4` |" in told
    assert "unread" not in told
    assert "| `mse.mean` | 0.2 | 0.4 | ▲ 100.0 % 🔴 worse |" in told
    assert "| `skill` | 0.8 | 0.6 | ▼ 25.0 % 🔴 worse |" in told
    assert "1 others are as at the base." in told
    assert "#### Gates: 1 of 2 broken" in told
    assert "| ❌ | `mse.mean` | 0.4 | at most 0.3 (50 % above 0.2) |" in told


def test_it_says_which_stages_reran_and_why(told):
    assert "| `train` | reran | `train.rho` |" in told
    assert "| `export` | reran | `artifacts/train` |" in told


def test_the_picture_is_text(told):
    chart = told.split("```mermaid\n")[1].split("\n```")[0]
    assert "xychart-beta" in chart
    assert "    line [0.4, 0.8]\n    line [0.2, 0.4]\n    line [1, 2]" in chart
    assert "🟦 now 🟧 base ⬜ ridge" in told
    assert not re.search(r"!\[|<img|https?:", told)


def test_a_fork_with_nothing_but_a_clone_gets_the_same_report_less_the_bundles(project, told, tmp_path):
    clone = project.cloned(tmp_path / "clone")
    clone.run("git", "checkout", "--quiet", "change")
    done = clone.review("pr-report", "--base", "origin/main", "--out", "report.md")
    assert done.returncode == 0, done.stderr
    expected = told.replace("`main`", "`origin/main`").replace("`000000000014` → `000000000028`", "`not known`")
    assert clone.read("report.md") == expected


def test_without_a_base_there_is_a_report_of_what_is_there(project):
    done = project.review("pr-report", "--base", "")
    assert done.stdout.startswith("### World model: `mse.mean` 0.4, nothing to compare with\n")
    assert "There is no base to compare with." in done.stdout
    assert "no more than 50 % worse than the base, which has none" in done.stdout
    assert "#### Params" not in done.stdout


def test_the_first_run_on_a_base_that_has_no_metrics_is_told_as_such(tmp_path):
    made = Scratch(tmp_path / "project")
    made.commit("no run yet")
    made.run("git", "checkout", "--quiet", "-b", "first")
    done = made.review("pr-report", "--base", "main")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("### World model: not measured\n")
    assert "which has no metrics: nothing to compare with" in done.stdout
    assert "None: `artifacts/metrics.json` is not there." in done.stdout
    assert "❌ `dvc.lock` does not belong to this commit (`train`, `export`, `validate`)" in done.stdout
    assert "| `train` | ❌ has to rerun | `not in dvc.lock` |" in done.stdout


def test_a_change_that_was_not_run_is_told_before_anything_else(project, tmp_path):
    copy = Scratch.at(shutil.copytree(project.folder, tmp_path / "copy"))
    copy.set_rho(0.3)
    done = copy.review("pr-report", "--base", "main")
    assert "❌ `dvc.lock` does not belong to this commit (`train`), so neither do the metrics" in done.stdout
    assert "| `train` | ❌ has to rerun | `train.rho modified` |" in done.stdout
    assert "| `train.rho` | `0.2` | `0.3` |" in done.stdout


@pytest.mark.parametrize(
    ("before", "after", "better", "said"),
    [
        (0.2, 0.1, "lower", "▼ 50.0 % 🟢 better"),
        (-1.0, -0.5, "higher", "▲ 50.0 % 🟢 better"),
        (0.0, 0.5, "higher", "▲ 0.5 🟢 better"),
        (0.2, 0.1, None, "▼ 50.0 %"),
        (0.2, 0.2, "lower", "="),
        (None, 0.2, "lower", "new"),
        (0.2, None, "lower", "gone"),
    ],
)
def test_a_change_has_an_arrow_a_share_and_a_judgement_where_one_is_known(before, after, better, said):
    assert change(before, after, better) == said


def test_long_lists_are_cut_and_what_a_branch_has_put_there_breaks_no_table_and_no_code():
    stages = [("train", "reran", [*(f"src/{n}.py" for n in range(9)), "train.rho"]), ("a|`b\nc", "reran", [])]
    text = rendered(now=NONE, before=NONE, run_ids=[], metrics={}, stages=stages, stale="abcdef")
    assert "(`a`, `b`, `c`, `d`, `e`, `f`)" in text
    assert "| `train` | reran | `train.rho`, `src/0.py`, `src/1.py`, `src/2.py`, `src/3.py` and 5 more |" in text
    assert r"| `a\|'b c` | reran |  |" in text


def test_no_name_of_a_branch_is_markdown_a_mention_or_a_picture():
    for name in ("<img src=x>", "@team", "[a](http://x)", "x\x1b[2J\u202e", "::error::x", "``", "", " ", "y" * 10**5):
        state = replace(NONE, metrics={name: 1.0}, params={name: name}, verdict={"ok": name, name: name})
        text = rendered(
            base=name or "x",
            commit=name or "x",
            now=state,
            before=replace(state, params={name: "x"}),
            metrics={name: "="},
            changed={name: "="},
            against={name: name},
            params=[name],
            stages=[(name, "reran", [name])],
            gates=[Outcome(name, None, "at most 1", holds=False)],
            stale={name: []},
            run_ids=[name],
        )
        prose = re.sub("`[^`\n]*`", "", text)
        assert not re.search(r"[<>@\[\x1b\u202e]|::|y{9}", prose.replace("→", "")), prose
        assert text.isprintable() or not re.search("[\x00-\x09\x0b-\x1f\u202e]", text)
        assert len(text) < 10_000


def test_without_curves_there_is_no_picture():
    assert curves(NONE, NONE) == {}
