"""The pictures of Ray's workers are those of one process, to the byte, also when a worker dies on the way."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from detokenizers import drawing
from detokenizers.drawing.drawing_settings import GenerateConfig
from detokenizers.drawing.generation import prepared
from detokenizers.drawing.on_ray import Worker

from .folders import PROMPTS
from .test_sharing import files

ray = pytest.importorskip("ray", reason="Ray is not installed; `pip install -e '.[ray]'` (.ci/run does)")


class Mortal:
    """A generation one of whose workers kills itself, once, before it has drawn its unit."""

    def __init__(self, marker: str, *arguments) -> None:
        self.marker, self.work = Path(marker), prepared(*arguments)
        self.sizes, self.done = self.work.sizes, self.work.done

    def draw(self, unit, progress):
        if unit == 2:
            try:
                self.marker.touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
            except FileExistsError:
                pass
        self.work.draw(unit, progress)


def test_two_workers_of_ray_one_of_which_is_killed_leave_the_bytes_of_one_process(tmp_path, monkeypatch, tiny_stack):
    mini = tiny_stack / "mini"
    ask = {"vlm": str(mini / "vlm"), "decoder": ("vq", str(mini / "dcdd")), "steps": 1, "batch": 1}
    drawing.generate(PROMPTS, out=tmp_path / "one", **ask)

    from detokenizers.drawing import on_ray

    worker = on_ray.drawn_on_ray

    def mortal(work, build, arguments, workers):
        return worker(work, Mortal, (str(tmp_path / "died"), *arguments), workers)

    monkeypatch.setattr(on_ray, "drawn_on_ray", mortal)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    )
    try:
        drawn = drawing.generate(PROMPTS, out=tmp_path / "two", ray=2, **ask)
        assert len(drawn.rows) == 3
        assert (tmp_path / "died").exists()
        assert files(tmp_path / "one") == files(tmp_path / "two")
    finally:
        ray.shutdown()
    with pytest.raises(ValueError, match="was made with steps = 1, not 2"):
        drawing.generate(PROMPTS, out=tmp_path / "two", ray=2, **ask | {"steps": 2})
    assert drawing.generate(PROMPTS, out=tmp_path / "two", ray=2, **ask).rows == drawn.rows
    assert not ray.is_initialized()


def test_a_worker_hands_back_its_error_as_a_line(tmp_path, tiny_stack):
    config = GenerateConfig(text=("a dog on grass",), vlm=str(tiny_stack / "mini" / "vlm"), out=tmp_path)
    worker = Worker(prepared, (config, config.vlm, [("none", "no/such/decoder/")]))
    (line,) = worker({"unit": [0]})["error"]
    assert "no/such/decoder" in line
    assert len(line.splitlines()) == 1
