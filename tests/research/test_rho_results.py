import pytest
from studies import measured, rows_of

from research.markers import write_between_markers
from research.rho_results import draw, lines, markdown, write_lines


def test_sizes_go_from_few_to_all_and_arms_are_compared_with_rho_0_and_the_control():
    runs = measured()
    teacher = {each.run.dreams: rows_of(0.2 * (1 + each.run.seed)) for each in runs if each.run.arm.name == "rho 0"}
    results = lines(runs, teacher)
    assert [(line.size, line.arm) for line in results] == [
        (size, arm) for size in (8, 0) for arm in ("rho 0", "rho 0.5", "repeat", "teacher")
    ]
    none, half, repeat, teacher = results[:4]
    assert none.test == pytest.approx(1.5 * (10 * 0.4 + 30 * 0.8) / 40)
    assert none.test_change is None
    assert half.test_change.value == pytest.approx(-0.25)
    assert half.against_repeat.value == pytest.approx(-0.4)
    assert repeat.against_repeat is None
    assert teacher.test_change.value == pytest.approx(-0.5)
    assert {line.seeds for line in results} == {2}


def test_a_run_that_is_missing_leaves_its_seed_out_of_the_pairs():
    half = lines([each for each in measured() if (each.run.arm.name, each.run.seed) != ("rho 0.5", 1)], {})[1]
    assert half.seeds == 1
    assert half.test_change.value == pytest.approx(-0.25)


def test_the_table_takes_the_place_of_the_one_before(tmp_path):
    path = tmp_path / "results.md"
    path.write_text("# Before\n\n<!-- study:begin -->\nold\n<!-- study:end -->\n\nafter\n")
    write_between_markers(path, markdown(lines(measured(), {}), "Logs", ["a note"]), "study")
    text = path.read_text()
    assert text.startswith("# Before\n\n<!-- study:begin -->\n\n**Logs**\n\n| train episodes | arm |")
    assert text.endswith("- a note\n\n<!-- study:end -->\n\nafter\n")
    assert "| 8 | rho 0.5 | 2 | 1.3500 | 0.7875 | 0.7000 | -25.0 % (-25.0 to -25.0) |" in text
    assert "old" not in text


def test_a_file_without_markers_gets_them_at_its_end(tmp_path):
    for before in (None, "# Notes\n"):
        path = tmp_path / f"{before is None}.md"
        if before:
            path.write_text(before)
        write_between_markers(path, "new", "study")
        ends = "<!-- study:begin -->\n\nnew\n\n<!-- study:end -->\n"
        assert path.read_text() == (f"{before}\n" if before else "") + ends


def test_the_figure_has_the_same_bytes_again_and_its_numbers_beside_it(tmp_path):
    results = lines(measured(), {})
    for name in ("one", "other"):
        draw(tmp_path / f"{name}.png", results, "Logs")
        write_lines(tmp_path / f"{name}.csv", results)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()
    header, *rows = (tmp_path / "one.csv").read_text().splitlines()
    assert header.startswith("train_episodes,arm,rho,seeds,val,test,rare,val_change")
    assert len(rows) == len(results)
