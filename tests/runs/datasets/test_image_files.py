"""Images of every mode and orientation, compared with Pillow and with known colors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageOps, features

from partialnas.runs.datasets.image_files import decode_images, read_header
from partialnas.space.errors import UserError, printable

COLOR = (200, 100, 50)
SIDE = 4


def decoded(file: Path, channels: int, side: int = SIDE) -> NDArray[np.uint8]:
    (pixels,) = decode_images([file], 1, side, channels)
    return np.asarray(pixels)


def save(tmp_path: Path, image: Image.Image, name: str, **options: Any) -> Path:
    image.save(tmp_path / name, **options)
    return tmp_path / name


@pytest.mark.parametrize(
    ("mode", "name", "tolerance"),
    [
        ("RGB", "x.png", 0),
        ("RGBA", "x.png", 0),
        ("P", "x.png", 0),
        ("P", "x.gif", 0),
        ("CMYK", "x.tif", 1),
        ("CMYK", "x.jpg", 8),
        ("YCbCr", "x.jpg", 8),
        ("LAB", "x.tif", 3),
        ("RGB", "x.JPG", 8),
        ("RGB", "x.jfif", 8),
        ("RGB", "x.webp", 8),
        ("RGB", "x.tga", 0),
        ("RGB", "x.jp2", 2),
        ("RGB", "x.bmp", 0),
    ],
)
def test_color_modes_keep_their_color(mode: str, name: str, tolerance: int, tmp_path: Path) -> None:
    image = Image.new("RGB", (SIDE, SIDE), COLOR)
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.buildTransform(*profiles, "RGB", "LAB").apply(image)
    elif mode == "P":
        image = image.quantize(2)
    else:
        image = image.convert(mode)
    options = {"format": "JPEG"} if name.endswith("jfif") else {}
    file = save(tmp_path, image, name, **options)
    header = read_header(file)
    assert not header.gray
    pixels = decoded(file, 3).astype(int)
    assert np.abs(pixels - np.array(COLOR)[:, None, None]).max() <= tolerance


def test_transparency_is_ignored_as_torchvision_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 4), dtype=np.uint8), "RGBA")
    palette = image.convert("RGB").quantize(4)
    files = [
        save(tmp_path, image, "rgba.png"),
        save(tmp_path, palette, "key.png", transparency=0),
        save(tmp_path, palette, "bytes.png", transparency=bytes([0, 100, 200, 255])),
    ]
    for file in files:
        expected = np.asarray(Image.open(file).convert("RGBA"))[..., :3]
        np.testing.assert_array_equal(decoded(file, 3), expected.transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["1", "L"])
def test_gray_modes_have_one_channel(mode: str, tmp_path: Path) -> None:
    file = save(tmp_path, Image.new("L", (SIDE, SIDE), 255).convert(mode), "x.png")
    assert read_header(file).gray
    assert (decoded(file, 1) == 255).all()


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.pgm", "x.jp2"])
def test_sixteen_bits_are_scaled_to_eight(name: str, tmp_path: Path) -> None:
    levels = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    options = {"irreversible": False} if name.endswith("jp2") else {}
    file = save(tmp_path, Image.fromarray(levels), name, **options)
    header = read_header(file)
    assert header.wide
    assert header.gray
    expected = np.rint(levels / 257)
    np.testing.assert_array_equal(decoded(file, 1, 256)[0], expected)
    np.testing.assert_array_equal(decoded(file, 3, 256), np.stack([expected] * 3))


def test_big_endian_tiff_is_scaled(tmp_path: Path) -> None:
    image = Image.new("I;16B", (SIDE, SIDE), 100 * 257)
    file = save(tmp_path, image, "x.tif")
    assert read_header(file).mode == "I;16B"
    assert (decoded(file, 1) == 100).all()


@pytest.mark.parametrize(
    ("pixels", "name", "mode"),
    [
        (np.full((SIDE, SIDE), 0.5, np.float32), "float.tif", "F"),
        (np.full((SIDE, SIDE), 70_000, np.int32), "int.tif", "I"),
    ],
)
def test_levels_of_unknown_range_are_refused_by_name_and_mode(
    pixels: NDArray[Any], name: str, mode: str, tmp_path: Path
) -> None:
    file = save(tmp_path, Image.fromarray(pixels), name)
    for read in (read_header, lambda path: decoded(path, 1)):
        with pytest.raises(UserError, match=rf"{name} has mode {mode} of Pillow"):
            read(file)


def test_twelve_bits_in_a_container_of_sixteen_are_refused(tmp_path: Path) -> None:
    levels = np.full((SIDE, SIDE), 4095, np.uint16)
    with pytest.raises(UserError, match=r"dark\.png, is 4095 of 65535"):
        decoded(save(tmp_path, Image.fromarray(levels), "dark.png"), 1)


MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"]
WIDE_MODES = ["I;16", "I;16L", "I;16B", "I;16N"]


@pytest.mark.parametrize("mode", [*MODES, *WIDE_MODES, "I", "F", "La"])
def test_every_mode_of_pillow_is_decoded_or_refused_by_name(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file format has some of these modes; a reader of Pillow may return them some day."""
    image = Image.new(mode, (SIDE, SIDE), 100 * 257 if mode in WIDE_MODES else None)
    monkeypatch.setattr(Image, "open", lambda _: image.copy())
    file = tmp_path / "x.png"
    if mode in ("I", "F", "La"):
        with pytest.raises(UserError, match=rf"x\.png has mode {mode} of Pillow"):
            read_header(file)
        return
    header = read_header(file)
    assert header.gray == (mode in ("1", "L", *WIDE_MODES))
    pixels = decoded(file, 1 if header.gray else 3)
    assert header.wide == (mode in WIDE_MODES)
    assert not header.wide or (pixels == 100).all()


AVIF = ["x.avif"] if features.check("avif") else []


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.webp", "x.tif", *AVIF])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(name: str, orientation: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    file = save(tmp_path, Image.fromarray(pixels), name, exif=exif)
    with Image.open(file) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    header = read_header(file)
    assert header.size == upright.size
    # the plug-ins for TIFF and AVIF turn some or all images themselves
    assert header.turned == (orientation > 1) or name in ("x.tif", "x.avif")
    square = ImageOps.fit(upright, (8, 8), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(decoded(file, 3, 8), np.asarray(square).transpose(2, 0, 1))


def test_the_first_of_several_frames_is_read(tmp_path: Path) -> None:
    first, second = (Image.new("L", (SIDE, SIDE), level) for level in (10, 200))
    for name in ("x.gif", "x.tif", "x.webp", "x.apng"):
        file = save(tmp_path, first, name, save_all=True, append_images=[second])
        assert read_header(file).frames
        assert np.abs(decoded(file, 3).astype(int) - 10).max() <= 1


def test_a_decompression_bomb_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save(tmp_path, Image.new("L", (20, 20)), "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 250)
    decoded(file, 1)  # within twice the limit Pillow only warns
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 199)
    with pytest.raises(UserError, match=r"cannot read the image .*huge\.png.*exceeds limit"):
        read_header(file)


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.gif", "x.tif", "x.bmp", "x.webp", "x.jp2"])
def test_the_error_of_a_broken_file_names_it(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    file = save(tmp_path, Image.fromarray(pixels), name)
    whole = np.frombuffer(file.read_bytes(), np.uint8)
    messages = []
    for _ in range(60):
        content = whole.copy()
        content[rng.integers(len(whole), size=4)] = rng.integers(0, 256, 4)
        file.write_bytes(content[: rng.integers(len(whole) + 1)].tobytes())
        try:
            decoded(file, 3)
        except UserError as error:
            messages.append(str(error))
    assert len(messages) > 20
    assert all(name in message for message in messages)
    assert all(message.isprintable() for message in messages)


def test_names_are_printable() -> None:
    assert printable(Path("a/é.png")) == "a/é.png"
    assert printable("a\nb\udcff.png") == r"a\nb\udcff.png"
