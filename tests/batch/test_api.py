"""`auscan.detect`: files, parts of a file, lists, arrays of frames, and a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_overloads, get_type_hints

import batch_fakes
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

import auscan
from auscan.batch.api import Paths
from auscan.batch.isolate import call_in_process
from auscan.core.config import SAMPLE_RATE_HZ
from auscan.media.audio import Waveform, read_waveform
from auscan.media.video import read_frames
from auscan.pipeline.detect import detect as detect_recording

START, END = 1.01, 2.5  # between two frames, and at one


@pytest.fixture(scope="module")
def engine() -> Any:
    return auscan.load_model("nano", threads=1)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "demo.mp4"
    auscan.make_demo_clip(path)
    return path


@pytest.fixture(scope="module")
def part(clip: Path, engine: Any) -> auscan.Result:
    return auscan.detect(clip, model=engine, start=START, end=END, attributions=True)


def sound_between(clip: Path, start_s: float, end_s: float) -> Waveform:
    """The samples of a clip with start_s <= time < end_s."""
    chunks = read_waveform(clip)
    assert chunks is not None
    whole = list(chunks)
    samples = np.concatenate([chunk.samples for chunk in whole])
    times_s = whole[0].start_s + np.arange(len(samples)) / SAMPLE_RATE_HZ
    inside = np.flatnonzero((times_s >= start_s - 1e-7) & (times_s < end_s - 1e-7))
    return Waveform(samples[inside], float(times_s[inside[0]]))


def assert_same_table(a: auscan.Result, b: auscan.Result) -> None:
    pd.testing.assert_frame_equal(a.table, b.table, check_exact=True)


def test_bounds_beyond_the_file_change_nothing(clip: Path, engine: Any) -> None:
    whole = detect_recording(clip, model=engine)
    assert_same_table(auscan.detect(clip, model=engine), whole)
    bounded = auscan.detect(str(clip), model=engine, start=-5, end=1e6)
    assert_same_table(bounded, whole)
    assert bounded.sound is not None
    assert whole.sound is not None
    assert_array_equal(bounded.sound.level_db, whole.sound.level_db)
    assert whole.info.command == f"auscan detect {clip}"
    assert bounded.info.command == f"auscan.detect('{clip}', start=-5, end=1000000.0)"


def test_a_part_of_a_file_equals_its_frames_and_sound_as_arrays(
    clip: Path, engine: Any, part: auscan.Result
) -> None:
    frames = [frame for frame in read_frames(clip) if START <= frame.time_s < END]
    images, times_s = np.stack([frame.image for frame in frames]), [frame.time_s for frame in frames]
    sound = sound_between(clip, START, END)
    array = auscan.detect(images, times_s=times_s, sound=sound, model=engine, attributions=True)
    first = frames[0].index
    assert part.table["frame"].unique().tolist() == [frame.index for frame in frames]
    assert part.table["timestamp"].unique().tolist() == times_s
    pd.testing.assert_frame_equal(
        part.table.assign(frame=part.table["frame"] - first), array.table, check_exact=True
    )
    assert part.info.has_audio
    assert array.info.has_audio
    assert part.sound is not None
    assert array.sound is not None
    assert part.sound.start_s == array.sound.start_s == sound.start_s
    assert_array_equal(part.sound.speech, array.sound.speech)
    assert part.attributions is not None
    assert array.attributions is not None
    assert_array_equal(part.attributions.frames, array.attributions.frames + first)
    assert_array_equal(part.attributions.gate_bytes, array.attributions.gate_bytes)
    assert_array_equal(part.tracks[0].frames, array.tracks[0].frames + first)
    assert (array.info.source, array.info.frames) == ("frames", len(frames))


def test_the_parts_of_a_table_are_numbered_as_in_the_file(
    clip: Path, engine: Any, part: auscan.Result
) -> None:
    tables: list[pd.DataFrame] = []
    frames: list[NDArray[np.int64]] = []
    auscan.detect(
        clip,
        model=engine,
        start=START,
        end=END,
        rows=tables.append,
        attributions=lambda rows: frames.append(rows.frames),
    )
    pd.testing.assert_frame_equal(pd.concat(tables, ignore_index=True), part.table)
    assert_array_equal(np.unique(np.concatenate(frames)), part.table["frame"].unique())


def test_a_report_of_a_part_shows_the_faces_at_its_apexes(
    clip: Path, part: auscan.Result, tmp_path: Path
) -> None:
    auscan.render_report(part, clip, tmp_path / "report.html")
    assert "data:image/" in (tmp_path / "report.html").read_text(encoding="utf-8")
    part.save(tmp_path / "part")
    assert_same_table(auscan.read_result(tmp_path / "part"), part)


def test_a_list_gives_a_result_for_each_path_in_order_and_reports_progress(clips: Path, engine: Any) -> None:
    paths, progress = [clips / "b.mp4", clips / "a.mp4"], []
    results = auscan.detect(paths, model=engine, progress=lambda *counts: progress.append(counts))
    assert [result.info.source for result in results] == ["b.mp4", "a.mp4"]
    assert progress == [(1, 2), (2, 2)]
    for path, result in zip(paths, results, strict=True):
        assert_same_table(result, auscan.detect(path, model=engine))
    assert auscan.detect([], model=engine) == []
    with pytest.raises(auscan.MediaError, match=r"broken\.mp4 is cut off"):
        auscan.detect([clips / "a.mp4", clips / "broken.mp4"], model=engine)


def test_a_process_of_its_own_gives_the_same_result_and_the_same_errors(clips: Path, engine: Any) -> None:
    progress: list[tuple[int, int | None]] = []
    here = auscan.detect(clips / "a.mp4", model=engine, attributions=True)
    (there,) = auscan.detect([clips / "a.mp4"], threads=1, isolate=True, attributions=True)
    assert_same_table(there, here)
    assert there.attributions is not None
    assert here.attributions is not None
    assert_array_equal(there.attributions.attention_bytes, here.attributions.attention_bytes)
    assert_array_equal(there.tracks[0].points, here.tracks[0].points)
    images = np.stack([frame.image for frame in read_frames(clips / "a.mp4")])
    times_s = np.arange(len(images)) / 25
    array = auscan.detect(
        images, times_s=times_s, threads=1, isolate=True, progress=lambda *counts: progress.append(counts)
    )
    assert_same_table(array, here)
    assert progress[-1] == (8, 8)
    with pytest.raises(auscan.MediaError, match=r"broken\.mp4 is cut off"):
        auscan.detect(clips / "broken.mp4", isolate=True)


def test_a_crash_of_the_process_is_an_error_and_leaves_the_main_module_as_it_was() -> None:
    main = vars(sys.modules["__main__"])
    main_before = dict(main)
    message = r"talk\.mp4 could not be read to its end: its process was ended by SIGKILL"
    with pytest.raises(auscan.CrashError, match=message):
        call_in_process(batch_fakes.end_by_signal, "talk.mp4")
    assert main == main_before, "a name that it lacks, as under pytest-xdist, is not added either"
    assert call_in_process(batch_fakes.process_id, "talk.mp4") != os.getpid()


def test_a_script_without_a_guard_can_isolate(clips: Path, tmp_path: Path) -> None:
    """A spawned process usually runs the caller's script again."""
    script = tmp_path / "script.py"
    call = f"auscan.detect({str(clips / 'a.mp4')!r}, isolate=True)"
    script.write_text(f"import auscan\nprint('once')\nprint({call}.info.frames)\n", encoding="utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["once", "8"], done.stderr


IMAGES = np.zeros((2, 8, 8, 3), np.uint8)
TIMES_S = [0.0, 0.04]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(auscan.detect, "a.mp4", start=2, end=2), "start=2 should be less than end=2"),
        (partial(auscan.detect, "a.mp4", start=float("nan")), "start=nan should be less than end=None"),
        (partial(auscan.detect, "a.mp4", times_s=TIMES_S), "a.mp4 has its own times and sound"),
        (partial(auscan.detect, IMAGES), "an array of frames with times_s"),
        (partial(auscan.detect, 5), "got int"),
        (
            partial(auscan.detect, IMAGES, times_s=TIMES_S, start=1),
            "start, end and folder_rate_hz are for files",
        ),
        (
            partial(auscan.detect, IMAGES[0], times_s=[0]),
            r"a uint8 array \[T, H, W, 3\] in RGB, got the shape",
        ),
        (partial(auscan.detect, IMAGES / 255, times_s=TIMES_S), "got float64"),
        (partial(auscan.detect, IMAGES[:0], times_s=[]), r"got the shape \[0, 8, 8, 3\]"),
        (partial(auscan.detect, IMAGES, times_s=[0]), r"2 times, one for each frame, got the shape \[1\]"),
        (
            partial(auscan.detect, IMAGES, times_s=[0.04, 0]),
            r"0\.0 s, is before that of the previous frame, 0\.04",
        ),
        (partial(auscan.detect, IMAGES, times_s=[0, float("inf")]), "a number of seconds, got inf"),
        (partial(auscan.detect, IMAGES, times_s=["a", "b"]), "times_s should be a time in seconds"),
        (partial(auscan.detect, IMAGES, times_s=TIMES_S, sound=np.zeros(9)), "got ndarray"),
        (partial(auscan.detect, ["a.mp4"], rows=print), "rows cannot be a function with a list of inputs"),
        (
            partial(auscan.detect, "a.mp4", isolate=True, attributions=print),
            "attributions cannot be a function",
        ),
    ],
)
def test_a_wrong_argument_is_an_input_error(call: Callable[[], object], message: str) -> None:
    with pytest.raises(auscan.InputError, match=message):
        call()


def test_a_loaded_engine_has_its_device_and_cannot_be_sent(engine: Any) -> None:
    with pytest.raises(auscan.InputError, match="The model is loaded already"):
        auscan.detect("a.mp4", model=engine, threads=2)
    with pytest.raises(auscan.InputError, match="isolate needs the name or the folder of a model"):
        auscan.detect("a.mp4", model=engine, isolate=True)


def test_a_part_without_frames_is_an_error(clips: Path, engine: Any) -> None:
    with pytest.raises(auscan.MediaError, match=r"a\.mp4 has no frame from start=60 to end=None"):
        auscan.detect(clips / "a.mp4", model=engine, start=60)


def test_the_type_of_the_result_follows_from_the_source() -> None:
    variants = {
        str(get_type_hints(variant)["source"]): get_type_hints(variant)["return"]
        for variant in get_overloads(auscan.detect)
    }
    assert variants.pop(str(str | Path)) is auscan.Result
    assert variants.pop(str(Paths)) == list[auscan.Result]
    assert list(variants.values()) == [auscan.Result], "an array"
