"""runs/gpu_papers.py: its tasks are functions of scripts that exist, and what fails holds up only what needs it."""

from __future__ import annotations

import importlib.util
import re

import pytest

from .test_runs import RUNS


@pytest.fixture
def papers(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("gpu_papers", RUNS / "gpu_papers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("DONE", "FAILED", "RUNNING", "LOGS"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(module, name, tmp_path / name)
    monkeypatch.setattr(module, "JOBS", 2)
    return module


def test_tasks_need_what_comes_before_them_and_call_functions_that_exist(papers):
    known: set[str] = set()
    for task in papers.tasks():
        assert known.issuperset(task.needs), task.name
        known.add(task.name)
        for script, function in re.findall(r"runs/(\w+\.sh) (\w+)", task.command):
            assert re.search(rf"^{function}\(\) \{{", (RUNS / script).read_text(), re.MULTILINE), (script, function)
        for function in re.findall(r"source runs/vugen.bash; (\w+)", task.command):
            assert f"\n{function}() {{" in (RUNS / "vugen.bash").read_text()
    assert len(known) == len(papers.tasks())


def test_what_fails_holds_up_only_what_needs_it_and_what_is_done_is_not_done_again(papers, tmp_path):
    task, made = papers.Task, tmp_path / "made"
    tasks = [
        task("third", f"echo third >> {made}", ("first", "second")),
        task("first", f"echo first >> {made}"),
        task("second", f"sleep .2; echo second >> {made}"),
        task("broken", "echo why; exit 3"),
        task("behind", f"echo behind >> {made}", ("broken",)),
    ]
    papers.schedule(tasks)
    assert made.read_text().split() == ["first", "second", "third"]
    assert papers.names(papers.DONE) == {"first", "second", "third"}
    assert papers.names(papers.FAILED) == {"broken"}
    assert (papers.LOGS / "broken").read_text() == "why\n"
    papers.schedule(tasks)
    assert made.read_text().split() == ["first", "second", "third"]
