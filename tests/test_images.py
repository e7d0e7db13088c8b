"""Decoding and views, against arrays cut out by hand."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from cmwjax.data import decode
from cmwjax.data.decode import CROPS, REASONS, View, look
from image_files import BROKEN, break_file, encoded, random_pixels

RNG = np.random.default_rng


def smooth(height, width):
    """Colour tells the place: red the column, green the row, in shares of 255."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return np.rint(255 * np.stack([x, y, np.zeros_like(x)], -1)).astype(np.uint8)


def test_an_image_of_the_right_size_is_not_touched():
    pixels = random_pixels(0)
    for crop in ("centre", "random_crop"):
        seen = look(encoded(pixels), View(10, 0, crop), RNG(0))
        np.testing.assert_array_equal(seen, pixels)


def test_random_crops_are_parts_of_the_image_from_everywhere_half_of_them_mirrored():
    pixels = random_pixels(0, 6)
    parts = {
        (sign, i, j): pixels[i : i + 4, j : j + 4][:, ::sign]
        for i in range(3)
        for j in range(3)
        for sign in (1, -1)
    }
    content, view, seen = encoded(pixels), View(4, 0, "random_crop", True), []
    for seed in range(300):
        crop = look(content, view, RNG(seed))
        seen += [key for key, part in parts.items() if np.array_equal(part, crop)]
        np.testing.assert_array_equal(crop, look(content, view, RNG(seed)))
    assert len(seen) == 300 and set(seen) == set(parts)
    assert 110 < sum(sign == -1 for sign, _, _ in seen) < 190


@pytest.mark.parametrize(("height", "width"), [(40, 61), (61, 40)])
def test_resize_then_centre_crop(height, width):
    pixels = random_pixels(1, 64)[:height, :width]
    shape = (int(20 * 61 / 40), 20) if width > height else (20, int(20 * 61 / 40))
    whole = Image.fromarray(pixels).resize(shape, Image.Resampling.BILINEAR)
    left, top = (round((side - 16) / 2) for side in shape)
    want = np.asarray(whole, int)[top : top + 16, left : left + 16]
    seen = look(encoded(pixels), View(16, 20), RNG(0))
    # Only what is needed is resized, so a place is rounded in another way at times.
    assert np.abs(seen - want).max() <= 1


def test_random_resized_crops_have_the_areas_and_shapes_of_the_paper():
    content, areas, ratios = encoded(smooth(128, 256)), [], []
    for seed in range(400):
        seen = look(content, View(32, 0, "random_resized_crop"), RNG(seed)) / 255
        # A crop of 32 pixels ends half a pixel before its borders.
        width, height = (np.ptp(seen[..., c]) * 32 / 31 for c in (0, 1))
        areas.append(width * height)
        ratios.append(width * 256 / (height * 128))
    assert 0.07 < min(areas) < 0.1 and max(areas) < 0.68  # a square in twice its size
    assert 0.72 < min(ratios) < 0.8 and 1.25 < max(ratios) < 1.4
    # Areas are uniform, as long as they fit; ratios are as likely as their inverses.
    assert abs(np.median(areas) - np.mean(areas)) < 0.04
    assert abs(np.median(np.log(ratios))) < 0.05


def test_a_resize_comes_before_the_random_resized_crop():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, np.arange(256) % 8 < 4] = 255  # nothing is left of them at 16 pixels
    view = View(64, 16, "random_resized_crop")
    for seed in range(5):
        seen = look(encoded(stripes), view, RNG(seed))
        assert np.abs(seen.astype(int) - 128).max() < 20
    view = view._replace(resize=0)
    assert np.ptp(look(encoded(stripes), view, RNG(2)).astype(int)) > 100


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 2)])
@pytest.mark.parametrize("resize", [0, 32])
def test_any_shape_will_do(crop, size, resize):
    content = encoded(Image.new("RGB", size, (10, 200, 90)))
    seen = look(content, View(24, resize, crop, True), RNG(3))
    assert seen.shape == (24, 24, 3) and seen.dtype == np.uint8
    assert (seen == (10, 200, 90)).all()


RED = (200, 30, 60)


@pytest.mark.parametrize(
    ("image", "format", "colour"),
    [
        (Image.new("L", (4, 4), 77), "PNG", (77, 77, 77)),
        (Image.new("1", (4, 4), 1), "PNG", (255, 255, 255)),
        (Image.new("LA", (4, 4), (77, 9)), "PNG", (77, 77, 77)),
        (Image.new("RGBA", (4, 4), (*RED, 0)), "PNG", RED),
        (Image.new("RGB", (4, 4), RED).quantize(2), "PNG", RED),
        (Image.new("RGB", (4, 4), RED).convert("CMYK"), "JPEG", RED),
        (Image.new("RGB", (4, 4), RED), "WEBP", RED),
        (Image.new("RGB", (4, 4), RED), "BMP", RED),
        (Image.fromarray(np.full((4, 4), 77 * 256, np.uint16)), "PNG", (77, 77, 77)),
    ],
    ids=lambda value: getattr(value, "mode", None),
)
def test_colour_modes_become_rgb(image, format, colour):
    seen = look(encoded(image, format), View(4, 0), RNG(0))
    assert np.abs(seen.astype(int) - colour).max() <= 6


RAMP = np.tile(np.linspace(0, 1, 64), (4, 16)).astype(np.float32)


def tiff(pixels):
    return encoded(Image.fromarray(pixels), "TIFF")


def pgm(white):
    """16 bits as PGM has them, of which `white` is white."""
    pixels = np.rint(RAMP * white).astype(">u2")
    return b"P5 %d %d %d\n" % (*RAMP.shape[::-1], white) + pixels.tobytes()


@pytest.mark.parametrize(
    "content",
    [
        tiff(RAMP),
        tiff(RAMP * 255),
        tiff(RAMP * 65535),
        tiff((RAMP * 255).astype(np.int32)),
        tiff((RAMP * 65535).astype(np.int32)),
        tiff((RAMP * 65535).astype(np.uint16)),
        tiff((RAMP * 4095).astype(np.uint16)),
        encoded(Image.fromarray((RAMP * 65535).astype(np.uint16))),
        pgm(65535),
        pgm(4095),
    ],
    ids=[
        "float",
        "float255",
        "float65535",
        "int255",
        "int32",
        "16 bits",
        "12 bits",
        "png",
        "pgm",
        "pgm12",
    ],
)
def test_one_channel_of_any_depth_becomes_8_bits(content):
    size = RAMP.shape[1]
    pixels, code = decode.load(lambda _: content, 0, View(4, 0, "centre"), RNG(0))
    assert not code
    with Image.open(BytesIO(content)) as image:
        whole = np.asarray(decode._to_rgb(image))
    assert np.abs(whole / 255 - RAMP[..., None]).max() <= 1.01 / 255
    middle = slice(size // 2 - 2, size // 2 + 2)
    np.testing.assert_array_equal(pixels, whole[:, middle])


@pytest.mark.parametrize(
    "pixels",
    [
        RAMP - 0.5,
        RAMP * 1e6,
        RAMP * np.nan,
        (RAMP * 1e6).astype(np.int32),
        (RAMP * 1e3 - 500).astype(np.int32),
    ],
)
def test_depths_of_which_nobody_knows_white_have_a_reason(pixels):
    content = tiff(pixels)
    seen, code = decode.load(lambda _: content, 0, View(4, 0), RNG(0))
    assert REASONS[code] == "unsupported depth" and not seen.any()


def test_palettes_with_transparency_do_not_warn():
    image = Image.new("RGB", (4, 4), RED).quantize(2)
    content = encoded(image, transparency=bytes([0, 128]))
    assert np.abs(look(content, View(4, 0), RNG(0)).astype(int) - RED).max() <= 6


def test_orientation_tags_are_not_obeyed():
    pixels, tags = random_pixels(0), Image.Exif()
    tags[0x0112] = 3  # upside down
    content = encoded(Image.fromarray(pixels), exif=tags)
    np.testing.assert_array_equal(look(content, View(10, 0), RNG(0)), pixels)


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_upright_views_obey_orientation_tags(tag, mode):
    pixels, tags = random_pixels(0, 20)[:8], Image.Exif()
    image = Image.fromarray(pixels).convert(mode)
    turned = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.transpose(1, 0, 2),
        6: lambda x: x.transpose(1, 0, 2)[:, ::-1],
        7: lambda x: x.transpose(1, 0, 2)[::-1, ::-1],
        8: lambda x: x.transpose(1, 0, 2)[::-1],
    }
    whole = turned[tag](np.asarray(image.convert("RGB")))
    top, left = ((side - 6) // 2 for side in whole.shape[:2])
    tags[0x0112] = tag
    seen = look(encoded(image, exif=tags), View(6, 0, upright=True), RNG(0))
    np.testing.assert_array_equal(seen, whole[top : top + 6, left : left + 6])


def test_large_photographs_look_alike_however_they_are_decoded(monkeypatch):
    content = encoded(smooth(1200, 1600), "JPEG", quality=90)
    view = View(64, 80)
    fast = look(content, view, RNG(0)).astype(int)
    monkeypatch.setattr(decode, "SPARE", 1000)  # never at a smaller size
    slow = look(content, view, RNG(0))
    assert 0 < np.abs(fast - slow).max() <= 2


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_say_why(tmp_path, kind):
    path = tmp_path / "image.png"
    path.write_bytes(encoded(random_pixels(0)))
    break_file(path, kind)
    pixels, code = decode.load(lambda _: path.read_bytes(), 0, View(8, 0), RNG(0))
    assert REASONS[code] == kind
    assert pixels.shape == (8, 8, 3) and not pixels.any()


def test_more_reasons(tmp_path, monkeypatch):
    def reason(read):
        return REASONS[decode.load(read, 5, View(8, 0), RNG(0))[1]]

    assert reason(lambda i: (tmp_path / f"{i}.png").read_bytes()) == "missing"
    content = encoded(random_pixels(0), "JPEG")
    assert reason(lambda i: content) == ""
    assert reason(lambda i: content[: len(content) // 2]) == "damaged"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    assert reason(lambda i: content) == "too large"

    def unreachable(i):
        raise PermissionError("no disk")

    # That the disk fails is not the fault of the image.
    with pytest.raises(PermissionError):
        reason(unreachable)
