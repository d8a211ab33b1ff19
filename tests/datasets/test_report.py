"""Test the counts of the report and its comparison with the published rates."""

import json
from typing import Any

import pytest

from auscan.core.aus import AFFWILD2_AUS
from auscan.datasets.find import Unused
from auscan.datasets.report import PUBLISHED_PERCENT, as_markdown, summarise

METADATA = {"dataset": "affwild2", "root": "/somewhere", "au_names": AFFWILD2_AUS}


def row(track: str, **changes: Any) -> dict[str, Any]:
    return {
        "track": track,
        "split": "train",
        "source_video": track,
        "video": f"{track}.mp4",
        "has_audio": True,
        "rows": 1000,
        "rows_labelled": 1000,
        "rows_partly_labelled": 0,
        "rows_without_image": 0,
        "rows_labelled_without_image": 0,
        "images_beyond": 0,
        "frames_decoded": 1000,
        "surplus": 0,
        "rate_hz": 25.0,
        "named_rate_hz": None,
        "is_uneven": False,
        "positives": [round(10 * percent) for percent in PUBLISHED_PERCENT],
        "annotated": [1000] * 12,
        "warnings": [],
        **changes,
    }


def test_predicting_one_everywhere_scores_what_the_published_rates_imply() -> None:
    """The known value 0.295 detects errors in the formula and in the table of published rates."""
    summary = summarise([row("903")], [], METADATA)
    assert summary["splits"]["train"]["all_ones_f1"] == pytest.approx(0.295, abs=5e-4)


def test_positives_are_summed_over_annotated_labels_only() -> None:
    rows = [
        row("903", positives=[10] * 12, annotated=[20] * 12),
        row("904", positives=[0] * 12, annotated=[0] * 12),
    ]
    split = summarise(rows, [], METADATA)["splits"]["train"]
    assert split["positive_percent"] == dict.fromkeys(AFFWILD2_AUS, 50.0)
    assert split["positives"]["AU24"] == 10


def test_an_au_without_annotations_has_no_rate() -> None:
    split = summarise([row("903", annotated=[0] * 12)], [], METADATA)["splits"]["train"]
    assert split["positive_percent"]["AU01"] is None
    assert split["all_ones_f1"] is None


def test_differences_from_the_published_rates_are_marked() -> None:
    positives = [round(10 * percent) for percent in PUBLISHED_PERCENT]
    positives[6] += 20
    page = as_markdown(summarise([row("903", positives=positives)], [], METADATA))
    assert "| AU12 | 265 | 26.50 | 24.49 | +2.01 * |" in page
    assert page.count(" * |") == 1


def test_splits_are_ordered_train_val_test_then_folds() -> None:
    rows = [row("a", split="test"), row("b", split="val"), row("c", split="train"), row("d", split="fold1")]
    assert list(summarise(rows, [], METADATA)["splits"]) == ["train", "val", "test", "fold1"]


def test_frame_rates_rounded_in_names_are_not_reported() -> None:
    rows = [row("a", named_rate_hz=29.0, rate_hz=29.6), row("b", named_rate_hz=60.0, rate_hz=30.0)]
    rows += [row("c", named_rate_hz=60.0, frames_decoded=None)]
    assert [e["track"] for e in summarise(rows, [], METADATA)["frame_rate_surprises"]] == ["b"]


def test_everything_in_the_summary_is_on_the_page_and_in_the_json() -> None:
    odd = row("903", surplus=40, rows_without_image=7, images_beyond=3, warnings=["something is odd"])
    summary = summarise(
        [odd, row("904", split="val", source_video="903")], [Unused("x/y.txt", "no list")], METADATA
    )
    page = as_markdown(json.loads(json.dumps(summary)))
    for text in (
        "| 903 | train | 1000 | 1000 | 40 |",
        "something is odd",
        "`x/y.txt`",
        "| 903 | train, val |",
    ):
        assert text in page
    assert "| 903 | train | 1000 | 7 | 0 |" in page
    assert "| 903 | train | 1000 | 3 |" in page


def test_a_data_set_without_published_rates_is_not_compared_with_them() -> None:
    assert "published" not in as_markdown(summarise([row("SN001")], [], {**METADATA, "dataset": "disfa"}))
