"""Event exports are read back by pympi, praatio and pybids with the same events."""

import json
import re
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as Xml

import numpy as np
import pandas as pd
import pympi
import pytest
from bids import BIDSLayout
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from praatio import textgrid

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.errors import InputError
from auscan.results.exports.bids import bids_name, write_bids
from auscan.results.exports.tiers import SCHEMA, write_elan, write_textgrid
from auscan.results.result import Result

from .conftest import result_of, track

TIERS = [f"{au} face {face}" for face in (0, 1) for au in AFFWILD2_AUS if au != "AU23"]


def expected(result: Result, tier: str) -> pd.DataFrame:
    """Return the events of a tier."""
    au, _, face = tier.split()
    events = result.events
    return events[(events["AU"] == au) & (events["face_id"] == int(face))]


@st.composite
def results(draw: st.DrawFn) -> Result:
    """Two faces with random AU activity, of any length and start, also below 0."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    share = draw(st.sampled_from([0.1, 0.5, 0.9]))
    on = (rng.random((80, 12)) < share).astype(np.float32) * np.float32(0.9) + np.float32(0.05)
    first, last = draw(st.integers(0, 10)), draw(st.integers(1, 40))
    tracks = [track(0, on[:last]), track(1, on[40 : 41 + last], first=first)]
    return result_of(tracks, 60, start_s=draw(st.integers(-1000, 30_000)) / 1000)


def test_pympi_reads_a_tier_for_each_au_and_face_with_the_same_events(
    tmp_path: Path, long_result: Result
) -> None:
    (path,) = write_elan(long_result, tmp_path)
    eaf = pympi.Eaf(str(path))
    assert list(eaf.get_tier_names()) == TIERS
    assert len(long_result.events) > 50
    for tier in TIERS:
        events = expected(long_result, tier)
        read = eaf.get_annotation_data_for_tier(tier)
        assert_allclose([row[0] for row in read], 1000 * events["onset"], atol=0.5)
        assert_allclose([row[1] for row in read], 1000 * events["offset"], atol=0.5)
        assert [row[2] for row in read] == [f"{peak:.2f}" for peak in events["peak"]]


@given(results())
@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_any_result_gives_valid_files_with_all_of_its_events(
    tmp_path_factory: pytest.TempPathFactory, result: Result
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (eaf_path,), (grid_path,) = write_elan(result, folder), write_textgrid(result, folder)
    check_eaf(eaf_path)
    eaf, grid = pympi.Eaf(str(eaf_path)), open_grid(grid_path)
    for tier in TIERS:
        events = expected(result, tier)
        inside = events.loc[events["offset"] > 1e-6, ["onset", "offset"]].clip(lower=0)
        read = [row[:2] for row in eaf.get_annotation_data_for_tier(tier)]
        assert_allclose(np.reshape(read, (-1, 2)), 1000 * inside, atol=1.001)
        labelled = [entry for entry in grid.getTier(tier).entries if entry.label]
        times = [(entry.start, entry.end) for entry in labelled]
        assert_allclose(np.reshape(times, (-1, 2)), inside, atol=1e-6)


CHILDREN = {
    "ANNOTATION_DOCUMENT": r"HEADER TIME_ORDER (TIER )*(LINGUISTIC_TYPE )*",
    "HEADER": r"(MEDIA_DESCRIPTOR )*(PROPERTY )*",
    "TIME_ORDER": r"(TIME_SLOT )*",
    "TIER": r"(ANNOTATION )*",
    "ANNOTATION": r"ALIGNABLE_ANNOTATION ",
    "ALIGNABLE_ANNOTATION": r"ANNOTATION_VALUE ",
}
ATTRIBUTES = {
    "ANNOTATION_DOCUMENT": "AUTHOR DATE VERSION FORMAT?",
    "HEADER": "MEDIA_FILE? TIME_UNITS?",
    "MEDIA_DESCRIPTOR": "MEDIA_URL MIME_TYPE RELATIVE_MEDIA_URL? TIME_ORIGIN? EXTRACTED_FROM?",
    "PROPERTY": "NAME?",
    "TIME_SLOT": "TIME_SLOT_ID TIME_VALUE?",
    "TIER": "TIER_ID LINGUISTIC_TYPE_REF PARTICIPANT? ANNOTATOR? DEFAULT_LOCALE? PARENT_REF?",
    "ALIGNABLE_ANNOTATION": "ANNOTATION_ID TIME_SLOT_REF1 TIME_SLOT_REF2 SVG_REF?",
    "LINGUISTIC_TYPE": "LINGUISTIC_TYPE_ID TIME_ALIGNABLE? GRAPHIC_REFERENCES? CONSTRAINTS?",
}
"""Order and attributes of the elements that we write, from ELAN's schema EAFv3.0.xsd."""


def check_eaf(path: Path) -> None:
    """Check a file against the schema: order of elements, attributes, types and references."""
    root = Xml.parse(path).getroot()
    assert root.attrib.pop("{http://www.w3.org/2001/XMLSchema-instance}noNamespaceSchemaLocation") == SCHEMA
    assert datetime.fromisoformat(root.attrib["DATE"]).tzinfo is not None
    for element in root.iter():
        inside = "".join(f"{child.tag} " for child in element)
        assert re.fullmatch(CHILDREN.get(element.tag, ""), inside), element.tag
        allowed = ATTRIBUTES.get(element.tag, "").split()
        assert set(element.attrib) <= {name.rstrip("?") for name in allowed}
        assert {name for name in allowed if not name.endswith("?")} <= set(element.attrib)
    slots = {slot.attrib["TIME_SLOT_ID"]: slot.attrib["TIME_VALUE"] for slot in root.iter("TIME_SLOT")}
    assert all(re.fullmatch(r"\d+", value) for value in slots.values())  # unsignedInt
    annotations = list(root.iter("ALIGNABLE_ANNOTATION"))
    ids = [annotation.attrib["ANNOTATION_ID"] for annotation in annotations] + list(slots)
    assert len(ids) == len(set(ids)) == len(annotations) + len(list(root.iter("TIME_SLOT")))  # xsd:ID
    assert all(re.fullmatch(r"[A-Za-z_][\w.-]*", name) for name in ids)
    for annotation in annotations:
        begin, end = (int(slots[annotation.attrib[f"TIME_SLOT_REF{i}"]]) for i in (1, 2))
        assert begin < end
    tiers = [tier.attrib["TIER_ID"] for tier in root.iter("TIER")]
    assert len(tiers) == len(set(tiers))
    kinds = {kind.attrib["LINGUISTIC_TYPE_ID"] for kind in root.iter("LINGUISTIC_TYPE")}
    assert {tier.attrib["LINGUISTIC_TYPE_REF"] for tier in root.iter("TIER")} <= kinds


def test_the_eaf_is_valid_with_and_without_faces(tmp_path: Path, long_result: Result) -> None:
    (path,) = write_elan(long_result, tmp_path)
    check_eaf(path)
    (path,) = write_elan(result_of([], 5, "nobody.mp4"), tmp_path)
    check_eaf(path)
    assert pympi.Eaf(str(path)).tiers == {}


def test_the_link_to_the_video_is_relative(tmp_path: Path, make_long_result: Callable[..., Result]) -> None:
    video = tmp_path / "videos" / "my talk & more.mp4"
    video.parent.mkdir()
    video.touch()
    result, out = make_long_result(video.name), tmp_path / "results" / "here"
    (path,) = write_elan(result, out, video)
    (link,) = pympi.Eaf(str(path)).get_linked_files()
    assert link["RELATIVE_MEDIA_URL"] == link["MEDIA_URL"] == "../../videos/my%20talk%20%26%20more.mp4"
    assert link["MIME_TYPE"] == "video/mp4"
    (path,) = write_elan(result, tmp_path / "unknown")
    (link,) = pympi.Eaf(str(path)).get_linked_files()
    assert link["RELATIVE_MEDIA_URL"] == "./my%20talk%20%26%20more.mp4"
    assert str(tmp_path) not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("write", [write_elan, write_textgrid])
def test_an_existing_annotation_file_is_not_replaced(
    tmp_path: Path, long_result: Result, write: Callable[[Result, Path], list[Path]]
) -> None:
    (path,) = write(long_result, tmp_path)
    path.write_text("hours of work", encoding="utf-8")
    with pytest.raises(InputError, match="already exists and may have been edited by hand"):
        write(long_result, tmp_path)
    assert path.read_text(encoding="utf-8") == "hours of work"


def open_grid(path: Path) -> textgrid.Textgrid:
    """Open a TextGrid with praatio, which raises for an invalid file."""
    return textgrid.openTextgrid(str(path), includeEmptyIntervals=True, reportingMode="error")


def test_praatio_reads_tiers_without_gaps_and_the_same_events(tmp_path: Path, long_result: Result) -> None:
    (path,) = write_textgrid(long_result, tmp_path)
    grid = open_grid(path)
    assert list(grid.tierNames) == TIERS
    assert (grid.minTimestamp, grid.maxTimestamp) == (0, pytest.approx(0.5 + 200 * 0.04))
    for tier in TIERS:
        entries = grid.getTier(tier).entries
        assert entries[0].start == 0
        assert entries[-1].end == grid.maxTimestamp
        assert all(a.end == b.start for a, b in pairwise(entries))
        labelled = [(entry.start, entry.end, entry.label) for entry in entries if entry.label]
        events = expected(long_result, tier)
        assert_allclose([row[0] for row in labelled], events["onset"], atol=1e-6)
        assert_allclose([row[1] for row in labelled], events["offset"], atol=1e-6)
        assert [row[2] for row in labelled] == [f"{peak:.2f}" for peak in events["peak"]]


def test_praatio_reads_the_export_of_a_picture(tmp_path: Path) -> None:
    picture = result_of([track(0, np.full((1, 12), 0.9, np.float32))], 1, "face.jpg", start_s=0.0)
    (path,) = write_textgrid(picture, tmp_path)
    assert all(not entry.label for tier in open_grid(path).tiers for entry in tier.entries)


def test_pybids_finds_the_events_and_the_description_of_their_columns(
    tmp_path: Path, make_long_result: Callable[..., Result]
) -> None:
    result = make_long_result("sub-01_task-talk_run-2_video.mp4")
    description = {"Name": "made up", "BIDSVersion": "1.9.0", "DatasetType": "raw"}
    (tmp_path / "dataset_description.json").write_text(json.dumps(description), encoding="utf-8")
    write_bids(result, tmp_path / "sub-01" / "beh")
    layout = BIDSLayout(tmp_path)
    (found,) = layout.get(suffix="events", extension=".tsv")
    assert {name: str(found.entities[name]) for name in ("subject", "task", "run")} == {
        **{"subject": "01", "task": "talk", "run": "2"}
    }
    table, metadata = found.get_df(), found.get_metadata()
    events = result.events.sort_values(["onset", "face_id", "AU"], kind="stable")
    assert table.columns[:3].tolist() == ["onset", "duration", "trial_type"]
    assert table["trial_type"].tolist() == events["AU"].tolist()
    same = ["onset", "duration", "face_id", "apex", "mean", "peak"]
    assert_allclose(table[same].astype(float), events[same], atol=1e-6)
    assert table["speech"].isna().all()
    assert set(table.columns) <= set(metadata)
    assert metadata["onset"]["Units"] == "s"
    assert "AU23" not in metadata["trial_type"]["Levels"]
    assert metadata["auscan"]["NotTaught"] == ["AU23"]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("sub-01_task-talk_video", "sub-01_task-talk"),
        ("sub-01_ses-2_task-talk_run-1_beh", "sub-01_ses-2_task-talk_run-1"),
        ("sub-01_task-talk", "sub-01_task-talk"),
        ("my talk_video", "my talk_video"),
    ],
)
def test_no_subject_or_task_is_invented(name: str, kept: str) -> None:
    assert bids_name(name) == kept
