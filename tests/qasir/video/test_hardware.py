"""Videos that are decoded on a GPU, with what stands for one: the decoder of a CPU with a GPU's ways and faults."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av.error
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc

from qasir.errors import SpecError, VideoError
from qasir.video.container import Clock, Video
from qasir.video.hardware import (
    BROKEN_OFF,
    CODEC,
    NO_GPU,
    NO_PLACE,
    REFUSED,
    SMALL,
    Fallback,
    Gpu,
    Gpus,
    OnGpu,
    check_decoder,
    check_worth,
    gpu_places,
    on_cpu,
    places_a_gpu,
    places_by,
)
from qasir.video.painter import FramePainter
from qasir.video.schedule import KeyframeRule
from qasir.video.super_image import Cell
from tests.videos import write_video

ROOT = Path(__file__).parents[3]
THREE_A_SECOND = Clock(Fraction(3))


class StandIn:
    """A decoder that counts what it is asked. delay: frames held back, as long as there are more; skips: whether it
    leaves out frames that nobody needs; breaks_at: the packet that it fails at; loses: the frame that never comes."""

    def __init__(self, context, *, delay=0, skips=True, breaks_at=None, loses=None):
        self._context, self._delay, self._skips = context, delay, skips
        self._breaks_at, self._loses = breaks_at, loses
        self._held, self._n, self._n_out = [], 0, 0

    @property
    def skip_frame(self):
        return self._context.skip_frame

    @skip_frame.setter
    def skip_frame(self, which):
        if self._skips:
            self._context.skip_frame = which

    def flush_buffers(self):
        self._held.clear()
        self._context.flush_buffers()

    def decode(self, packet):
        self._n += 1
        if self._n == self._breaks_at:
            raise av.error.ExternalError(-1, "the driver is gone")
        self._held += self._context.decode(packet)
        keep = self._delay if packet is not None else 0
        out, self._held = self._held[: max(0, len(self._held) - keep)], self._held[max(0, len(self._held) - keep) :]
        before = self._n_out
        self._n_out += len(out)
        return [frame for number, frame in enumerate(out, before) if number != self._loses]


class OneGpu(Gpu):
    accel = None

    def __init__(self, make=StandIn, **how):
        self._make, self._how = make, how

    def decoder(self, context):
        return self._make(context, **self._how)


@pytest.fixture(scope="module", params=["libx264", "libx265", "libvpx-vp9"])
def video(request, tmp_path_factory):
    """Four seconds, with frames in another order than they are shown where the codec has that."""
    path = tmp_path_factory.mktemp("video") / f"{request.param}.mkv"
    options = {"g": "12", "bf": "3"} if "x26" in request.param else {"g": "12", "cpu-used": "8"}
    return write_video(path, 40, codec=request.param, size=(128, 128), options=options)


@pytest.fixture(scope="module")
def changing(tmp_path_factory):
    """Frames at uneven times."""
    ticks = [0, 40, 90, 100, 300, 310, 320, 500, 900, 910, 1200, 1210, 1500, 1600, 1700, 1710, 1990, 2000, 2500, 2510]
    path = tmp_path_factory.mktemp("changing") / "v.mkv"
    return write_video(path, len(ticks), pts=ticks, time_base=Fraction(1, 1000), options={"g": "7", "bf": "2"})


def samples_of(path, gpu=None, *, clock=THREE_A_SECOND):
    """What is sampled, where it was decoded, and why not on the GPU."""
    with Video(str(path)) as video:
        video.gpu = gpu
        found = [
            (sample.index, sample.frame.pts, sample.frame.to_ndarray(format="rgb24").tobytes())
            for sample in video.samples([clock])
        ]
        return found, video.decoder, video.fallback


@pytest.mark.parametrize("how", [{}, {"delay": 4}, {"skips": False}, {"delay": 9, "skips": False}])
def test_a_gpu_with_ways_of_its_own_gives_the_same_samples(video, how):
    assert samples_of(video, OneGpu(**how)) == (samples_of(video)[0], "cuda", None)


def test_frames_at_uneven_times_too(changing):
    for clock in (Clock(Fraction(5)), Clock(Fraction(7, 2), 2, 6)):
        expected = samples_of(changing, clock=clock)[0]
        assert samples_of(changing, OneGpu(delay=3), clock=clock) == (expected, "cuda", None)


@pytest.mark.parametrize("how", [{}, {"delay": 4, "skips": False}, {"breaks_at": 1}, {"breaks_at": 8}, {"loses": 2}])
def test_keyframes_are_sampled_alike(video, how):
    rule = KeyframeRule(Fraction(1), Fraction(3, 5))
    found = []
    for gpu in (None, OneGpu(**how)):
        with Video(str(video)) as opened:
            opened.gpu = gpu
            schedule, clock = opened.schedule(rule), Clock(Fraction(2), 3, 7)
            alone = [(s.index, s.frame.pts, s.time_s) for s in opened.samples([schedule])]
        with Video(str(video)) as opened:
            opened.gpu = gpu
            both = [(s.clock, s.index, s.frame.pts) for s in opened.samples([schedule, clock])]
            found.append((alone, both))
        if gpu is not None and not how.keys() & {"breaks_at", "loses"}:
            assert (opened.decoder, opened.fallback) == ("cuda", None)
    assert found[0] == found[1]


@pytest.mark.parametrize("breaks_at", [1, 2, 9, 20, 30])
def test_a_gpu_that_fails_leaves_the_rest_to_the_cpu(video, breaks_at):
    found, decoder, reason = samples_of(video, OneGpu(breaks_at=breaks_at))
    assert (found, decoder) == (samples_of(video)[0], "cpu")
    assert reason in (REFUSED, BROKEN_OFF)


def test_the_reason_tells_whether_anything_came(changing):
    assert samples_of(changing, OneGpu(breaks_at=1))[2] == REFUSED
    assert samples_of(changing, OneGpu(breaks_at=17))[2] == BROKEN_OFF


@pytest.mark.parametrize("loses", [0, 7, 25])
def test_a_frame_that_a_gpu_loses_is_missed_by_nobody(video, loses):
    gpu = OneGpu(loses=loses, skips=False)
    found, decoder, reason = samples_of(video, gpu, clock=Clock(Fraction(10)))
    assert found == samples_of(video, clock=Clock(Fraction(10)))[0]
    assert (decoder, reason) == ("cpu", REFUSED if loses == 0 else BROKEN_OFF)


def test_a_decoder_that_is_none_of_a_gpu_is_not_used(video):
    """FFmpeg decodes on the CPU where it finds that a GPU cannot."""
    found, decoder, reason = samples_of(video, OneGpu(OnGpu))
    assert (found, decoder, reason) == (samples_of(video)[0], "cpu", REFUSED)


class Resized:
    """A frame on a GPU, of another size than the stream's."""

    sw_format, width, height = "nv12", 64, 64


def test_frames_of_another_size_than_the_header_states_are_left_to_the_cpu(video):
    class Resizing(StandIn):
        width, height = 128, 128

        def decode(self, packet):
            return [Resized()]

    with Video(str(video)) as opened, pytest.raises(Fallback, match="64x64"):
        OnGpu(Resizing(opened._stream.codec_context)).decode(None)  # type: ignore[arg-type]


def test_a_gpu_that_cannot_open_a_file_is_not_used(video):
    class Shut(OneGpu):
        def decoder(self, context):
            raise RuntimeError("no stream is compatible")

    assert samples_of(video, Shut())[1:] == ("cpu", REFUSED)


def test_damage_is_told_as_without_a_gpu(tmp_path):
    path = write_video(tmp_path / "v.mkv", 40, options={"g": "8"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    told = []
    for gpu in (None, OneGpu()):
        with pytest.raises(VideoError, match="cut|damaged|invalid|Invalid") as raised:
            samples_of(path, gpu)
        told.append(str(raised.value))
    assert told[0] == told[1]


def test_small_frames_and_other_codecs_are_for_the_cpu():
    check_worth("auto", "h264", 1280, 720)
    check_worth("auto", "vp9", 720, 1280)
    check_worth("cuda", "h264", 64, 48)
    for asked, reason in (
        (("auto", "h264", 854, 480), SMALL),
        (("cuda", "mpeg4", 1920, 1080), CODEC),
        (("cuda", "libdav1d", 1920, 1080), CODEC),
    ):
        with pytest.raises(Fallback) as raised:
            check_worth(*asked)
        assert raised.value.reason == reason


def test_a_frame_of_a_cpu_stays_as_it_is(video):
    with Video(str(video)) as opened:
        frame = next(opened.samples([Clock(Fraction(1))])).frame
    assert on_cpu(frame) is frame


@pytest.mark.parametrize("transfer", [ColorTrc.BT709, ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67])
@pytest.mark.parametrize(("here", "there"), [("yuv420p", "nv12"), ("yuv420p10le", "p010le")])
def test_a_gpu_hands_out_pixels_in_another_order_and_cells_are_the_same(here, there, transfer):
    noise = np.random.default_rng(0).integers(0, 255, (90, 162, 3), np.uint8)
    frame = VideoFrame.from_ndarray(noise, format="rgb24").reformat(format=here)
    frame.color_trc, frame.color_primaries, frame.colorspace = transfer, ColorPrimaries.BT2020, 9
    for side in (9, 37, 74, 224):
        drawn = [np.zeros((side, side, 3), np.uint8) for _ in range(2)]
        for image, each in zip(drawn, (frame, frame.reformat(format=there)), strict=True):
            FramePainter("squash", tone_map=True).draw(each, image, Cell(0, 0, side, side))
        np.testing.assert_array_equal(drawn[0], drawn[1])


def driver(*memory, fails=0):
    """One with GPUs of so much memory each: bytes; or None where it does not tell. fails: what it says when started."""

    def put(value, into, *, fails=0):
        into._obj.value = value
        return fails

    def uuid(into, handle):
        into[0] = handle.value
        return 0

    return SimpleNamespace(
        cuInit=lambda flags: fails,
        cuDeviceGetCount=lambda n: put(len(memory), n),
        cuDeviceGet=lambda handle, device: put(device + 100, handle),
        cuDeviceGetUuid=uuid,
        cuDeviceTotalMem_v2=lambda n, handle: put(told := memory[handle.value - 100] or 0, n, fails=not told),
    )


def test_a_gpu_has_as_many_places_as_its_memory_has_room_for():
    gib = 1 << 30
    found = places_by(driver(141 * gib, 24 * gib, 15 * gib, gib, None))
    assert list(found.values()) == [16, 12, 7, 1, 8]
    assert list(found)[:2] == ["64" + 30 * "0", "65" + 30 * "0"]
    assert places_by(driver(gib, fails=100)) == {}


def test_the_gpus_of_other_machines_are_taken_for_the_least_of_this_one(monkeypatch):
    for here, places in (({}, 8), ({"a": 16, "b": 11}, 11)):
        monkeypatch.setattr("qasir.video.hardware.gpu_places", lambda here=here: here)
        assert places_a_gpu() == places


def gpus(folder, places=(("a", 1),), **how):
    return Gpus(folder, find=lambda: dict(places), **{"start": lambda device: device, **how})


def test_a_gpu_has_a_bounded_number_of_places(tmp_path):
    held = [gpus(tmp_path, [("a", 2), ("b", 2)]) for _ in range(5)]
    assert [each.get() for each in held[:4]] == [0, 1, 0, 1]
    assert [each.get() for each in held[:4]] == [0, 1, 0, 1]
    with pytest.raises(Fallback) as raised:
        held[4].get()
    assert raised.value.reason == NO_PLACE
    unlike = [gpus(tmp_path / "unlike", [("a", 1), ("b", 3)]) for _ in range(4)]
    assert [each.get() for each in unlike] == [0, 1, 1, 1]


HOLD = """
import sys, time
from pathlib import Path
from qasir.video.hardware import Gpus
print(Gpus(Path(sys.argv[1]), find=lambda: {"a": 1}, start=lambda device: device).get(), flush=True)
time.sleep(600)
"""


def test_a_process_that_is_killed_leaves_its_place(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"0\n"
        mine = gpus(tmp_path)
        with pytest.raises(Fallback):
            mine.get()
        process.kill()
        process.wait()
    assert mine.get() == 0


def test_a_gpu_that_does_not_start_is_asked_once_and_its_place_is_free(tmp_path):
    asked = []

    def start(device):
        asked.append(device)
        raise av.error.PermissionError(1, "no CUDA")

    broken = gpus(tmp_path, start=start)
    for _ in range(2):
        with pytest.raises(Fallback) as raised:
            broken.get()
        assert raised.value.reason == NO_GPU
    assert asked == [0]
    assert gpus(tmp_path).get() == 0


def test_without_a_gpu_nothing_is_started(tmp_path):
    with pytest.raises(Fallback) as raised:
        gpus(tmp_path, (), start=lambda device: pytest.fail("there is none")).get()
    assert raised.value.reason == NO_GPU


@pytest.mark.skipif(bool(gpu_places()), reason="there is a GPU")
def test_ffmpeg_without_a_gpu_is_no_gpu(tmp_path):
    with pytest.raises(Fallback) as raised:
        gpus(tmp_path, start=Gpu).get()
    assert raised.value.reason == NO_GPU


def test_a_decoder_is_chosen_by_its_name():
    with pytest.raises(SpecError, match="auto, cpu, cuda"):
        check_decoder("gpu")


COMPARE = """
import sys
import numpy as np
from qasir.video.hardware import Gpu, gpu_places
from tests.qasir.video.test_hardware import samples_of
if not gpu_places():
    sys.exit("no GPU that decodes")
(ours, decoder, reason), (theirs, *_) = samples_of(sys.argv[1], Gpu(0)), samples_of(sys.argv[1])
assert [sample[:2] for sample in ours] == [sample[:2] for sample in theirs]
pixels = [np.frombuffer(b"".join(sample[2] for sample in some), np.uint8).astype(int) for some in (ours, theirs)]
print(decoder, reason, np.abs(pixels[0] - pixels[1]).max())
"""


@pytest.mark.gpu
def test_a_gpu_decodes_what_a_cpu_does(gpu, video):
    """Into planes it may round another way than a cell is drawn."""
    command = [sys.executable, "-c", COMPARE, str(video)]
    done = subprocess.run(command, env=gpu, cwd=ROOT, capture_output=True, text=True, check=False)
    if "no GPU that decodes" in done.stderr:
        pytest.skip("this GPU, or its driver here, decodes no video")
    decoder, reason, apart = done.stdout.split()
    assert (decoder, reason) == ("cuda", "None")
    assert int(apart) <= 2
