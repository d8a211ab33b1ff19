"""Names of the action units, and the order of the twelve of Aff-Wild2."""

import re

import pytest

from auscan.core.aus import ACTION_UNITS, AFFWILD2_AUS, au_columns, canonical_name, check_au_names
from auscan.core.errors import InputError


def test_action_units_are_in_the_order_of_aff_wild2() -> None:
    assert [int(name[2:]) for name in AFFWILD2_AUS] == [1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26]
    assert ACTION_UNITS["AU12"].meaning == "lip corner puller"


def test_every_action_unit_has_a_meaning_a_description_and_a_muscle() -> None:
    assert list(ACTION_UNITS) == sorted(ACTION_UNITS)
    assert len({unit.meaning for unit in ACTION_UNITS.values()}) == len(ACTION_UNITS)
    for unit in ACTION_UNITS.values():
        assert unit.meaning
        assert unit.muscle
        assert unit.description.endswith(".")


@pytest.mark.parametrize("spelled", ["AU1", "AU01", "au1", "au_01", "Au-1", "AU 1", " AU1 ", "AU001"])
def test_common_spellings_become_canonical(spelled: str) -> None:
    assert canonical_name(spelled) == "AU01"


def test_every_name_is_its_own_canonical_name() -> None:
    assert list(map(canonical_name, ACTION_UNITS)) == list(ACTION_UNITS)


@pytest.mark.parametrize("name", ["AU03", "AU", "", "12", "AU1.5", "AU12_c", "AU1 AU2", "smile"])
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{re.escape(repr(name))} is not an action unit of FACS"):
        canonical_name(name)


def test_an_au_set_keeps_its_order() -> None:
    assert check_au_names(["AU45", "AU12"]) == ("AU45", "AU12")


def test_the_au_columns_of_a_table_are_found_in_their_order() -> None:
    assert au_columns(["frame", "AU45", "AU45_c", "AU12", "AU12_c", "AU03"]) == ("AU45", "AU12")
