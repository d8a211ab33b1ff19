"""Names of the twelve action units, and their order, which defines the columns of every array."""

import pytest

from auscan.core.aus import AFFWILD2_AUS, AU_COUNT, AU_DESCRIPTIONS, AU_MEANINGS, canonical_name
from auscan.core.errors import InputError


def test_action_units_are_in_the_order_of_aff_wild2() -> None:
    assert [int(name[2:]) for name in AFFWILD2_AUS] == [1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26]
    assert AU_COUNT == 12
    assert tuple(AU_MEANINGS) == tuple(AU_DESCRIPTIONS) == AFFWILD2_AUS
    assert AU_MEANINGS["AU12"] == "lip corner puller"


@pytest.mark.parametrize("spelled", ["AU1", "AU01", "au1", "au_01", "Au-1", "AU 1", " AU1 ", "AU001"])
def test_common_spellings_become_canonical(spelled: str) -> None:
    assert canonical_name(spelled) == "AU01"


def test_every_name_is_its_own_canonical_name() -> None:
    assert tuple(map(canonical_name, AFFWILD2_AUS)) == AFFWILD2_AUS
    assert canonical_name("AU12") == "AU12"


@pytest.mark.parametrize("name", ["AU03", "AU", "", "12", "AU1.5", "AU12_c", "AU1 AU2", "smile"])
def test_another_name_is_refused_with_the_list_of_supported_ones(name: str) -> None:
    with pytest.raises(InputError) as caught:
        canonical_name(name)
    assert repr(name) in str(caught.value)
    assert all(known in str(caught.value) for known in AFFWILD2_AUS)
