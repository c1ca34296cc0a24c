"""One running system for the tests that only talk to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.backends.system.whole import Whole, whole


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    with whole(tmp_path_factory.mktemp("whole")) as running:
        yield running
