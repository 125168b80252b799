"""To the Hub and back, and the card that is made from a run; the Hub is a fake one on loopback (fake_hub.py)."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from PIL import Image

from detokenizers import checkpoint, drawing, evaluation, papers
from detokenizers.dcdd.model import DCDD
from detokenizers.hub.card import card_of
from detokenizers.hub.licences import MIT, SEVERAL, UNKNOWN, licence_of, together
from detokenizers.papers import find

from .fake_hub import TOKEN, running

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def run(tiny_stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with the records of a training."""
    folder = tmp_path_factory.mktemp("runs") / "dcdd"
    shutil.copytree(tiny_stack / "mini" / "dcdd", folder)
    settings = find("dcdd.mini")().vary({"vlm": "deepseek-community/Janus-Pro-7B", "train.steps": 321})
    (folder / "run.yaml").write_text(settings.to_yaml())
    Image.new("RGB", (4, 4)).save(folder / "preview.png")
    return folder


@pytest.fixture(scope="module")
def results(tiny_stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Results of an evaluation, as `detok evaluate` leaves them."""
    folder = tmp_path_factory.mktemp("evaluated")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(checkpoint, "EMBEDDED", tiny_stack)
        drawing.reconstruct(world=4, decoder=("vq", "mini/dcdd"), out=folder, steps=1)
        evaluation.evaluate(folder, world=4, metrics=("psnr", "pd-world")).save(folder)
        yield folder


def front(card: ModelCard) -> dict:
    return yaml.safe_load(card.content.split("---\n")[1])


def test_a_card_says_recipe_data_numbers_protocol_judge_licences_and_samples(run, results, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    card = card_of(folder, repo_id="me/fine", results=results)
    numbers = json.loads((results / "results.json").read_text())
    assert "recipe `dcdd.mini`" in card.text
    assert "kind world" in card.text
    assert "steps 321" in card.text
    assert "![samples](preview.png)" in card.text
    assert "--vlm deepseek-community/Janus-Pro-7B --decoder me/fine" in card.text
    table = (results / "results.md").read_text()
    assert table.strip() in card.text
    assert f"protocol world v2, N = 4, judged by {numbers['measures']['pd-world']}" in card.text
    assert "| vlm | deepseek-community/Janus-Pro-7B | [deepseek-model-license](https://" in card.text
    data = front(card)
    assert data["license"] == "other"
    assert data["license_name"] == "deepseek-model-license"
    assert data["base_model"] == ["deepseek-community/Janus-Pro-7B"]
    (model,) = data["model-index"]
    metrics = {one["type"]: one for result in model["results"] for one in result["metrics"]}
    assert metrics["psnr"]["value"] == pytest.approx(numbers["decoders"]["dcdd"]["metrics"]["psnr"]["value"])
    first = front(card_of(folder, results=results / "results.json", row="vq"))["model-index"][0]["results"]
    found = [one["value"] for result in first for one in result["metrics"] if one["type"] == "psnr"]
    assert found == [pytest.approx(numbers["decoders"]["vq"]["metrics"]["psnr"]["value"])]
    with pytest.raises(ValueError, match="has no row 'dcdd2'; it has vq, dcdd"):
        card_of(folder, results=results, row="dcdd2")
    assert "judges" not in metrics["psnr"]["args"]
    args = metrics["pd_world"]["args"]
    assert args["protocol"].startswith("world v")
    assert args["n"] == 4
    assert args["judges"] == [numbers["measures"]["pd-world"]]


@pytest.mark.parametrize("text", ["[]", "{}", '{"decoders": {}}', '{"decoders": {"a": {}}, "n": 3}'])
def test_a_card_refuses_what_is_no_report_in_one_line(run, tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=r"results.json is no report of `detok evaluate`") as caught:
        card_of(run, results=tmp_path / "results.json")
    assert "\n" not in str(caught.value)


def test_a_card_takes_the_results_of_a_benchmark(tiny_stack, tmp_path):
    score = {"label": "GenEval", "better": "higher", "unit": "", "value": 0.5, "low": 0.4, "high": 0.6}
    found = {
        "kind": "benchmark", "tag": "geneval-world", "judge": "world:12", "seed": 0, "n": {"vq": 12, "dcdd": 12},
        "decoders": {"vq": {"metrics": {"overall": score}}, "dcdd": {"metrics": {"overall": score | {"value": None}}}},
    }  # fmt: skip
    (tmp_path / "results.json").write_text(json.dumps(found))
    (tmp_path / "results.md").write_text("the table\n")
    card = card_of(shutil.copytree(tiny_stack / "mini" / "dcdd", tmp_path / "run"), results=tmp_path, row="vq")
    assert "This model is the row `vq`; protocol geneval-world, N = 12, judged by world:12.\n\nthe table" in card.text
    (result,) = front(card)["model-index"][0]["results"]
    assert result["metrics"][0]["args"] == {
        "protocol": "geneval-world", "n": 12, "seed": 0, "judges": ["world:12"], "low": 0.4, "high": 0.6
    }  # fmt: skip


def test_a_card_of_bare_weights_claims_nothing(tiny_stack, tmp_path):
    folder = shutil.copytree(tiny_stack / "mini" / "dcdd", tmp_path / "run")
    card = card_of(folder)
    assert "No record of a training is here." in card.text
    assert "No measured numbers are here." in card.text
    assert "model-index" not in front(card)
    assert front(card)["license"] == "mit"
    Image.new("RGB", (4, 4)).save(tmp_path / "mine.png")
    card_of(folder, sheet=tmp_path / "mine.png", license="cc0-1.0").save(folder / "README.md")
    again = ModelCard.load(folder / "README.md")
    assert again.data.license == "cc0-1.0"
    assert "![samples](samples.png)" in again.text
    assert (folder / "samples.png").is_file()
    with pytest.raises(ValueError, match=r"there is no picture of samples at nowhere\.png"):
        card_of(folder, sheet="nowhere.png")
    with pytest.raises(ValueError, match="there is no results of an evaluation at"):
        card_of(folder, results=tmp_path)


def test_what_the_mixin_adds_changes_no_model(run):
    dcdd = DCDD.load(run)
    assert copy.deepcopy(dcdd).fingerprint() == dcdd.fingerprint()
    assert "origin" not in dcdd.state_dict()
    assert papers.load(run).origin == run


def test_no_licence_is_guessed():
    flux = licence_of("black-forest-labs/FLUX.1-Fill-dev")
    assert (flux.id, flux.name) == ("other", "flux-1-dev-non-commercial-license")
    assert licence_of("black-forest-labs/FLUX.1-schnell").id == "apache-2.0"
    assert licence_of("mini") == licence_of("mini/vae") == MIT
    assert licence_of("minimax/vae") == licence_of("out/vlm") == UNKNOWN
    assert together([MIT, licence_of("llamagen-xl@weights")]) == MIT
    assert together([MIT, flux]) == flux
    assert together([flux, licence_of("deepseek-community/Janus-Pro-1B")]) == SEVERAL
    assert together([flux, UNKNOWN]) == UNKNOWN


def test_decoders_and_pipelines_go_to_the_hub_and_come_back(tiny_stack, run, results, tmp_path):
    with running() as hub:
        environment = os.environ | {
            "HF_ENDPOINT": hub.address,
            "HF_HOME": str(tmp_path / "home"),
            "HF_TOKEN": TOKEN,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        command = [sys.executable, "-m", "tests.hub.push_and_fetch", str(tiny_stack), str(run), str(results)]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-4000:]
        found = json.loads(done.stdout.splitlines()[-1])
    assert found["same weights"]
    assert found["same by class"]
    assert found["same pictures"]
    assert found["same from class"]
    assert found["commit"].startswith(f"{hub.address}/me/tiny-dcdd/commit/")
    assert found["pipeline"].startswith(f"{hub.address}/me/tiny-pipe/commit/")
    for name in ("nothing there", "no pipeline there"):
        assert found[name].startswith(
            "ValueError: there is no folder 'me/nothing' here, and it cannot be had from the Hub"
        )
        assert "\n" not in found[name]
    assert "401" in found["without a token"]
    assert "me/other" not in hub.repositories
    pushed = hub.files("me/tiny-dcdd")
    assert set(pushed) == {
        "README.md", "decoder.yaml", "decoder.safetensors", "codebook.safetensors", "run.yaml", "preview.png",
        "space/config.json", "space/diffusion_pytorch_model.safetensors",
    }  # fmt: skip
    card = pushed["README.md"].decode()
    assert 'dt.load("me/tiny-dcdd")' in card
    assert (results / "results.md").read_text().strip() in card
    assert hub.files("me/second")["run.yaml"] == pushed["run.yaml"]
    assert hub.files("me/second")["decoder.safetensors"] == pushed["decoder.safetensors"]
    pipe = hub.files("me/tiny-pipe")
    assert {"README.md", "model_index.json", "vlm/vlm.json", "decoder/decoder.yaml", "decoder/run.yaml"} <= set(pipe)
    assert 'dt.pipeline("me/tiny-pipe")' in pipe["README.md"].decode()
    assert len(hub.repositories["me/tiny-pipe"]) == 3
    assert not [
        path for files in hub.repositories.values() for path in files[-1] if path.endswith((".bin", ".pt", ".py"))
    ]
