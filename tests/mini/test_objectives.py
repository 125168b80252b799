"""What the parts of the mini stack learn from: each objective overfits a few images, splits its batch without changing
the gradient, and reaches all that is to learn."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from detokenizers.mini.autoencoder_objective import AutoencoderObjective
from detokenizers.mini.perceptual import perceptual_loss, pixel_loss
from detokenizers.mini.tokenizer_objective import TokenizerObjective
from detokenizers.mini.vlm_objective import VLMObjective
from detokenizers.mini.world_net_objective import WorldNetObjective
from detokenizers.nn.codebook import Averages, Restarts
from detokenizers.nn.world_net import WorldNet, WorldNetConfig
from detokenizers.pixels import to_tensor
from detokenizers.pretrained.spaces import VAEConfig, build_vae
from detokenizers.pretrained.vlm.janus_size import build_janus, special_ids
from detokenizers.pretrained.vlm.word_tokenizer import word_tokenizer
from detokenizers.pretrained.vq import JanusVQ
from detokenizers.pretrained.vq_weights import build_vq
from detokenizers.seeds import item_seeds
from tests import stack

IMAGES = to_tensor(stack.WORLD.batch(range(4))[0])


def judge() -> WorldNet:
    torch.manual_seed(5)
    names = stack.WORLD
    return WorldNet(
        WorldNetConfig(nouns=len(names.nouns), colours=7, backgrounds=len(names.backgrounds), widths=(8, 16))
    )


def world_net() -> tuple[WorldNetObjective, dict[str, torch.Tensor]]:
    labels = [stack.WORLD.labels(stack.WORLD.truth(seed)) for seed in range(4)]
    names = ("counts", "colours", "centres", "background")
    truth = {name: torch.stack([torch.as_tensor(row[name]) for row in labels]) for name in names}
    return WorldNetObjective(judge()), {"images": IMAGES, **truth}


def tokenizer(**options) -> tuple[TokenizerObjective, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    return TokenizerObjective(build_vq(stack.JANUS.vary({"codebook": 16})), judge(), **options), {"images": IMAGES}


def autoencoder(**options) -> tuple[AutoencoderObjective, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    vae = build_vae(VAEConfig(channels=4, block_channels=(16, 16), norm_groups=4))
    return AutoencoderObjective(vae, judge(), **options), {"images": IMAGES}


def vlm(**options) -> tuple[VLMObjective, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    words = word_tokenizer(["red", "dog", "cat", "on", "grass"])
    ids = special_ids(words)
    model = build_janus(stack.JANUS.vary({"vocabulary": len(words)}), words)
    pad, bos, eos, boi = (ids[name] for name in ("pad", "bos", "eos", "boi"))
    dog, cat = words.encode("red dog on grass", add_special_tokens=False), words.encode("cat", add_special_tokens=False)
    batch = {
        "words": torch.tensor([[bos, *dog, boi], [pad, pad, pad, bos, *cat, boi]] * 2),
        "tokens": torch.randint(stack.JANUS.codebook, (4, stack.JANUS.grid**2)),
        "images": IMAGES[:2],
        "captions": torch.tensor([[bos, *dog, eos], [bos, *cat, eos, pad, pad, pad]]),
    }
    return VLMObjective(model, pad=pad, bos=bos, eos=eos, boi=boi, **options), batch


def learn(objective: torch.nn.Module, batch: dict[str, torch.Tensor], steps: int, lr: float = 1e-2) -> list[dict]:
    """Terms of the first and of the last step."""
    optimizer = torch.optim.AdamW([w for w in objective.parameters() if w.requires_grad], lr=lr, weight_decay=0)
    rows = []
    for step in range(steps):
        terms = objective(batch | {"seeds": item_seeds(0, step * 4, 4)})
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        rows.append({name: float(value.detach()) for name, value in terms.items()})
    return [rows[0], rows[-1]]


def gradients(objective: torch.nn.Module, *batches: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The mean gradient over batches, as accumulation and data-parallel processes take it."""
    objective.zero_grad()
    for batch in batches:
        (objective(batch)["loss"] / len(batches)).backward()
    return {name: w.grad.clone() for name, w in objective.named_parameters() if w.grad is not None}


ALL = pytest.mark.parametrize("build", [world_net, tokenizer, autoencoder, vlm])


@ALL
def test_every_weight_that_may_learn_gets_a_gradient(build):
    """Data-parallel training waits for the gradient of every weight, so there must be none without."""
    objective, batch = build()
    objective(batch)["loss"].backward()
    assert [name for name, w in objective.named_parameters() if w.requires_grad and w.grad is None] == []
    assert any(w.grad.abs().sum() > 0 for w in objective.parameters() if w.grad is not None)


@ALL
def test_the_loss_is_one_finite_number_beside_named_terms(build):
    objective, batch = build()
    terms = objective(batch)
    assert len(terms) >= 3
    assert all(value.ndim == 0 and torch.isfinite(value) for value in terms.values())


@pytest.mark.parametrize("build", [tokenizer, autoencoder])
def test_two_halves_of_a_batch_give_its_gradient(build):
    objective, batch = build()
    objective.eval()  # a codebook that follows the features is the tokenizer's own business
    batch = batch | {"seeds": item_seeds(0, 100, 4)}
    halves = [{name: value[rows] for name, value in batch.items()} for rows in (slice(0, 2), slice(2, 4))]
    whole = gradients(objective, batch)
    for name, gradient in gradients(objective, *halves).items():
        torch.testing.assert_close(gradient, whole[name], atol=1e-5, rtol=1e-3)


def test_two_halves_of_a_batch_drop_the_same_captions():
    objective, batch = vlm(drop=0.5, weight=0.0)
    batch = {"words": batch["words"], "tokens": batch["tokens"], "seeds": item_seeds(0, 100, 4)}
    halves = [{name: value[rows] for name, value in batch.items()} for rows in (slice(0, 2), slice(2, 4))]
    whole = gradients(objective, batch)
    for name, gradient in gradients(objective, *halves).items():
        torch.testing.assert_close(gradient, whole[name], atol=1e-5, rtol=1e-3)


def test_the_judge_learns_four_scenes_by_heart():
    objective, batch = world_net()
    first, last = learn(objective, batch, 90)
    assert last["loss"] < 0.2 * first["loss"]
    answers = objective.eval().net(batch["images"])
    assert torch.equal(answers["counts"].argmax(-1), batch["counts"])
    assert torch.equal(answers["background"].argmax(-1), batch["background"])
    known = batch["colours"] >= 0
    assert torch.equal(answers["colours"].argmax(-1)[known], batch["colours"][known])


def test_the_judge_learns_from_scenes_without_any_of_its_labels():
    objective, batch = world_net()
    batch["counts"].zero_()
    batch["colours"].fill_(-1)
    batch["centres"].fill_(-1)
    terms = objective(batch)
    assert torch.isfinite(terms["loss"])
    assert terms["colours"] == terms["where"] == 0


def test_a_centre_belongs_to_the_cell_it_lies_in():
    from detokenizers.mini.world_net_objective import _cells

    centres = torch.tensor([[0.0, 0.0], [0.99, 0.0], [0.3, 0.6], [1.0, 1.0], [-1.0, -1.0]])
    assert _cells(centres, 16).tolist() == [0, 3, 9, 15, -1]


def test_the_tokenizer_learns_four_images_with_its_codes():
    objective, batch = tokenizer(warmup=20)
    first, last = learn(objective, batch, 90, lr=5e-3)
    assert last["pixels"] < 0.7 * first["pixels"]
    assert last["psnr"] > first["psnr"] + 2
    assert last["batch_perplexity"] > 4
    assert last["quantiser"] > 0


def test_codes_are_unit_vectors_that_are_seeded_from_features_after_the_warm_up():
    objective, batch = tokenizer(warmup=2)
    start = objective.codebook.book.clone()
    learn(objective, batch, 2, lr=0.0)
    assert torch.equal(objective.codebook.book, start)
    learn(objective, batch, 1, lr=0.0)
    assert not torch.equal(objective.codebook.book, start)
    torch.testing.assert_close(objective.codebook.book.norm(dim=-1), torch.ones(16))
    images = batch["images"].contiguous(memory_format=torch.channels_last)
    z = F.normalize(objective.vq.quant_conv(objective.vq.encoder(images)), dim=1).permute(0, 2, 3, 1).flatten(0, 2)
    assert (objective.codebook.book @ z.T).amax(-1).min() > 0.8


def test_unused_codes_are_seeded_again():
    objective, batch = tokenizer(warmup=0, rule=Averages(decay=0.5, restarts=Restarts(below=0.3, age=0)))
    learn(objective, batch, 1)
    with torch.no_grad():
        objective.codebook.book[3] = -objective.vq.quant_conv.weight.new_ones(8) / 8**0.5
        objective.codebook.total[3], objective.codebook.count[3] = objective.codebook.book[3], 1e-4
    lonely = objective.codebook.book[3].clone()
    learn(objective, batch, 1)
    assert not torch.allclose(objective.codebook.book[3], lonely, atol=0.1)
    assert objective.codebook.count[3] == 1


def test_evaluation_does_not_move_the_codes():
    objective, batch = tokenizer(warmup=0)
    learn(objective, batch, 2)
    book, step = objective.codebook.book.clone(), int(objective.step)
    objective.eval()(batch)
    assert torch.equal(objective.codebook.book, book)
    assert int(objective.step) == step


def test_the_exported_tokenizer_has_the_codes_as_they_stand():
    objective, batch = tokenizer(warmup=0)
    learn(objective, batch, 2)
    assert torch.equal(objective.tokenizer().quantize.embedding.weight, objective.codebook.book)


def test_neither_judge_nor_codes_take_gradients():
    objective, _ = tokenizer()
    frozen = {name for name, w in objective.named_parameters() if not w.requires_grad}
    assert {name for name, _ in objective.named_parameters() if name.startswith("judge.")} <= frozen
    assert "vq.quantize.embedding.weight" in frozen


def test_the_autoencoder_learns_four_images():
    objective, batch = autoencoder()
    first, last = learn(objective, batch, 60)
    assert last["pixels"] < 0.6 * first["pixels"]
    assert last["psnr"] > first["psnr"] + 4


def test_a_heavier_kl_keeps_the_latents_smaller():
    light, heavy = autoencoder(), autoencoder()
    heavy[0].kl = 1.0
    assert learn(*heavy, 30)[-1]["kl"] < 0.5 * learn(*light, 30)[-1]["kl"]


def test_the_vlm_learns_to_draw_and_to_describe_by_heart():
    objective, batch = vlm(drop=0.0)
    batch = batch | {"tokens": batch["tokens"][:2].repeat(2, 1)}  # two captions, two drawings
    first, last = learn(objective, batch, 120, lr=5e-3)
    assert last["draw"] < 0.2 < first["draw"]
    assert last["describe"] < 0.2 < first["describe"]


def test_the_loss_of_a_dropped_row_does_not_depend_on_its_caption():
    objective, batch = vlm()
    other = batch["words"].clone()
    other[0, 1:5] = other[0, 1:5].flip(0)
    nobody, everybody = torch.zeros(4, 1).bool(), torch.ones(4, 1).bool()
    assert objective.draw(batch["words"], batch["tokens"], everybody) == objective.draw(
        other, batch["tokens"], everybody
    )
    assert objective.draw(batch["words"], batch["tokens"], nobody) != objective.draw(other, batch["tokens"], nobody)


def test_the_drawing_loss_is_of_the_tokens_alone_and_the_first_follows_the_caption():
    """By hand: position m - 1 (BOI) predicts token 0, and token i predicts token i + 1."""
    objective, batch = vlm()
    words, tokens = batch["words"][:1], batch["tokens"][:1]
    core = objective.model.model
    image = objective.model.prepare_embeddings_for_image_generation(tokens)
    everything = torch.cat([core.get_input_embeddings()(words), image], 1)
    hidden = core.language_model(inputs_embeds=everything).last_hidden_state
    logits = core.generation_head(hidden[:, words.shape[1] - 1 : -1])
    expected = -logits.log_softmax(-1).gather(-1, tokens[..., None]).mean()
    torch.testing.assert_close(objective.draw(words, tokens, torch.zeros(1, 1).bool()), expected)


def test_padding_adds_nothing_to_the_caption_loss():
    objective, batch = vlm()
    plain = objective.describe(batch["images"][1:], batch["captions"][1:, :3])
    torch.testing.assert_close(objective.describe(batch["images"][1:], batch["captions"][1:]), plain)


def test_pixel_loss_counts_levels_and_edges():
    truth = torch.zeros(1, 3, 4, 4)
    shifted = truth + 0.5
    assert pixel_loss(truth, truth) == 0
    assert pixel_loss(shifted, truth).item() == pytest.approx(0.5)
    step = truth.clone()
    step[..., 2:] = 0.5
    # Half the pixels are 0.5 off; one column of differences in three is.
    assert pixel_loss(step, truth, edges=1.0).item() == pytest.approx(0.25 + 0.5 / 3)


def test_perceptual_loss_is_zero_for_equal_images_and_reaches_the_drawing():
    net = judge().requires_grad_(False)
    drawn = IMAGES.clone().requires_grad_()
    assert perceptual_loss(net, IMAGES, IMAGES) == 0
    loss = perceptual_loss(net, drawn, IMAGES.flip(-1))
    loss.backward()
    assert loss > 0
    assert drawn.grad.abs().sum() > 0


def test_with_kept_codes_only_the_decoder_learns_and_every_token_stays():
    objective, batch = tokenizer(keep_codes=True)
    tokens = JanusVQ(copy.deepcopy(objective.tokenizer())).features(IMAGES)
    before = {name: w.clone() for name, w in objective.vq.state_dict().items()}
    first, last = learn(objective, batch, 20)
    assert last["pixels"] < 0.8 * first["pixels"]
    after = objective.tokenizer().state_dict()
    changed = {name.split(".")[0] for name, w in after.items() if not w.equal(before[name])}
    assert changed == {"decoder", "post_quant_conv"}
    assert JanusVQ(objective.tokenizer()).features(IMAGES).equal(tokens)


def test_with_kept_latents_only_the_decoder_learns_and_every_latent_stays():
    objective, batch = autoencoder(keep_latents=True, perceptual=0.5)
    before = {name: w.clone() for name, w in objective.vae.state_dict().items()}
    first, last = learn(objective, batch, 20)
    assert last["pixels"] < 0.8 * first["pixels"]
    assert last["perceptual"] < first["perceptual"]
    changed = {name.split(".")[0] for name, w in objective.vae.state_dict().items() if not w.equal(before[name])}
    assert changed == {"decoder"}
