from research import rho_figure as figure
from research import rho_report as report
from research.rho_results import lines
from research_factories import measured


def test_the_table_takes_the_place_of_the_one_before(tmp_path):
    path = tmp_path / "results.md"
    path.write_text(f"# Before\n\n{report.BEGIN}\nold\n{report.END}\n\nafter\n")
    report.write_between_markers(path, report.markdown(lines(measured(), {}), "Logs", ["a note"]))
    text = path.read_text()
    assert text.startswith(f"# Before\n\n{report.BEGIN}\n\n**Logs**\n\n| train episodes | arm |")
    assert text.endswith(f"- a note\n\n{report.END}\n\nafter\n")
    assert "| 8 | rho 0.5 | 2 | 1.3500 | 0.7875 | 0.7000 | -25.0 % (-25.0 to -25.0) |" in text
    assert "old" not in text


def test_a_file_without_markers_gets_them_at_its_end(tmp_path):
    for before in (None, "# Notes\n"):
        path = tmp_path / f"{before is None}.md"
        if before:
            path.write_text(before)
        report.write_between_markers(path, "new")
        assert path.read_text() == (f"{before}\n" if before else "") + f"{report.BEGIN}\n\nnew\n\n{report.END}\n"


def test_the_figure_has_the_same_bytes_again_and_its_numbers_beside_it(tmp_path):
    found = lines(measured(), {})
    for name in ("one", "other"):
        figure.draw(tmp_path / f"{name}.png", found, "Logs")
        report.write_lines(tmp_path / f"{name}.csv", found)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()
    header, *rows = (tmp_path / "one.csv").read_text().splitlines()
    assert header.startswith("train_episodes,arm,rho,seeds,val,test,rare,val_change")
    assert len(rows) == len(found)
