"""Drawing by flow is a function of condition and seed alone; drawing by codes is the tokenizer's own decoder."""

import pytest
import torch
from torch import nn

from detokenizers.decoder import CodeDecoder, FeatureDecoder, FlowDecoder, SpaceDecoder, flow_error
from detokenizers.flow import FluxShift, TimeGrid, heun
from detokenizers.protocols import Grid, VisualTokens


class Toy(nn.Module):
    """A space of stride 2 and a net whose velocity points from the condition to the state."""

    channels, stride = 4, 2

    def encode(self, images):
        return images.repeat_interleave(2, 1)[:, :4, ::2, ::2]

    def decode(self, latents):
        return latents[:, :3].repeat_interleave(2, -1).repeat_interleave(2, -2)

    def forward(self, noisy, t, condition):
        return (noisy - condition) / t[:, None, None, None]


@pytest.fixture
def decoder() -> FlowDecoder:
    return FlowDecoder(Toy(), Toy())


@pytest.fixture
def condition() -> torch.Tensor:
    return torch.rand(3, 4, 4, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("steps", [1, 5])
def test_a_net_that_knows_the_answer_draws_it(decoder, condition, steps):
    images = decoder.sample(condition, size=(8, 12), seeds=[0, 1, 2], steps=steps)
    assert images.shape == (3, 3, 8, 12)
    torch.testing.assert_close(images, decoder.space.decode(condition), atol=1e-5, rtol=0)


def test_an_image_depends_on_its_own_seed_and_not_on_the_batch(condition):
    decoder = FlowDecoder(Toy(), lambda noisy, t, condition: noisy * t[:, None, None, None] + condition)
    draw = lambda rows, seeds: decoder.sample(condition[rows], size=(8, 12), seeds=seeds, steps=4)  # noqa: E731
    together = draw(slice(0, 3), [5, 6, 7])
    torch.testing.assert_close(together[1:2], draw(slice(1, 2), [6]))
    assert not torch.equal(together[1:2], draw(slice(1, 2), [7]))
    torch.testing.assert_close(draw(slice(0, 3), [5, 6, 7]), together, atol=0, rtol=0)


def test_temperature_scales_the_starting_noise_and_at_zero_no_seed_matters(condition):
    def start(temperature: float, seeds: list[int]) -> torch.Tensor:
        decoder = FlowDecoder(Toy(), lambda noisy, t, condition: torch.zeros_like(noisy), temperature=temperature)
        return decoder.latents(condition, size=(8, 12), seeds=seeds, steps=3)

    torch.testing.assert_close(start(0.25, [0, 1, 2]), start(1.0, [0, 1, 2]) / 4)
    assert torch.equal(start(0.0, [0, 1, 2]), start(0.0, [3, 4, 5]))


def test_another_solver_and_a_progress_bar_plug_in(decoder, condition):
    seen = []
    bar = lambda steps: (seen.append(step) or step for step in steps)  # noqa: E731
    images = decoder.sample(condition, size=(8, 12), seeds=[0, 1, 2], steps=3, solver=heun, progress=bar)
    torch.testing.assert_close(images, decoder.space.decode(condition), atol=1e-5, rtol=0)
    assert seen == [0, 1, 2]


def test_the_net_is_asked_at_flux_s_times_for_as_many_tokens_as_it_reads(condition):
    def times(patch: int, steps: int | None) -> list[float]:
        asked = []
        net = lambda noisy, t, condition: asked.append(t[0].item()) or torch.zeros_like(noisy)  # noqa: E731
        steps = {} if steps is None else {"steps": steps}
        FlowDecoder(Toy(), net, TimeGrid(shift=FluxShift(patch=patch))).sample(
            condition[:1], size=(64, 96), seeds=[0], **steps
        )
        return asked

    assert times(2, 5) == pytest.approx(TimeGrid()(5, (4, 32, 48))[:-1].tolist())
    assert times(4, 5) == pytest.approx(TimeGrid()(5, (4, 16, 24))[:-1].tolist())
    assert len(times(2, None)) == 30, "the paper's, unless told otherwise"


def test_numbers_that_are_not_finite_are_named_before_anything_is_decoded(decoder, condition):
    damaged = condition.clone()
    damaged[1, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="the condition is not finite: what was observed of these tokens"):
        decoder.sample(damaged, size=(8, 12), seeds=[0, 1, 2])
    broken = FlowDecoder(Toy(), lambda noisy, t, condition: noisy / 0)
    with pytest.raises(ValueError, match="the drawn latents are not finite: the decoder's weights are damaged"):
        broken.sample(condition, size=(8, 12), seeds=[0, 1, 2], steps=1)


def test_every_image_needs_a_seed(decoder, condition):
    with pytest.raises(ValueError, match="3 images need as many seeds, got 2"):
        decoder.sample(condition, size=(8, 12), seeds=[0, 1])


def test_the_error_is_zero_for_the_true_velocity_and_its_square_offset_elsewhere(decoder, condition):
    noise, t = torch.randn(condition.shape, generator=torch.Generator().manual_seed(1)), torch.tensor([0.2, 0.5, 0.9])
    exact = decoder.predict(condition, noise, t, condition)
    assert flow_error(exact, condition, noise).abs().max() < 1e-9
    torch.testing.assert_close(exact.clean, condition, atol=1e-5, rtol=0)
    decoder = FlowDecoder(Toy(), lambda noisy, t, condition: Toy()(noisy, t, condition) + 3)
    off = flow_error(decoder.predict(condition, noise, t, condition), condition, noise)
    torch.testing.assert_close(off, torch.full((3,), 9.0))


class Tokenizer(nn.Module):
    """A tokenizer of four codes on a 2x2 grid whose picture shows the codes."""

    grid, image_size = Grid(2, 2), 2
    codebook = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]])

    def features(self, images):
        return images.flatten(2).transpose(1, 2)

    def tokens(self, features):
        return (features @ self.codebook.T).argmax(-1)

    def decode(self, codes):
        return codes.transpose(1, 2).unflatten(2, (2, 2))


def test_the_code_decoder_is_codes_through_the_tokenizer_whatever_the_seeds():
    tokens = VisualTokens(torch.tensor([[0, 1, 2, 3]]), Grid(2, 2))
    decoder = CodeDecoder(Tokenizer())
    expected = Tokenizer().decode(Tokenizer.codebook[None])
    assert torch.equal(decoder(tokens), expected)
    assert torch.equal(decoder(tokens, steps=30, seeds=[9]), expected)


def test_tokens_of_another_tokenizer_are_refused():
    decoder = CodeDecoder(Tokenizer())
    with pytest.raises(ValueError, match="draws 2x2 tokens, these are 1x4"):
        decoder(VisualTokens(torch.zeros(1, 4, dtype=torch.long), Grid(1, 4)))
    with pytest.raises(ValueError, match="run from 0 to 4 but this codebook has 4 codes"):
        decoder(VisualTokens(torch.tensor([[0, 1, 2, 4]]), Grid(2, 2)))
    with pytest.raises(ValueError, match="run from -1 to 2 but this codebook has 4 codes"):
        decoder(VisualTokens(torch.tensor([[0, 1, 2, -1]]), Grid(2, 2)))


def test_tokens_of_one_grid_join_and_others_do_not():
    one, two = (
        VisualTokens(torch.full((1, 4), row), Grid(2, 2), {"x": torch.full((1, 4, 3), float(row))}) for row in (1, 2)
    )
    both = VisualTokens.join([one, two])
    assert both.ids.tolist() == [[1] * 4, [2] * 4]
    assert both[1:].observed["x"].equal(two.observed["x"])
    with pytest.raises(ValueError, match="do not make a batch"):
        VisualTokens.join([one, VisualTokens(two.ids, Grid(1, 4), two.observed)])
    with pytest.raises(ValueError, match="do not make a batch"):
        VisualTokens.join([one, VisualTokens(two.ids, Grid(2, 2))])
    with pytest.raises(ValueError, match="do not make a batch"):
        VisualTokens.join([one, VisualTokens(two.ids, Grid(2, 2), {"y": two.observed["x"]})])


def test_features_are_decoded_as_they_were_read_and_asked_for_when_missing():
    tokenizer = Tokenizer()
    decoder = FeatureDecoder(tokenizer)
    features = torch.rand(1, 4, tokenizer.codebook.shape[1])
    tokens = VisualTokens(torch.zeros(1, 4, dtype=torch.long), Grid(2, 2), {"features": features})
    assert torch.equal(decoder(tokens), tokenizer.decode(features))
    images = tokenizer.decode(torch.rand(2, 4, 3))
    read = decoder.read(images, tokenizer)
    assert torch.equal(read.ids, tokenizer.tokens(tokenizer.features(images)))
    assert torch.equal(decoder(read), images)
    with pytest.raises(ValueError, match="come without features"):
        decoder(VisualTokens(tokens.ids, Grid(2, 2)))


class Coarse(Tokenizer):
    """The same codes for pictures of any size, each for its share of the picture."""

    def features(self, images):
        return nn.functional.adaptive_avg_pool2d(images, tuple(self.grid)).flatten(2).mT


def test_a_space_alone_draws_a_picture_there_and_back_token_by_token():
    space, tokenizer = Toy(), Coarse()
    decoder, images = SpaceDecoder(space), torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    tokens = decoder.read(images, tokenizer)
    assert torch.equal(tokens.ids, tokenizer.tokens(tokenizer.features(images)))
    (latents,) = tokens.observed.values()
    assert latents.shape == (2, 4, 16), "a patch of 2x2 latents of four channels is a token"
    assert torch.equal(decoder(tokens), space.decode(space.encode(images)))
    first = latents[0, 1].reshape(4, 2, 2)
    assert torch.equal(first, space.encode(images)[0, :, :2, 2:]), "the second token is the upper right"
    tokenizer.grid, tall = Grid(4, 2), images.repeat(1, 1, 2, 1)
    assert torch.equal(decoder(decoder.read(tall, tokenizer)), space.decode(space.encode(tall)))
    tokenizer.grid = Grid(2, 2)
    for height, width in ((6, 8), (8, 6)):
        with pytest.raises(ValueError, match=r"latents cannot be shared out among 2x2"):
            decoder.read(torch.rand(1, 3, height, width), tokenizer)
    with pytest.raises(ValueError, match="come without latents"):
        decoder(VisualTokens(tokens.ids, tokens.grid))
