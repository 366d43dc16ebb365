"""What training refuses: exit code 2, a sentence, no traceback, and nothing half-written."""

import re

import pytest

from tests.train.bench import Done
from tests.train.jobs import REFUSED, TAKEN


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_before_a_folder_is_made(case: str, refused: dict[str, tuple[Done, bool, bool]]) -> None:
    done, exists, _ = refused[case]
    assert re.search(REFUSED[case][1], done.error()), done.err
    assert not exists


@pytest.mark.parametrize("case", TAKEN)
def test_a_folder_that_cannot_be_used_is_left_as_it_is(case: str, refused: dict[str, tuple[Done, bool, bool]]) -> None:
    done, _, changed = refused[case]
    assert re.search(TAKEN[case][1], done.error()), done.err
    assert not changed
