"""What a decoder inherits to be pushed to the Hub and fetched from it, on huggingface-hub's own mixin.

model -save_pretrained-> its run folder, records of its training, README.md -push_to_hub-> repository
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Self, cast

from huggingface_hub import ModelHubMixin, snapshot_download

from .card import card_of

FILES = ("*.yaml", "*.safetensors", "*.txt", "*.json", "*.jinja", "*.model", "*.md", "*.png")
"""What a repository of ours holds. Nothing else is fetched, pickles and code least of all."""
RECORDS = ("run.yaml", "calibration.json", "loss.png", "preview.png")
"""What a training leaves beside weights, and is pushed with them."""


class OnHub(ModelHubMixin):
    """A model with `save(folder)` and `load(folder)`, on the Hub as its run folder."""

    origin: Path | None = None
    """The folder it was loaded from, whose records are pushed with it."""

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        config: Any = None,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: dict[str, Any] | None = None,
        **pushing: Any,
    ) -> Any:
        """Write the run folder with its records and a model card.

        Args:
            config: not used; the run folder has its own.
            repo_id: where it is pushed to with `push_to_hub`; the folder's name unless given.
            push_to_hub: whether it is pushed, too.
            model_card_kwargs: what `card_of` takes: `results`, `row`, `sheet`, `license`.
            pushing: what `push_to_hub` takes.
        """
        folder, model = Path(save_directory), cast(Any, self)
        model.save(folder)
        keep_records(self.origin, folder)
        card_of(folder, **(model_card_kwargs or {})).save(folder / "README.md")
        if push_to_hub:
            return self.push_to_hub(repo_id or folder.name, model_card_kwargs=model_card_kwargs, **pushing)
        return None

    def push_to_hub(self, repo_id: str, *, model_card_kwargs: dict[str, Any] | None = None, **pushing: Any) -> Any:
        """Push the run folder to a repository, which is made if it is not there.

        Args:
            repo_id: owner/name.
            model_card_kwargs: what `card_of` takes: `results`, `row`, `sheet`, `license`.
            pushing: what huggingface-hub's mixin takes: `private`, `token`, `branch`, `create_pr`, `commit_message`, ...
        """
        known = {"repo_id": repo_id, **(model_card_kwargs or {})}
        return super().push_to_hub(repo_id, model_card_kwargs=known, **pushing)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **fetching: Any) -> Self:
        """Load a run folder, here or on the Hub; `fetching` are `revision`, `token`, `cache_dir`, `local_files_only`."""
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            folder = Path(snapshot_download(str(folder), allow_patterns=list(FILES), **fetching))
        model = cast(Any, cls).load(folder)
        model.origin = folder
        return model


def keep_records(origin: Path | None, folder: Path) -> None:
    """Copy what the training of a model left, if its folder is known and another one."""
    for name in RECORDS if origin is not None else ():
        source, copy = Path(origin or "") / name, folder / name
        if source.is_file() and source.resolve() != copy.resolve():
            shutil.copyfile(source, copy)
