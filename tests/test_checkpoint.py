"""Files are whole or not there; what does not fit or is damaged is one clear line."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from detokenizers import checkpoint
from detokenizers.checkpoint import (
    atomic,
    fingerprint,
    load_into,
    load_strictly,
    load_tensors,
    resolve,
    save_tensors,
    write_text,
)


def test_tensors_come_back_as_they_were(tmp_path):
    tensors = {
        "a": torch.randn(3, 4).T,
        "b": torch.arange(5),
        "c": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "d": torch.tensor(True),
        "e": torch.randn(7).bfloat16(),
    }
    tensors["f"] = tensors["a"]  # shared memory
    save_tensors(tmp_path / "x.safetensors", tensors)
    loaded = load_tensors(tmp_path / "x.safetensors")
    assert loaded.keys() == tensors.keys()
    assert all(
        torch.equal(loaded[name], tensor) and loaded[name].dtype == tensor.dtype for name, tensor in tensors.items()
    )


def test_a_storage_type_is_for_floating_tensors_alone(tmp_path):
    save_tensors(tmp_path / "x.safetensors", {"w": torch.randn(3), "n": torch.arange(3)}, dtype=torch.float16)
    loaded = load_tensors(tmp_path / "x.safetensors")
    assert (loaded["w"].dtype, loaded["n"].dtype) == (torch.float16, torch.int64)


def test_int8_keeps_every_row_to_half_a_step_of_its_largest_and_rounds_once(tmp_path):
    torch.manual_seed(0)
    rows = torch.cat([torch.randn(6, 40) * 10.0 ** torch.arange(-3, 3)[:, None], torch.zeros(1, 40)])
    tensors = {
        "linear.weight": rows,
        "conv.weight": torch.randn(4, 3, 5, 5),
        "bias": torch.randn(9),
        "step": torch.tensor(7),
    }
    save_tensors(tmp_path / "one.safetensors", tensors, dtype=torch.int8)
    found = load_tensors(tmp_path / "one.safetensors")
    assert set(found) == set(tensors)
    assert found["linear.weight"].dtype == torch.float32
    for name in ("linear.weight", "conv.weight"):
        step = tensors[name].flatten(1).abs().amax(1) / 127
        wrong = (found[name] - tensors[name]).flatten(1).abs().amax(1)
        assert bool((wrong <= 0.56 * step + 1e-9).all()), "half a step, and what fp16 takes of the scale over 127 steps"
    assert torch.equal(found["bias"], tensors["bias"].half())
    assert torch.equal(found["step"], tensors["step"])
    save_tensors(tmp_path / "two.safetensors", found, dtype=torch.int8)
    again = load_tensors(tmp_path / "two.safetensors")
    assert all(torch.equal(again[name], tensor) for name, tensor in found.items())
    stored = load_file(tmp_path / "one.safetensors")
    assert {stored[name].dtype for name in ("linear.weight", "conv.weight")} == {torch.int8}


@pytest.mark.parametrize("rows", [None, 3])
def test_scales_without_their_tensor_are_refused(tmp_path, rows):
    tensors = {"weight.int8_scale": torch.ones(2)} | ({} if rows is None else {"weight": torch.ones(rows, 2)})
    save_tensors(tmp_path / "x.safetensors", tensors)
    with pytest.raises(
        ValueError, match="scales of 'weight' but no such tensor of as many rows; these weights are damaged"
    ):
        load_tensors(tmp_path / "x.safetensors")


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    write_text(tmp_path / "run.yaml", "old")

    def write_half() -> None:
        with atomic(tmp_path / "run.yaml") as temporary:
            temporary.write_text("half of the n")
            raise KeyError

    with pytest.raises(KeyError):
        write_half()
    assert (tmp_path / "run.yaml").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]


def test_others_may_read_what_was_written(tmp_path):
    write_text(tmp_path / "run.yaml", "text")
    assert (tmp_path / "run.yaml").stat().st_mode & 0o777 == 0o644


def test_a_file_is_whole_whenever_its_writer_is_killed(tmp_path):
    path, size = tmp_path / "x.safetensors", 500_000
    save_tensors(path, {"x": torch.full((size,), -1.0)})
    for delay in (0.003, 0.01, 0.03, 0.06, 0.1):
        child = os.fork()
        if child == 0:
            torch.set_num_threads(1)
            for value in range(10**6):
                save_tensors(path, {"x": torch.full((size,), float(value))})
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        loaded = load_tensors(path)["x"]
        assert len(loaded) == size
        assert (loaded == loaded[0]).all()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write"):
        write_text(tmp_path / "file" / "run.yaml", "text")


@pytest.mark.parametrize("keep", [0, 4, 60, -1])
def test_a_truncated_file_is_one_clear_line(tmp_path, keep):
    save_tensors(tmp_path / "x.safetensors", {"x": torch.randn(100)})
    whole = (tmp_path / "x.safetensors").read_bytes()
    (tmp_path / "x.safetensors").write_bytes(whole[:keep])
    with pytest.raises(ValueError, match="not a readable safetensors file") as caught:
        load_tensors(tmp_path / "x.safetensors")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path, value):
    save_tensors(tmp_path / "x.safetensors", {"good": torch.ones(2), "bad": torch.tensor([1.0, value])})
    with pytest.raises(ValueError, match="'bad' holds NaN or infinity"):
        load_tensors(tmp_path / "x.safetensors")


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"there are no weights at .+x\.safetensors"):
        load_tensors(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("change", "clue"),
    [
        (lambda weights: weights.pop("bias"), "missing bias"),
        (lambda weights: weights.update(extra=torch.ones(1)), "unknown extra"),
        (lambda weights: weights.update(weight=torch.ones(3, 2)), r"weight is \[3, 2\], not \[2, 3\]"),
    ],
)
def test_weights_of_another_model_are_refused(tmp_path, change, clue):
    weights = dict(nn.Linear(3, 2).state_dict())
    change(weights)
    save_tensors(tmp_path / "x.safetensors", weights)
    with pytest.raises(ValueError, match=clue):
        load_into(nn.Linear(3, 2), tmp_path / "x.safetensors")


def test_what_may_be_missing_is_said_by_name_or_by_how_names_end():
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    before = net[1].num_batches_tracked.clone()
    weights = {name: torch.full_like(value, 2) for name, value in net.state_dict().items()}
    del weights["1.num_batches_tracked"], weights["0.bias"]
    with pytest.raises(ValueError, match=r"x\.pt does not fit a Sequential: missing 0\.bias \(1 in all\)"):
        load_strictly(net, weights, "x.pt", optional=["num_batches_tracked"])
    load_strictly(net, weights, "x.pt", optional=["num_batches_tracked", "0.bias"])
    assert net[1].num_batches_tracked == before
    assert (net[0].weight == 2).all()


def test_a_module_on_the_meta_device_takes_the_tensors_in_its_own_dtypes():
    with torch.device("meta"):
        net = nn.Linear(3, 2)
    load_strictly(net, {"weight": torch.ones(2, 3).half(), "bias": torch.ones(2)}, "x.pt")
    assert (net.weight.dtype, net.weight.device.type) == (torch.float32, "cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_that_are_not_finite_never_reach_a_module(dtype):
    weights = {"weight": torch.ones(2, 3).to(dtype), "bias": torch.tensor([1.0, float("nan")]).to(dtype)}
    net = nn.Linear(3, 2)
    before = net.weight.clone()
    with pytest.raises(ValueError, match="'bias' holds NaN or infinity"):
        load_strictly(net, weights, "x.pt")
    assert torch.equal(net.weight, before)


def test_a_fingerprint_knows_values_names_and_shapes_and_nothing_else():
    x = torch.randn(4, 6)
    same = [{"x": x, "y": x}, {"y": x.clone(), "x": x.T.contiguous().T}]
    others = [{"x": x}, {"x": x, "z": x}, {"x": x, "y": x.reshape(6, 4)}, {"x": x, "y": x + 1e-6}]
    assert fingerprint(same[0]) == fingerprint(same[1])
    assert len({fingerprint(tensors) for tensors in [same[0], *others]}) == 5


def test_large_integers_have_fingerprints_of_their_own():
    assert fingerprint(torch.tensor([2**24])) != fingerprint(torch.tensor([2**24 + 1]))


def test_a_name_is_something_embedded_or_a_folder(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(checkpoint, "EMBEDDED", tmp_path / "package")
    monkeypatch.chdir(tmp_path)
    embedded = tmp_path / "package" / "mini" / "vae"
    embedded.mkdir(parents=True)
    assert resolve("mini/vae") == embedded
    assert resolve(tmp_path / "package") == tmp_path / "package"
    assert not caplog.text
    (tmp_path / "mini" / "vae").mkdir(parents=True)
    (tmp_path / "mini" / "mine").mkdir()
    assert resolve("mini/vae") == embedded
    assert "mini/vae is the embedded one; the folder here is ./mini/vae" in caplog.text
    assert resolve("./mini/vae").resolve() == tmp_path / "mini" / "vae"
    assert resolve("mini/mine") == Path("mini/mine")
    with pytest.raises(ValueError, match=r"there is no folder 'mini/vea', .+ \(embedded: mini/vae\)"):
        resolve("mini/vea")


def test_the_hub_is_asked_for_what_the_user_named_and_for_nothing_else(tmp_path, monkeypatch):
    asked = []

    def snapshot(name: str, **settings: object) -> str:
        asked.append((name, settings))
        if name == "them/gone":
            raise FileNotFoundError("404\nmore")
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    monkeypatch.chdir(tmp_path)
    assert resolve("them/net", ["*.json"]) == tmp_path
    assert asked == [("them/net", {"allow_patterns": ["*.json"]})]
    for name in ("net", "./net", "/them/net", "~/net", "mini/net", "a/b/c"):
        with pytest.raises(ValueError, match=r"there is no folder .+ a Hub id reads owner/name"):
            resolve(name, ["*.json"])
    with pytest.raises(ValueError, match="there is no folder 'them/net', and it is not embedded either"):
        resolve("them/net")
    assert len(asked) == 1
    with pytest.raises(ValueError, match=r"no folder 'them/gone' here, and it cannot be had from the Hub: 404$"):
        resolve("them/gone", ["*.json"])


def test_a_folder_of_the_same_name_comes_before_the_hub_and_a_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "them" / "net").mkdir(parents=True)
    assert resolve("them/net", ["*"]).resolve() == tmp_path / "them" / "net"
    assert resolve("~/them/net") == tmp_path / "them" / "net"
