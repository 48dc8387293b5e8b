"""High dynamic range as the standard one: by the standards' own numbers, and beside FFmpeg's mapping."""

import io
import shutil
import subprocess
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange

from qasir.video import tone_map
from qasir.video.clip import write_clip
from qasir.video.container import Clock, Video
from qasir.video.painter import FramePainter
from qasir.video.super_image import Cell
from qasir.video.tile import Tiler, Tiling, Wanted, super_images
from qasir.video.tone_map import hable, hlg_scene, pq_nits, standard_range, stated_peak
from qasir.video.tone_table import FORMAT, ToneTable
from tests.high_range import HLG, STATED, scene, write_dolby_vision, write_high_range
from tests.videos import write_video

TILING = Tiling(Fraction(2), 1, 48, tone_map=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    stated = STATED.format(display=4000) + ":max-cll=2000,400"
    write_high_range(folder / "pq.mp4", 40, stated=stated, options="keyint=10")
    write_high_range(folder / "display.mkv", stated=STATED.format(display=4000))
    write_high_range(folder / "hlg.mp4", transfer=HLG)
    write_high_range(folder / "turned.mp4", transfer=HLG, rotation=90)
    write_video(folder / "standard.mp4", 10, picture=(scene() >> 8).astype(np.uint8), size=(96, 64))
    return folder


def first_frame(path: Path) -> VideoFrame:
    with Video(str(path)) as video:
        return video.read_first()


def drawn(frame, *, side=48, fit="squash", **options):
    pixels = np.zeros((side, side, 3), np.uint8)
    FramePainter(fit, **options).draw(frame, pixels, Cell(0, 0, side, side))
    return pixels


def tiled(path, tiling=TILING, **options):
    with Video(str(path)) as video:
        return [image for _, image in super_images(video, [Tiler(Wanted(tiling, **options), video.pixel_aspect)])]


def decibels(one, other):
    return 10 * np.log10(255**2 / np.square(one.astype(float) - other.astype(float)).mean())


# Formulas


def test_codes_of_pq_are_the_nits_of_the_standards():
    """SMPTE ST 2084's ends, and ITU-R BT.2408-7, table 1: reference white and 1,000 nits."""
    nits = pq_nits(np.array([0.0, 0.5081, 0.5807, 0.7518, 1.0]))
    np.testing.assert_allclose(nits, [0, 100, 203, 1000, 10_000], rtol=2e-3)


def test_codes_of_hlg_are_light_of_the_scene():
    """ITU-R BT.2100-2, table 5: the pieces meet at 1 / 12; BT.2408-7: reference white, 203 nits, is at 0.75."""
    np.testing.assert_allclose(hlg_scene(np.array([0.0, 0.5, 1.0])), [0, 1 / 12, 1], atol=1e-6)
    assert 1000 * hlg_scene(np.array(0.75)) ** 1.2 == pytest.approx(203, abs=0.5)


def test_bt2020_becomes_bt709_as_bt2087_has_it():
    matrix = tone_map._to_bt709(ColorPrimaries.BT2020)
    expected = [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
    np.testing.assert_allclose(matrix, expected, atol=1e-4)
    np.testing.assert_allclose(tone_map._luminance_weights(ColorPrimaries.BT2020), [0.2627, 0.6780, 0.0593], atol=1e-4)


@pytest.mark.parametrize("transfer", ["pq", "hlg"])
@pytest.mark.parametrize("peak", [600.0, 1000.0, 4000.0])
def test_it_equals_the_formulas_pixel_by_pixel(transfer, peak):
    codes = np.random.default_rng(1).integers(0, 65536, (3, 150, 61), dtype=np.uint16)  # more than a block
    codes[:, 0, :3] = [[0, 65535, 65535], [0, 65535, 0], [0, 65535, 0]]  # black, white, red
    mapped = standard_range(list(codes), transfer, peak_nits=peak).astype(int)
    to_bt709 = tone_map._to_bt709(ColorPrimaries.BT2020).astype(float)
    for y, x in [(0, 0), (0, 1), (0, 2), *np.random.default_rng(2).integers(0, [150, 61], (300, 2))]:
        code = codes[:, y, x] / 65535
        if transfer == "pq":
            nits, most = pq_nits(code), peak
        else:
            red, green, blue = linear = hlg_scene(code)
            nits, most = 1000 * linear * (0.2627 * red + 0.6780 * green + 0.0593 * blue) ** 0.2, min(peak, 1000)
        light = to_bt709 @ nits / 100
        brightest = max(*light, 1e-6)
        light = np.clip(light * hable(brightest) / hable(most / 100) / brightest, 0, 1)
        assert np.abs(mapped[y, x] - 255 * light ** (1 / 2.4)).max() <= 0.51


def test_greys_stay_grey_and_the_peak_is_white():
    code = np.full((1, 4), 0.0)
    code[0] = [0.0, 0.5081, 0.7518, 1.0]  # 0, 100, 1,000 and 10,000 nits
    grey = standard_range([(code * 65535).astype(np.uint16)] * 3, "pq")
    assert (grey.max(axis=2) - grey.min(axis=2) <= 1).all()
    assert grey[0, :, 0].tolist() == [0, 157, 255, 255]


# Files


def test_the_peak_is_what_the_first_frame_states(folder):
    assert stated_peak(first_frame(folder / "pq.mp4")) == 2000
    assert stated_peak(first_frame(folder / "display.mkv")) == 4000
    assert stated_peak(first_frame(folder / "hlg.mp4")) is None
    for name, nits in [("pq.mp4", 2000), ("display.mkv", 4000), ("hlg.mp4", 1000), ("standard.mp4", 1000)]:
        with Video(str(folder / name)) as video:
            assert video.peak_nits == nits


@pytest.mark.parametrize("name", ["pq.mp4", "display.mkv", "hlg.mp4"])
def test_frames_are_mapped_after_they_were_scaled(folder, name):
    frame = first_frame(folder / name)
    with Video(str(folder / name)) as video:
        (image, *_) = tiled(folder / name)
        np.testing.assert_array_equal(image.pixels, drawn(frame, tone_map=True, peak_nits=video.peak_nits))
    assert decibels(image.pixels, drawn(frame)) < 28


def test_a_tiling_without_it_draws_codes_as_they_are(folder):
    (image, *_) = tiled(folder / "pq.mp4", Tiling(Fraction(2), 1, 48))
    as_coded = VideoFrame.from_ndarray((scene() >> 8).astype(np.uint8), format="rgb24").reformat(48, 48)
    assert decibels(image.pixels, as_coded.to_ndarray()) > 30


def test_the_standard_range_is_not_touched(folder):
    plain, mapped = (tiled(folder / "standard.mp4", Tiling(Fraction(2), 1, 48, tone_map=on)) for on in (False, True))
    for one, other in zip(plain, mapped, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)


def test_super_images_are_the_same_from_the_middle(folder):
    whole = tiled(folder / "pq.mp4")
    assert len(whole) == 8
    for start in (1, 3, 5):
        for image in tiled(folder / "pq.mp4", start=start, stop=start + 2):
            np.testing.assert_array_equal(image.pixels, whole[image.position].pixels)


def test_upright_and_in_its_box(folder):
    upright = drawn(first_frame(folder / "hlg.mp4"), tone_map=True)
    np.testing.assert_array_equal(np.rot90(upright), drawn(first_frame(folder / "turned.mp4"), tone_map=True))
    boxed = drawn(first_frame(folder / "hlg.mp4"), fit="letterbox", tone_map=True)
    assert (boxed[[*range(8), *range(40, 48)]] == 0).all()
    lower = VideoFrame.from_ndarray(upright, format="rgb24").reformat(48, 32).to_ndarray()
    assert decibels(boxed[8:40], lower) > 28


def test_one_peak_serves_a_video_whose_later_keyframes_state_none(tmp_path):
    """As with an open group of pictures, where decoding from a keyframe does not see what came before it."""
    parts = [
        write_high_range(tmp_path / f"{i}.h265", stated=stated, options="bframes=0:repeat-headers=1", format="hevc")
        for i, stated in enumerate([STATED.format(display=600), ""])
    ]
    (tmp_path / "both.h265").write_bytes(b"".join(part.read_bytes() for part in parts))
    path = tmp_path / "both.mkv"
    with av.open(str(tmp_path / "both.h265")) as bare, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(bare.streams.video[0])
        for i, packet in enumerate(packet for packet in bare.demux(video=0) if packet.size):
            packet.pts = packet.dts = 100 * i
            packet.duration = 100
            packet.time_base, packet.stream = Fraction(1, 1000), stream
            container.mux(packet)
    whole = tiled(path)
    assert len(whole) == 4
    with Video(str(path)) as video:
        frame = next(sample.frame for sample in video.samples([Clock(Fraction(10), 10)]))
    assert stated_peak(frame) is None
    np.testing.assert_array_equal(whole[2].pixels, drawn(frame, tone_map=True, peak_nits=600.0))
    np.testing.assert_array_equal(tiled(path, start=2)[0].pixels, whole[2].pixels)


def has_zscale():
    program = shutil.which("ffmpeg")
    filters = program and subprocess.run([program, "-hide_banner", "-filters"], capture_output=True, check=False).stdout
    return bool(filters) and b" zscale " in filters and b" tonemap " in filters


@pytest.mark.skipif(not has_zscale(), reason="no ffmpeg with zscale and tonemap")
@pytest.mark.parametrize("name", ["pq.mp4", "display.mkv", "hlg.mp4"])
def test_it_is_what_ffmpeg_makes_of_it(folder, name):
    """FFmpeg maps at full size and is scaled afterwards."""
    chain = (
        "zscale=t=linear:npl=100:agamma=0,format=gbrpf32le,zscale=p=bt709,tonemap=tonemap=hable:desat=0,"
        "zscale=t=bt709:m=bt709:r=pc,format=rgb24"
    )
    command = ["ffmpeg", "-v", "error", "-i", folder / name, "-frames:v", "1", "-vf", chain, "-f", "rawvideo", "-"]
    frame = first_frame(folder / name)
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    pixels = np.frombuffer(raw, np.uint8).reshape(frame.height, frame.width, 3)
    theirs = drawn(VideoFrame.from_ndarray(pixels, format="rgb24"))
    ours = drawn(frame, tone_map=True, peak_nits=stated_peak(frame) or 1000.0)
    assert decibels(ours, theirs) > max(36, 10 + decibels(drawn(frame), theirs))


@pytest.mark.parametrize(("name", "transfer"), [("pq.mp4", "pq"), ("hlg.mp4", "hlg")])
def test_a_table_of_colours_is_near_the_mapping(folder, name, transfer, monkeypatch, tmp_path):
    odd = tmp_path / "it's [a]:b,c"
    odd.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(odd))
    frame = first_frame(folder / name)
    coded = frame.reformat(
        format=FORMAT, src_colorspace=9, dst_colorspace=9, dst_color_range=ColorRange.JPEG,
    )  # fmt: skip
    mapped = ToneTable((96, 64), transfer, ColorPrimaries.BT2020, 1000.0).mapped(coded)
    expected = drawn(frame, side=64, tone_map=True)
    assert decibels(drawn(mapped, side=64), expected) > 38
    assert not list(odd.iterdir())


def test_clips_are_mapped_too(folder):
    out = io.BytesIO()
    write_clip(str(folder / "pq.mp4"), Fraction(0), Fraction(1, 2), out)
    with av.open(io.BytesIO(out.getvalue())) as container:
        seen = next(container.decode(video=0))
    assert (seen.color_trc, seen.color_primaries, seen.colorspace) == (1, 1, 1)
    expected = drawn(first_frame(folder / "pq.mp4"), tone_map=True, peak_nits=2000.0)
    assert decibels(drawn(seen), expected) > 28


# Dolby Vision


def test_dolby_vision_that_cannot_be_read_is_named_once(tmp_path, caplog):
    tiled(write_dolby_vision(tmp_path / "five.h265", profile=5), Tiling(Fraction(25), 1, 48))
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "Dolby Vision profile 5 has colours that cannot be read: it is encoded with wrong ones"
    ]
    caplog.clear()
    tiled(write_dolby_vision(tmp_path / "eight.h265", profile=8), Tiling(Fraction(25), 1, 48))
    assert not caplog.records
