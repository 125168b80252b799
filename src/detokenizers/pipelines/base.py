"""What the pipelines have in common: steps that can be watched, the parts that users reach for, LoRA, saving, the Hub.

given, seeds -latents, step by step-> latents -decode-> images
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from diffusers import AutoencoderKL, DiffusionPipeline, FluxTransformer2DModel
from diffusers.loaders import FluxLoraLoaderMixin
from huggingface_hub import HfApi, snapshot_download
from safetensors import SafetensorError
from torch import Tensor

from ..device import is_first
from ..flow.solvers import OnStep
from ..hub.card import card_of
from ..hub.on_hub import FILES
from .components import Drawer
from .given import OutputType, as_output

Callback = Callable[[Any, int, Tensor, dict[str, Tensor]], Mapping[str, Tensor] | None]
"""`callback(pipe, step, timestep, {"latents": ...})`; latents in what it returns replace those of the step."""


class DrawingPipeline(DiffusionPipeline, FluxLoraLoaderMixin):
    """A pipeline over one `Drawer`; the classes below it say what it draws from."""

    _callback_tensor_inputs: ClassVar[list[str]] = ["latents"]
    _lora_loadable_modules: ClassVar[list[str]] = ["transformer"]

    def __init__(self) -> None:
        super().__init__()
        self.set_progress_bar_config(disable=None if is_first() else True)  # None: quiet when stderr is a pipe
        self._interrupt, self._num_timesteps = False, 0
        self._guidance_scale: float | None = None
        self._loras: list[str] = []

    @property
    @abstractmethod
    def drawer(self) -> Drawer:
        """The component that draws."""

    @property
    def num_timesteps(self) -> int:
        """Steps of the last call."""
        return self._num_timesteps

    @property
    def guidance_scale(self) -> float | None:
        """Of the last call; None where the model's own was taken."""
        return self._guidance_scale

    @property
    def interrupt(self) -> bool:
        """Whether the steps that are left are left out; a callback sets `pipe._interrupt`."""
        return self._interrupt

    @property
    def vae(self) -> AutoencoderKL | None:
        """The autoencoder in whose latents it draws, for `pipe.vae.enable_tiling()`; None where it draws pixels."""
        return next((part for part in self.drawer.modules() if isinstance(part, AutoencoderKL)), None)

    @property
    def transformer(self) -> FluxTransformer2DModel | None:
        """The decoder's FLUX, which LoRA weights are for; None where its net is another."""
        return next((part for part in self.drawer.modules() if isinstance(part, FluxTransformer2DModel)), None)

    def _draw(
        self,
        given: Any,
        seeds: Sequence[int],
        *,
        steps: int | None,
        output_type: OutputType,
        on_step: OnStep | None,
        **options: Any,
    ) -> Any:
        """Draw from what is given, in two halves, so that latents can be watched and returned."""
        drawer, model = self.drawer, self.drawer.model
        options = {name: value for name, value in options.items() if value is not None}
        if odd := sorted(options.keys() - getattr(model, "options", frozenset())):
            raise ValueError(f"a {type(model).__name__} takes no {' and no '.join(odd)}")
        steps = getattr(model, "steps", None) if steps is None else steps
        latents = drawer("latents", given, steps=steps, seeds=seeds, progress=self._steps, on_step=on_step, **options)
        if output_type == "latent":
            return latents
        return as_output(drawer("decode", latents, seeds=seeds), output_type)

    def _begin(self, output_type: str, callback: Callback | None, tensors: Sequence[str] | None) -> OnStep | None:
        """Check what all calls share; returns what is called after every step, if anything is."""
        if output_type not in OutputType.__args__:
            raise ValueError(f"output_type is {output_type!r}; it can be {', '.join(OutputType.__args__)}")
        tensors = list(getattr(callback, "tensor_inputs", None) or tensors or self._callback_tensor_inputs)
        if odd := [name for name in tensors if name not in self._callback_tensor_inputs]:
            raise ValueError(
                f"callback_on_step_end_tensor_inputs names {', '.join(odd)}; "
                f"there is only {', '.join(self._callback_tensor_inputs)}"
            )
        self._interrupt, self._num_timesteps = False, 0

        def on_step(number: int, t: Tensor, latents: Tensor) -> Tensor:
            assert callback is not None
            shown = {"latents": latents} if "latents" in tensors else {}
            returned = callback(self, number, 1000 * t, shown)  # diffusers counts the time from 1000
            changed = (returned or {}).get("latents", latents)
            if changed.shape != latents.shape:
                raise ValueError(f"the callback made latents {list(changed.shape)} of {list(latents.shape)}")
            return changed

        return None if callback is None else on_step

    def _steps(self, numbers: Sequence[int]) -> Iterator[int]:
        """The loop over steps with its bar, which ends early when a callback asked for it."""
        self._num_timesteps = len(numbers)
        with self._bar(len(numbers)) as bar:
            for number in numbers:
                if self._interrupt:
                    return
                yield number
                bar.update()

    def _bar(self, total: int) -> Any:
        return self.progress_bar(total=total)  # pyright: ignore[reportAttributeAccessIssue]

    @classmethod
    def download(cls, pretrained_model_name: str, **fetching: Any) -> str:
        """Fetch a pipeline's repository; only a name that the user gave is ever asked for."""
        known = ("revision", "cache_dir", "force_download", "local_files_only", "token")
        asked = {name: fetching[name] for name in known if fetching.get(name) is not None}
        return snapshot_download(pretrained_model_name, allow_patterns=list(FILES), **asked)

    def load_lora_weights(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        pretrained_model_name_or_path_or_dict: str | dict[str, Tensor],
        adapter_name: str | None = None,
        **reading: Any,
    ) -> None:
        """Add LoRA weights for FLUX, in any of the formats that diffusers reads; those that are active stay so.

        Args:
            pretrained_model_name_or_path_or_dict: a folder or a Hub id (with `weight_name`), a file, or the tensors.
            adapter_name: for `set_adapters`.
            reading: what diffusers' own loader takes, such as `weight_name` and `revision`.

        Raises:
            ValueError: the decoder's net is no FLUX, or these are no LoRA weights.
        """
        transformer: Any = self.transformer
        if transformer is None:
            raise ValueError(
                f"the {type(self.drawer.model).__name__} of this pipeline has no FLUX to add LoRA weights to"
            )
        given = pretrained_model_name_or_path_or_dict
        given = dict(given) if isinstance(given, dict) else str(given)
        reading = {"use_safetensors": True, "return_lora_metadata": True, **reading}
        try:
            tensors, alphas, notes = self.lora_state_dict(given, return_alphas=True, **reading)
        except SafetensorError as error:
            raise ValueError(f"{given} holds no readable LoRA weights ({error})") from None
        if not any("lora" in name for name in tensors):
            raise ValueError(f"these are no LoRA weights: their first tensor is {next(iter(tensors), None)!r}")
        # The input layer has been widened for the condition; what LoRA knows of it is within.
        tensors = {name.replace("x_embedder.lora", "x_embedder.base.lora"): x for name, x in tensors.items()}
        known = set(getattr(transformer, "peft_config", ()))
        before = self.get_active_adapters() if known else []
        self.load_lora_into_transformer(
            tensors, alphas, transformer, adapter_name=adapter_name, metadata=notes, _pipeline=self
        )
        (added,) = set(transformer.peft_config) - known
        self._loras.append(added)
        if before:
            transformer.set_adapters([*before, added])

    def unload_lora_weights(self, reset_to_overwritten_params: bool = False) -> None:
        """Take out what `load_lora_weights` added; adapters that the decoder was trained with stay."""
        transformer: Any = self.transformer
        if trained := [name for name in getattr(transformer, "peft_config", ()) if name not in self._loras]:
            transformer.delete_adapters(self._loras)
            transformer.set_adapters(trained)
        else:
            super().unload_lora_weights(reset_to_overwritten_params)
        self._loras = []

    def save_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        save_directory: str | Path,
        *,
        push_to_hub: bool = False,
        model_card_kwargs: dict[str, Any] | None = None,
        **saving: Any,
    ) -> None:
        """Write model_index.json, a model card and a folder for each component; weights are safetensors.

        Args:
            push_to_hub: whether it is pushed, too, to the `repo_id` among `saving`, or to the folder's name.
            model_card_kwargs: what `hub.card.card_of` takes: `results`, `row`, `sheet`, `license`.
            saving: what `push_to_hub` takes.

        Raises:
            ValueError: LoRA weights are loaded, which are not part of the pipeline, or pickles are asked for.
        """
        if not saving.pop("safe_serialization", True):
            raise ValueError("weights are written as safetensors and nothing else; leave safe_serialization out")
        if saving and not push_to_hub:
            raise ValueError(f"saving takes no {', '.join(saving)}")
        if self._loras:
            raise ValueError(
                f"LoRA weights ({', '.join(self._loras)}) are no part of this pipeline and are not saved with it; "
                "call unload_lora_weights() first, and load them again where they are needed"
            )
        folder = Path(save_directory)
        super().save_pretrained(folder)
        card_of(folder, **(model_card_kwargs or {})).save(folder / "README.md")
        if push_to_hub:
            saving = {"repo_id": folder.name, **saving}
            self.push_to_hub(model_card_kwargs=model_card_kwargs, **saving)

    def push_to_hub(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, repo_id: str, *, model_card_kwargs: dict[str, Any] | None = None, private: bool | None = None,
        token: str | None = None, **committing: Any,
    ) -> str:  # fmt: skip
        """Push the saved pipeline to a repository, which is made if it is not there; returns the address of the commit.

        Args:
            repo_id: owner/name.
            model_card_kwargs: what `hub.card.card_of` takes: `results`, `row`, `sheet`, `license`.
            private: whether a new repository is private.
            token: the Hub's; the one of `hf auth login` unless given.
            committing: what `HfApi.upload_folder` takes, such as `commit_message` and `create_pr`.
        """
        api = HfApi(token=token)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, model_card_kwargs={"repo_id": repo_id, **(model_card_kwargs or {})})
            committing = {"commit_message": f"Upload {type(self).__name__}", **committing}
            return str(api.upload_folder(repo_id=repo_id, folder_path=folder, **committing))
