"""A folder of videos beside coders' files becomes an index, whatever the format of the files."""

import itertools
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from auscan.batch.extract import Extraction
from auscan.cli.main import app
from auscan.core.errors import InputError
from auscan.datasets.cache import open_track
from auscan.datasets.coder_names import suggest
from auscan.datasets.find import Roots
from auscan.datasets.frozen_encoders import load_encoders
from auscan.datasets.index import Index, read_index
from auscan.datasets.prepare import CoderOptions, prepare
from auscan.training.tracks import load_tracks

RATE, FRAMES = 30, 60
EVENTS = {"AU04": [(10, 14), (40, 60)], "AU12": [(0, 7), (13, 31)], "AU45": []}
"""First frame and the frame after the last one of each event."""
UNCODED = (33, 39)


def make_video(path: Path, picture: NDArray[np.uint8] | None = None, frames: int = FRAMES) -> Path:
    """Write a still video at RATE Hz."""
    image = np.full((48, 64, 3), 90, np.uint8) if picture is None else picture
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = image.shape[1], image.shape[0], "yuv420p"
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_video(tmp_path_factory.mktemp("video") / "clip.mp4").read_bytes()


@pytest.fixture
def folder(tmp_path: Path, clip: bytes) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "clip.mp4").write_bytes(clip)
    return tmp_path / "data"


def index_of(folder: Path, out: str = "index", **coders: Any) -> tuple[Index, dict[str, Any]]:
    report = prepare(folder, folder.parent / out, coders=CoderOptions(**coders))
    return read_index(folder.parent / out), report


def truth() -> NDArray[np.int8]:
    """Labels [F, A] of EVENTS, with the uncoded frames."""
    labels = np.zeros((FRAMES, len(EVENTS)), np.int8)
    for j, events in enumerate(EVENTS.values()):
        for first, stop in events:
            labels[first:stop, j] = 1
    labels[slice(*UNCODED)] = -1
    return labels


def rows() -> list[tuple[str, float, float]]:
    """Name, onset and offset in seconds of all events and of the uncoded interval."""
    spans = [(au, first, stop) for au, events in EVENTS.items() for first, stop in events]
    return [(name, first / RATE, stop / RATE) for name, first, stop in (*spans, ("uncoded", *UNCODED))]


def write_eaf(path: Path, tiers: dict[str, list[tuple[float, float, str]]], annotator: str = "") -> None:
    slots, xml, count = [], [], 0
    for name, spans in tiers.items():
        xml.append(f'<TIER TIER_ID="{name}" LINGUISTIC_TYPE_REF="x" ANNOTATOR="{annotator}">')
        for onset, offset, text in spans:
            count += 2
            for number, time_s in ((count, onset), (count + 1, offset)):
                slots.append(f'<TIME_SLOT TIME_SLOT_ID="ts{number}" TIME_VALUE="{round(1000 * time_s)}"/>')
            xml.append(
                f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{count}" TIME_SLOT_REF1="ts{count}" '
                f'TIME_SLOT_REF2="ts{count + 1}"><ANNOTATION_VALUE>{text}</ANNOTATION_VALUE>'
                "</ALIGNABLE_ANNOTATION></ANNOTATION>"
            )
        xml.append("</TIER>")
    path.write_text(
        '<ANNOTATION_DOCUMENT><HEADER TIME_UNITS="milliseconds"/><TIME_ORDER>'
        f"{''.join(slots)}</TIME_ORDER>{''.join(xml)}</ANNOTATION_DOCUMENT>"
    )


def elan(folder: Path) -> None:
    tiers = {name: [(a, b, "x") for au, a, b in rows() if au == name] for name in (*EVENTS, "uncoded")}
    write_eaf(folder / "clip.eaf", tiers)


def textgrid(folder: Path) -> None:
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", "xmax = 2"]
    lines += ["tiers? <exists>", "size = 4", "item []:"]
    for i, name in enumerate((*EVENTS, "uncoded"), start=1):
        spans = [(a, b) for au, a, b in rows() if au == name]
        ends = [0.0, *(end for span in spans for end in span), 2.0]
        lines += [f"    item [{i}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        lines += ["        xmin = 0", "        xmax = 2", f"        intervals: size = {len(ends) - 1}"]
        for k, (a, b) in enumerate(itertools.pairwise(ends), start=1):
            text = "x" if (a, b) in spans else ""
            lines += [f"        intervals [{k}]:", f"            xmin = {a:.6f}"]
            lines += [f"            xmax = {b:.6f}", f'            text = "{text}"']
    (folder / "clip.TextGrid").write_text("\n".join(lines), encoding="utf-16")


def frames_wide(folder: Path) -> None:
    cells = pd.DataFrame(truth(), columns=list(EVENTS)).astype(str).replace("-1", "")
    cells.insert(0, "frame", range(1, FRAMES + 1))
    cells.to_csv(folder / "clip.csv", index=False)


def frames_long(folder: Path) -> None:
    """Times in ms, and frames without a value left out."""
    table = pd.DataFrame(truth(), columns=list(EVENTS)).assign(time_ms=np.arange(FRAMES) * 1000 // RATE)
    table = table.melt("time_ms", var_name="AU", value_name="value")
    table[table["value"] >= 0].to_csv(folder / "clip.csv", sep=";", index=False)


def events_wide(folder: Path) -> None:
    """A stretch without a value, by intervals of 0 elsewhere."""
    labels, table = truth(), []
    for j, au in enumerate(EVENTS):
        for frame, value in enumerate(labels[:, j].tolist()):
            if value >= 0:
                table.append({"onset": frame / RATE, "duration": 1 / RATE, au: str(value)})
    pd.DataFrame(table, columns=["onset", "duration", *EVENTS]).to_csv(folder / "clip.csv", index=False)


def with_silent_au(folder: Path, table: pd.DataFrame, name: str, **options: Any) -> None:
    """Write a list of events and, for the AU without one, a list of another video that has it."""
    table.to_csv(folder / name, index=False, **options)
    (folder / "other.mp4").write_bytes((folder / "clip.mp4").read_bytes())
    (folder / name.replace("clip", "other")).write_text(
        (folder / name).read_text().replace("AU12", "AU45").replace("clip", "other")
    )


def events_long(folder: Path) -> None:
    with_silent_au(folder, pd.DataFrame(rows(), columns=["AU", "onset", "offset"]), "clip.csv")


def bids(folder: Path) -> None:
    (folder / "clip.mp4").rename(folder / "sub-01_task-talk_video.mp4")
    table = pd.DataFrame(
        [(a, b - a, name) for name, a, b in rows()], columns=["onset", "duration", "trial_type"]
    )
    table.to_csv(folder / "sub-01_task-talk_events.tsv", sep="\t", index=False)
    levels = {"trial_type": {"Levels": {**dict.fromkeys(EVENTS, "."), "uncoded": "."}}}
    (folder / "sub-01_task-talk_events.json").write_text(json.dumps(levels))


def boris_aggregated(folder: Path) -> None:
    table = pd.DataFrame(rows(), columns=["Behavior", "Start (s)", "Stop (s)"])
    table = table.assign(**{"Observation id": "o1", "Media file name": "/x/clip.mp4"})
    with_silent_au(folder, table.assign(Subject="No focal subject"), "clip_boris.csv")


def boris_tabular(folder: Path) -> None:
    """With lines above the header, as BORIS writes them."""
    points = [(t, name, s) for name, a, b in rows() for t, s in ((a, "START"), (b, "STOP"))]
    table = pd.DataFrame(sorted(points, key=lambda p: (p[0], p[2] == "START")))
    table.columns = pd.Index(["Time", "Behavior", "Status"])
    with_silent_au(folder, table, "clip.tsv", sep="\t")
    for name in ("clip.tsv", "other.tsv"):
        (folder / name).write_text("Observation id\to1\n\n" + (folder / name).read_text())


def clock(time_s: float) -> str:
    return f"00:00:{int(time_s):02d}:{round(1000 * time_s) % 1000:03d}"


def datavyu_project(folder: Path) -> None:
    lines = ["#4"]
    for name in (*EVENTS, "uncoded"):
        lines.append(f"{name} (MATRIX,true,)-code01|NOMINAL")
        lines += [f"{clock(a)},{clock(b)},(x)" for au, a, b in rows() if au == name]
    with zipfile.ZipFile(folder / "clip.opf", "w") as archive:
        archive.writestr("db", "\n".join(lines))
        archive.writestr("project", "")


def datavyu_csv(folder: Path) -> None:
    columns: dict[str, list[str]] = {}
    for name in (*EVENTS, "uncoded"):
        spans = [(a, b) for au, a, b in rows() if au == name]
        spans = [(str(round(1000 * a)), str(round(1000 * b))) for a, b in spans]
        padded = [*spans, *[("", "")] * (3 - len(spans))]
        columns[f"{name}.ordinal"] = ["1" if a else "" for a, _ in padded]
        columns[f"{name}.onset"], columns[f"{name}.offset"] = map(list, zip(*padded, strict=True))
        columns[f"{name}.code01"] = ["x" if a else "" for a, _ in padded]
    pd.DataFrame(columns).to_csv(folder / "clip.csv", index=False)


WRITERS = [
    *(elan, textgrid, frames_wide, frames_long, events_wide, events_long, bids),
    *(boris_aggregated, boris_tabular, datavyu_project, datavyu_csv),
]


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_the_same_coding_gives_the_same_labels_in_every_format(
    folder: Path, write: Callable[[Path], None]
) -> None:
    write(folder)
    index, report = index_of(folder)
    assert index.au_names == ("AU04", "AU12", "AU45")
    frames = index.frames[index.frames["track"] != "other"]
    np.testing.assert_array_equal(frames[list(EVENTS)].to_numpy(), truth())
    assert frames["frame"].tolist() == list(range(1, FRAMES + 1))
    np.testing.assert_allclose(frames["timestamp"], np.arange(FRAMES) / RATE, atol=1e-3)
    assert not frames["has_image"].any()
    track = index.tracks[index.tracks["track"] != "other"].iloc[0]
    assert (track["face"], track["coder"], track["split"]) == ("largest", "unnamed", "all")
    assert track["positives"].tolist() == (truth() == 1).sum(axis=0).tolist()
    assert track["annotated"].tolist() == (truth() >= 0).sum(axis=0).tolist()
    assert report["splits"]["all"]["positives"]["AU12"] > 0


def test_an_au_without_an_event_in_a_list_is_reported(folder: Path) -> None:
    events_long(folder)
    _, report = index_of(folder)
    assert report["warnings"]["clip"] == [
        "unnamed lists no event of AU45: taken as coded and inactive",
    ]


def test_the_people_of_bids_are_the_sources_of_the_recordings(folder: Path) -> None:
    bids(folder)
    index, _ = index_of(folder)
    assert index.tracks["source_video"].tolist() == ["sub-01"]


def test_a_mapping_file_gives_the_meaning_of_tier_names(folder: Path) -> None:
    write_eaf(
        folder / "clip.eaf",
        {
            "Smile": [(0, 1, "")],
            "brows down": [(1, 2, "")],
            "speech": [(0, 2, "hello")],
            "scored": [(0.5, 2, "")],
        },
    )
    (folder / "names.yaml").write_text("smile: AU12\nBrows  down: au4\nspeech: ignore\nscored: coded\n")
    index, _ = index_of(folder, names=folder / "names.yaml")
    assert index.au_names == ("AU04", "AU12")
    np.testing.assert_array_equal(index.frames["AU12"], [-1] * 15 + [1] * 15 + [0] * 30)
    np.testing.assert_array_equal(index.frames["AU04"], [-1] * 15 + [0] * 15 + [1] * 30)
    (folder / "names.yaml").unlink()
    (folder / "names.csv").write_text("name,au\nSmile,AU12\nbrows down,AU4\nspeech,ignore\nscored,coded\n")
    again, _ = index_of(folder, names=folder / "names.csv")
    pd.testing.assert_frame_equal(again.frames, index.frames)


def test_unknown_names_are_listed_with_the_nearest_au_and_what_to_write(folder: Path, tmp_path: Path) -> None:
    write_eaf(folder / "clip.eaf", {"Smile": [(0, 1, "")], "AU12": [(0, 1, "")], "brow lowering": []})
    arguments = ["prepare", str(folder), "--out", str(tmp_path / "index")]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, InputError)
    assert result.exception.exit_code == 2
    lines = str(result.exception).splitlines()
    assert "2 names in the coders' files cannot be assigned" in lines[0]
    assert "--names FILE" in lines[0]
    assert lines[1:] == [
        "Smile: AU12   # lip corner puller   # in clip.eaf",
        "brow lowering: AU04   # brow lowerer   # in clip.eaf",
    ]
    (folder / "names.yaml").write_text("\n".join(lines[1:]))  # the lines are a valid mapping file
    assert CliRunner().invoke(app, [*arguments, "--names", str(folder / "names.yaml")]).exit_code == 0


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("dimple", "AU14"),
        ("lip corner pull", "AU12"),
        ("L12", "AU12"),
        ("Blinking", "AU45"),
        ("nose wrinkle", "AU09"),
        ("xyzzy", "ignore"),
    ],
)
def test_the_nearest_au_is_found_by_number_meaning_and_description(name: str, suggestion: str) -> None:
    assert suggest(name).split()[0] == suggestion


def test_columns_of_intensities_are_not_taken_for_labels(folder: Path) -> None:
    (folder / "clip.csv").write_text("frame,AU12_r\n1,3.2\n")
    with pytest.raises(InputError, match=r"AU12_r: AU12"):
        index_of(folder)


def test_columns_that_are_ignored_may_have_any_value(folder: Path) -> None:
    (folder / "clip.csv").write_text("frame,AU12,mood\n1,1,happy\n")
    (folder / "names.yaml").write_text("mood: ignore\n")
    index, _ = index_of(folder, names=folder / "names.yaml")
    assert index.au_names == ("AU12",)
    assert index.frames["AU12"].tolist() == [1] + [-1] * (FRAMES - 1)


def write_coders(folder: Path) -> None:
    """Anna, Ben and Carl code AU12; Carl codes AU04, too, in a folder of his own."""
    (folder / "clip_anna.csv").write_text("onset,offset,AU12\n0,1,1\n")
    (folder / "clip_ben.csv").write_text("onset,offset,AU12\n0.5,1.5,1\n")
    (folder / "carl").mkdir()
    (folder / "carl" / "clip.csv").write_text("onset,offset,AU12,AU04\n0.5,2,,1\n1,2,1,\n")


def test_of_several_coders_one_is_chosen(folder: Path) -> None:
    write_coders(folder)
    with pytest.raises(InputError, match=r"several coders \(anna, ben, carl\).*--coder NAME"):
        index_of(folder)
    with pytest.raises(InputError, match="No file is by the coder 'dora'"):
        index_of(folder, coder="dora")
    index, report = index_of(folder, coder="ben")
    np.testing.assert_array_equal(index.frames["AU12"], [0] * 15 + [1] * 30 + [0] * 15)
    assert (index.frames["AU04"] == -1).all()
    assert index.tracks["coder"].tolist() == ["ben"]
    assert [(c["coder"], c["aus"], c["is_label"]) for c in report["codings"]] == [
        ("anna", ["AU12"], False),
        ("ben", ["AU12"], True),
        ("carl", ["AU04", "AU12"], False),
    ]
    text = (folder.parent / "index" / "report.md").read_text()
    assert "| clip.mp4 | largest | carl | carl/clip.csv | AU04, AU12 | 60 | no |" in text


def test_the_majority_of_the_coders_is_the_label(folder: Path) -> None:
    write_coders(folder)
    index, _ = index_of(folder, coder="majority")
    anna, ben, carl = ([a <= i < b for i in range(60)] for a, b in ((0, 30), (15, 45), (30, 60)))
    expected = np.sum([anna, ben, carl], axis=0) >= 2
    np.testing.assert_array_equal(index.frames["AU12"], expected)
    np.testing.assert_array_equal(index.frames["AU04"], [0] * 15 + [1] * 45)  # one coder is a majority
    (folder / "carl" / "clip.csv").unlink()
    two, _ = index_of(folder, coder="majority")
    np.testing.assert_array_equal(two.frames["AU12"], [-1] * 15 + [1] * 15 + [-1] * 15 + [0] * 15)


def test_copies_of_an_exported_file_are_codings_of_those_who_corrected_them(folder: Path) -> None:
    for coder, stop in (("anna", 1), ("ben", 2)):
        path = folder / f"clip_auscan_{coder}.eaf"
        write_eaf(path, {"AU12 face 0": [(0, stop, "0.81")]}, annotator="auscan")
        media = '<MEDIA_DESCRIPTOR MEDIA_URL="./clip.mp4"/></HEADER>'
        path.write_text(path.read_text().replace('"milliseconds"/>', f'"milliseconds">{media}'))
    index, _ = index_of(folder, coder="anna")
    assert (index.frames["AU12"] == 1).sum() == 30
    assert index.tracks[["track", "face", "coder"]].values.tolist() == [["clip_face0", "0", "anna"]]


def test_coders_and_videos_are_also_read_from_columns(folder: Path, clip: bytes) -> None:
    (folder / "other.mp4").write_bytes(clip)
    (folder / "all.csv").write_text(
        "Video,Rater,Participant,AU,start,end\nclip.mp4,anna,p1,AU12,0,1\nother.mp4,anna,p2,AU4,1,2\n"
        "other.mp4,ben,p2,AU12,0,2\n"
    )
    index, _ = index_of(folder, coder="anna")
    assert index.tracks["track"].tolist() == ["clip", "other"]
    assert index.tracks["source_video"].tolist() == ["p1", "p2"]
    other = index.frames[index.frames["track"] == "other"]
    assert (other["AU12"] == 0).all()  # anna codes AU12 elsewhere
    assert (other["AU04"] == 1).sum() == 30


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("onset,offset,AU12\n0,1,3\n", "value '3'.*active"),
        ("onset,offset,AU\n0,900,AU12\n1000,1900,AU12\n", "ends at 2.0 s.*onset_ms"),
        ("onset,offset,AU\n1,0.5,AU12\n", "ends at 0.5 s, before 1.0 s"),
        ("onset,offset,AU\nsoon,1,AU12\n", "'soon' where a time"),
        ("frame,AU12\n1,1\n1,0\n", "frame 1 twice"),
        ("frame,AU12\n90,1\n", "30 frames more than the video"),
        ("time,AU12\n90,1\n", "value at 90 s.*time_ms"),
        ("frame,AU12,AU12\n1,1,1\n", "two columns named 'AU12'"),
        ("Time,Behavior,Status\n0,AU12,START\n", "starts at 0.0 s and does not stop"),
        ("frame,AU\n1,AU12\n", "without a column value"),
        ("face,onset,offset,AU\nleft,0,1,AU12\n", "face 'left'"),
    ],
)
def test_an_invalid_value_stops_the_command_and_names_the_file(folder: Path, text: str, message: str) -> None:
    (folder / "clip.csv").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        index_of(folder)
    assert "clip.csv" in str(caught.value)
    assert not (folder.parent / "index" / "frames.parquet").exists()


def test_files_that_are_no_coding_of_a_video_are_reported(folder: Path) -> None:
    elan(folder)
    (folder / "people.csv").write_text("person,age\nanna,30\n")
    (folder / "gone.eaf").write_bytes((folder / "clip.eaf").read_bytes())
    _, report = index_of(folder)
    assert {item["path"]: item["reason"] for item in report["unused"]} == {
        "gone.eaf": "no video gone",
        "people.csv": "no table of events or frames",
    }


def test_videos_may_be_in_another_folder(folder: Path, tmp_path: Path) -> None:
    elan(folder)
    (tmp_path / "videos").mkdir()
    (folder / "clip.mp4").rename(tmp_path / "videos" / "clip.mp4")
    prepare(folder, tmp_path / "index", roots=Roots(videos=(tmp_path / "videos",)))
    assert read_index(tmp_path / "index").tracks["video"].tolist() == [str(tmp_path / "videos" / "clip.mp4")]
    with pytest.raises(InputError, match="has no video"):
        prepare(folder, tmp_path / "index", "own")


def test_two_files_of_one_coder_may_code_different_aus_only(folder: Path) -> None:
    (folder / "clip_1.csv").write_text("coder,onset,offset,AU12\nanna,0,1,1\n")
    (folder / "clip_2.csv").write_text("coder,onset,offset,AU04\nanna,0,1,1\n")
    index, _ = index_of(folder)
    assert (index.frames[["AU04", "AU12"]].sum() == 30).all()
    (folder / "clip_2.csv").write_text("coder,onset,offset,AU12\nanna,0,1,1\n")
    with pytest.raises(InputError, match=r"both have AU12 of clip.mp4 by anna"):
        index_of(folder)


def test_names_and_coders_are_refused_for_other_formats(folder: Path) -> None:
    with pytest.raises(InputError, match="not for --format disfa"):
        prepare(folder, folder.parent / "index", "disfa", coders=CoderOptions(coder="anna"))


def test_an_old_index_without_faces_and_coders_is_read(folder: Path) -> None:
    elan(folder)
    index, _ = index_of(folder)
    tracks = index.tracks.drop(columns=["face", "coder"])
    from auscan.datasets.features import read_tracks

    assert next(read_tracks(Index(index.root, index.frames, tracks, index.metadata))).face is None


@pytest.fixture
def pair(tmp_path: Path, portrait: NDArray[np.uint8]) -> Path:
    """A large face on the left and a small one on the right, coded twice."""
    small = np.full_like(portrait, 90)
    small[128:384, 128:384] = portrait[::2, ::2]
    folder = tmp_path / "pair"
    folder.mkdir()
    make_video(folder / "talk.mp4", np.concatenate([portrait, small], axis=1), 12)
    return folder


def test_the_crops_are_those_of_the_largest_or_of_the_stated_face(
    pair: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    (pair / "talk.csv").write_text(
        "onset,offset,face,AU12\n0,1,,1\n0,1,0,1\n0,1,1,1\n0,1,7,1\n", encoding="utf-8"
    )
    index, _ = index_of(pair)
    assert index.tracks["face"].tolist() == ["largest", "0", "1", "7"]
    extraction = Extraction(index, load_encoders(str(tiny_checkpoint)), tmp_path / "cache", 2)
    assert extraction.count_from_pictures() == 0
    (record,) = extraction.run_here()
    assert len([w for w in record.warnings if "12 of 12 frames have several faces" in w]) == 4
    features = {name: open_track(tmp_path / "cache", name) for name in index.tracks["track"]}
    assert features["talk"].has_image.all()
    assert features["talk"].header.crops == "video"
    faces = {name: np.asarray(track.face) for name, track in features.items()}
    first_is_large = np.array_equal(faces["talk"], faces["talk_face0"])
    assert first_is_large != np.array_equal(faces["talk"], faces["talk_face1"])
    assert not features["talk_face7"].has_image.any()
    assert not Extraction(index, load_encoders(str(tiny_checkpoint)), tmp_path / "cache", 2).pending


def test_features_of_tracks_without_pictures_are_trained_on_but_not_the_encoder(
    pair: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    (pair / "talk.csv").write_text(
        "onset,offset," + ",".join(AFFWILD2) + "\n0,1" + ",1" * len(AFFWILD2) + "\n"
    )
    index, _ = index_of(pair)
    Extraction(index, load_encoders(str(tiny_checkpoint)), tmp_path / "cache", 2).run_here()
    (track,) = load_tracks(index, tmp_path / "cache", ["all"])
    assert track.features.has_image.all()
    with pytest.raises(InputError, match=r"has no pictures of the face.*leave out model.encoder"):
        load_tracks(index, tmp_path / "cache", ["all"], 32)


AFFWILD2 = ["AU01", "AU02", "AU04", "AU06", "AU07", "AU10", "AU12", "AU15", "AU23", "AU24", "AU25", "AU26"]
