from research_factories import runs_of
from worldmodel.sweeps import experiments
from worldmodel.sweeps.queue_runner import ATTEMPTS, Follower


class Queue:
    """In the place of DVC's: finishes one task a look, unless told that it fails."""

    def __init__(self, runs, monkeypatch, logs=None, workers=1):
        self.runs, self.logs, self.workers = runs, logs or {}, workers
        self.tasks, self.done, self.put_order, self.killed = {}, {}, [], []
        for name in ("status", "finished", "put", "start", "remove", "kill", "log"):
            monkeypatch.setattr(experiments, name, getattr(self, name))

    def status(self):
        for name, state in self.tasks.items():
            if state == "Queued" and self.workers:
                fails = bool(self.logs.get(name))
                self.tasks[name] = "Failed" if fails else "Success"
                if not fails:
                    self.done[name] = "commit"
                break
        return experiments.Status(dict(self.tasks), self.workers)

    def finished(self, runs):
        return {run.name: "commit" for run in runs if run.name in self.done}

    def put(self, run):
        assert run.name not in self.tasks
        self.put_order.append(run)
        self.tasks[run.name] = "Queued"

    def start(self, jobs):
        self.workers = jobs

    def remove(self, name):
        del self.tasks[name]

    def kill(self, name):
        self.killed.append(name)
        self.tasks[name] = "Failed"
        self.workers = 1

    def log(self, name):
        return self.logs[name].pop(0) if self.logs.get(name) else ""


def follow(runs, jobs=2):
    follower = Follower(runs, jobs, 0.0)
    return follower.follow(), follower.failed


def test_one_run_makes_the_dreams_before_others_need_them(monkeypatch):
    runs = runs_of(rhos=(0.0, 0.3, 0.5))
    queue = Queue(runs, monkeypatch)
    finished = []
    put = queue.put

    def watched(run):
        first = [other.dreams for other in queue.put_order].count(run.dreams) == 0
        finished.append(first or any(o.dreams == run.dreams and o.name in queue.done for o in runs))
        put(run)

    monkeypatch.setattr(experiments, "put", watched)
    done, failed = follow(runs)
    assert set(done) == {run.name for run in runs}
    assert not failed
    assert all(finished)


def test_what_is_there_or_on_its_way_is_not_queued_again(monkeypatch):
    runs = runs_of()
    queue = Queue(runs, monkeypatch)
    queue.done = {run.name: "commit" for run in runs[:5]}
    queue.tasks = {runs[5].name: "Queued", runs[6].name: "Failed", runs[7].name: "Success"}
    done, failed = follow(runs)
    assert set(done) == {run.name for run in runs}
    assert not failed
    assert {run.name for run in queue.put_order} == {run.name for run in runs[6:]}


def test_a_run_that_fails_before_its_stages_is_tried_again_and_not_for_ever(monkeypatch):
    runs = runs_of(sizes=(8,), seeds=1)
    once, always = runs[1].name, runs[2].name
    queue = Queue(runs, monkeypatch, {once: ["no stage began"], always: ["no stage began"] * 9})
    done, failed = follow(runs)
    assert set(done) == {runs[0].name, once}
    assert set(failed) == {always}
    assert [run.name for run in queue.put_order].count(always) == ATTEMPTS


def test_a_stage_that_fails_is_final_and_its_reason_is_told(monkeypatch, capsys):
    runs = runs_of(sizes=(8,), seeds=1)
    queue = Queue(runs, monkeypatch, {runs[0].name: ["error: lr is silly\nERROR: failed to reproduce 'train'"]})
    done, failed = follow(runs)
    assert len(done) == 2
    assert failed == {runs[0].name: "error: lr is silly"}
    assert [run.name for run in queue.put_order].count(runs[0].name) == 1
    assert "lr is silly" in capsys.readouterr().out


def test_a_task_whose_worker_died_is_given_up_and_run_again(monkeypatch):
    runs = runs_of(sizes=(8,), seeds=1)
    queue = Queue(runs, monkeypatch, workers=0)
    queue.done = {run.name: "commit" for run in runs[1:]}
    queue.tasks = {runs[0].name: "Running"}
    done, _ = follow(runs)
    assert set(done) == {run.name for run in runs}
    assert queue.killed == [runs[0].name]
