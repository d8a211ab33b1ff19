"""The table of markers in tests/conftest.py names existing folders and modules and registered markers."""

from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


def test_every_place_and_marker_of_the_table_exists(pytestconfig: pytest.Config) -> None:
    (conftest,) = (
        plugin for plugin in pytestconfig.pluginmanager.get_plugins() if hasattr(plugin, "MARKERS")
    )
    assert [place for place in conftest.MARKERS if not (TESTS / place).exists()] == []
    registered = {line.partition(":")[0] for line in pytestconfig.getini("markers")}
    assert set(conftest.MARKERS.values()) | {"slow"} <= registered
