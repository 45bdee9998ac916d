from factories import make_episodes, write_logs
from research import teachers
from research_factories import runs_of


def test_the_teachers_error_is_fitted_once_and_then_read(tmp_path, monkeypatch):
    logs = write_logs(tmp_path / "logs", make_episodes(30, 20, agents=3))
    runs = runs_of(sizes=(0,), seeds=1)
    arguments = (runs, logs, tmp_path / "cache", "code", 1)
    first = teachers.teachers_errors(*arguments)
    monkeypatch.setattr(teachers, "measure", None)
    assert teachers.teachers_errors(*arguments) == first
    (rows,) = first.values()
    assert {row["split"] for row in rows} == {"val", "test"}
    assert all(float(row["model"]) > 0 for row in rows)
