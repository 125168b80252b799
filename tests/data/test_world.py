import numpy as np
import pytest

from detokenizers.data.world.backgrounds import PHRASES, PLAIN, TEXTURES
from detokenizers.data.world.objects import COLOURS, nouns, picture
from detokenizers.data.world.scenes import KINDS, Thing, Truth, caption, parse
from detokenizers.data.world.world import CORE, HELD_OUT, World, WorldConfig, reserved

SMALL = WorldConfig()
LARGE = WorldConfig(nouns=165, tail=True, plain_backgrounds=11, textures=11)


@pytest.fixture(scope="module", params=[SMALL, LARGE], ids=["default", "largest"])
def world(request):
    return World(request.param)


def asked(truth):
    """What a caption can say of a truth: all but places, and the order of alike things does not matter."""
    return truth.kind, [thing[:2] for thing in truth.objects], truth.background, truth.relation


def test_the_bank_has_the_agreed_objects():
    roles = [noun.role for noun in nouns().values()]
    assert roles.count("core") == 165
    assert roles.count("held-out") == 80
    assert roles.count("tail") > 650
    assert len(PLAIN) == len(TEXTURES) == 11


def test_a_scene_is_a_pure_function_of_config_split_and_seed(world):
    again = World(world.config)
    for split in ("train", "validation", "new-captions", "held-out"):
        first, second = world.scene(5, split), again.scene(5, split)
        assert first.caption == second.caption
        assert first.truth == second.truth
        assert np.array_equal(first.image, second.image)
    assert world.scene(5).truth != world.scene(5, "validation").truth


def test_every_caption_can_be_read_back(world):
    for split in ("train", "new-captions", "held-out"):
        for seed in range(250):
            truth = world.truth(seed, split)
            assert asked(parse(caption(truth))) == asked(truth), caption(truth)


def test_every_object_in_every_colour_has_a_caption_of_its_own():
    things = [Thing(n.name, c) for n in nouns().values() for c in (None, *n.colours)]
    said = {caption(Truth("any", (thing,), "grass")): thing for thing in things}
    assert len(said) == len(things)
    assert all(parse(text).objects == (thing,) for text, thing in said.items())


def test_counted_objects_can_be_read_back():
    for noun in (n for n in CORE if not n.mass):
        things = (Thing(noun.name),) * 3
        assert parse(caption(Truth("counting", things, "sand"))).objects == things


@pytest.mark.parametrize(
    ("text", "kind", "objects", "background", "relation"),
    [
        ("two red apples on a wooden table", "counting", [("apple", "red")] * 2, "wood", None),
        ("A red apple on a wooden table.", "colour", [("apple", "red")], "wood", None),
        ("a dog left of a cat on a blue background", "position", [("dog", None), ("cat", None)], "blue", "left of"),
        (
            "a yellow crab and a green helicopter on a checkered floor",
            "attribution",
            [("crab", "yellow"), ("helicopter", "green")],
            "checkered",
            None,
        ),
        ("three cats on sand", "counting", [("cat", None)] * 3, "sand", None),
        ("an umbrella and glasses in the sky", "two", [("umbrella", None), ("glasses", None)], "sky", None),
        ("a green heart on grass", "held-out", [("green heart", None)], "grass", None),
    ],
)
def test_prompts_of_the_grammar_are_understood(text, kind, objects, background, relation):
    assert asked(parse(text)) == (kind, objects, background, relation)


@pytest.mark.parametrize("text", ["a dog", "a wug on grass", "two dog on grass", "a dog and a dog on grass", ""])
def test_other_prompts_are_refused(text):
    with pytest.raises(ValueError):
        parse(text)


def test_new_captions_never_appear_in_training(world):
    train = {caption(world.truth(seed)) for seed in range(1500)}
    assert not any(reserved(world.truth(seed, split)) for seed in range(500) for split in ("train", "validation"))
    assert all(reserved(world.truth(seed, "new-captions")) for seed in range(500))
    assert train.isdisjoint(caption(world.truth(seed, "new-captions")) for seed in range(500))


def test_about_a_tenth_of_all_combinations_is_reserved():
    pairs = [Truth("two", (Thing(a.name), Thing(b.name)), "sky") for a in CORE[:60] for b in CORE[60:120]]
    assert 0.08 < np.mean([reserved(pair) for pair in pairs]) < 0.12


def test_a_combination_is_as_reserved_in_any_words():
    dog, apple = Thing("dog"), Thing("apple")
    assert reserved(Truth("two", (dog, apple), "sky")) == reserved(Truth("position", (apple, dog), "sky", "above"))
    assert Truth("single", (apple,), "sky").combination == Truth("colour", (Thing("apple", "red"),), "sky").combination


def test_held_out_objects_are_in_the_held_out_split_only(world):
    held_out = {noun.name for noun in HELD_OUT}
    for split in ("train", "validation", "new-captions"):
        assert all(t.noun not in held_out for seed in range(300) for t in world.truth(seed, split).objects)
    assert {world.truth(seed, "held-out").objects[0].noun for seed in range(1000)} == held_out


def test_captions_keep_to_the_vocabulary(world):
    known = set(world.vocabulary)
    for split in ("train", "new-captions", "held-out"):
        for seed in range(500):
            assert known.issuperset(caption(world.truth(seed, split)).split())


def test_small_worlds_stay_small():
    world = World(WorldConfig(nouns=5, plain_backgrounds=2, textures=0))
    truths = [world.truth(seed) for seed in range(300)]
    assert {thing.noun for truth in truths for thing in truth.objects} == set(world.nouns)
    assert {truth.background for truth in truths} == {"white", "blue"}
    assert {truth.kind for truth in truths} == set(KINDS) - {"tail"}


def test_boxes_lie_in_the_frame_apart_and_as_the_relation_says(world):
    for seed in range(600):
        truth = world.truth(seed)
        boxes = [thing.box for thing in truth.objects]
        assert all(0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1 for x0, y0, x1, y1 in boxes)
        for i, a in enumerate(boxes):
            assert all(a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1] for b in boxes[i + 1 :])
        if truth.relation:
            (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = boxes
            holds = {"left of": ax1 <= bx0, "right of": bx1 <= ax0, "above": ay1 <= by0, "below": by1 <= ay0}
            assert holds[truth.relation]


def test_an_object_alone_fills_most_of_the_frame():
    world = World(SMALL)
    for truth in (t for t in map(world.truth, range(200)) if t.count == 1):
        x0, y0, x1, y1 = truth.objects[0].box
        assert 0.69 <= max(x1 - x0, y1 - y0) <= 0.83


def test_pictures_change_only_where_the_box_and_its_shadow_are():
    world = World(SMALL)
    truth = next(t for t in map(world.truth, range(100)) if t.count == 1 and t.background == "white")
    image = world.render(truth, 128)
    x0, y0, x1, y1 = (round(128 * v) for v in truth.objects[0].box)
    inside = image[y0:y1, x0:x1]
    assert (inside.astype(int).min(-1) < 200).mean() > 0.2
    assert np.all(image[: max(0, y0 - 9)] == image[0, 0])
    assert np.all(image[:, : max(0, x0 - 9)] == image[0, 0])


def test_edges_have_no_halo():
    """Premultiplied colour never exceeds alpha, and an unshadowed edge lies between object and ground."""
    for name in ("apple", "star", "whale"):
        rgba = picture(name).astype(int)
        assert np.all(rgba[..., :3].max(-1) <= rgba[..., 3] + 1)
    world = World(SMALL)
    star = world.render(parse("a red star on a red background"), 64).astype(int)
    assert star[..., 0].max() <= 246  # neither the red paint nor the red ground is brighter


def test_a_scene_looks_the_same_at_any_resolution(world):
    for seed in range(3):
        truth = world.truth(seed)
        small, large = world.render(truth, 64).astype(float), world.render(truth, 128).astype(float)
        shrunk = large.reshape(64, 2, 64, 2, 3).mean((1, 3))
        assert np.abs(small - shrunk).mean() < 16
        assert small.shape == (64, 64, 3)


def test_without_jitter_a_caption_has_one_picture():
    world = World(SMALL.vary(jitter=0.0))
    seen = {}
    for seed in range(300):
        truth = world.truth(seed)
        assert seen.setdefault(caption(truth), truth) == truth
    assert world.render(parse(caption(truth))).tolist() == world.render(truth).tolist()


def test_painted_objects_take_the_colour_and_native_ones_keep_theirs():
    for colour, low, high in [("red", 0.95, 1.04), ("green", 0.28, 0.42), ("blue", 0.54, 0.66), ("yellow", 0.1, 0.17)]:
        rgba = picture("balloon" if colour != "red" else "umbrella", colour).astype(float)
        solid = rgba[rgba[..., 3] > 250][:, :3]
        r, g, b = np.median(solid, 0) / 255
        top, bottom = max(r, g, b), min(r, g, b)
        hue = {r: (g - b) / (top - bottom), g: 2 + (b - r) / (top - bottom), b: 4 + (r - g) / (top - bottom)}[top] / 6
        assert low <= hue % 1 <= high or low <= hue % 1 + 1 <= high
    assert np.array_equal(picture("apple", "red"), picture("apple"))
    assert all(noun.native in (None, *noun.colours) for noun in nouns().values())


def test_only_paintable_nouns_are_painted():
    with pytest.raises(ValueError, match="cannot be painted"):
        picture("penguin", "blue")
    with pytest.raises(ValueError, match="no object called"):
        picture("wug")


def test_labels_are_what_is_there():
    world = World(SMALL)
    labels = world.labels(parse("two red apples on a wooden table"))
    apple = world.nouns.index("apple")
    assert labels["counts"][apple] == 2
    assert labels["counts"].sum() == 2
    assert labels["colours"][apple] == 1 + list(COLOURS).index("red")
    assert labels["pairs"].sum() == 1
    assert world.backgrounds[labels["background"]] == "wood"
    assert labels["count"] == 2
    native = world.labels(parse("an apple on a wooden table"))
    assert native["colours"][apple] == labels["colours"][apple]
    truth = next(t for t in map(world.truth, range(500)) if t.relation == "left of")
    centres = world.labels(truth)["centres"]
    left, right = (centres[world.nouns.index(thing.noun)] for thing in truth.objects)
    assert 0 < left[0] < right[0] < 1


def test_batches_stack_scenes(world):
    images, scenes = world.batch(range(3), "validation")
    assert images.shape == (3, 64, 64, 3)
    assert images.dtype == np.uint8
    assert np.array_equal(images[2], world.scene(2, "validation").image)
    assert scenes[2].caption == world.scene(2, "validation").caption


def test_prompts_are_different_captions():
    scenes = World(SMALL).prompts(20)
    assert len({scene.caption for scene in scenes}) == 20
    assert all(reserved(scene.truth) for scene in scenes)
    tiny = WorldConfig(nouns=2, plain_backgrounds=1, textures=0, shares={"single": 1.0})
    with pytest.raises(ValueError, match="ask for fewer"):
        World(tiny).prompts(5, split="train")


def test_a_world_too_small_for_new_captions_is_refused():
    two = WorldConfig(nouns=2, plain_backgrounds=1, textures=0, shares={"single": 1.0})
    with pytest.raises(ValueError, match="too small"):
        World(two).scene(0, "new-captions")


def test_nothing_is_drawn_on_its_own_colour(world):
    for seed in range(500):
        truth = world.truth(seed)
        assert all((t.colour or nouns()[t.noun].native) != truth.background for t in truth.objects)


def test_every_background_can_be_drawn_at_any_size():
    world = World(SMALL)
    means = {world.render(parse(f"a penguin {place}"), 24).mean((0, 1)).tobytes() for place in PHRASES.values()}
    assert len(means) == 22


def test_settings_that_make_no_world_are_refused():
    with pytest.raises(ValueError, match="needs a background"):
        WorldConfig(plain_backgrounds=0, textures=0)
    with pytest.raises(ValueError, match="unknown kinds"):
        WorldConfig(shares={"portrait": 1.0})
    with pytest.raises(ValueError, match="no split"):
        World(SMALL).scene(0, "test")
