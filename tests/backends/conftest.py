"""The key of the tests, and one running system for the tests that only talk to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.backends import signing
from tests.backends.system.whole import Whole, whole

signing.told_to_this_process()  # before an application is imported


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    with whole(tmp_path_factory.mktemp("whole")) as running:
        yield running
