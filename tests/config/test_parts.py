"""Where the config of a gateway is, as gateway.conf says; and that it is not ready before it was read."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from gateway.config.parts import ConfigParts
from gateway.core.config.revision import Draft, Origin
from gateway.core.process.config_source import ConfigSettings
from tests import harness

MONGO = "mongodb://me:secret@127.0.0.1:1/x"


@pytest.mark.parametrize(
    ("settings", "uri", "kind", "place"),
    [
        (ConfigSettings(), "sqlite:d", "file", "routing.yaml"),
        (ConfigSettings("store"), "sqlite:d", "store", "config.sqlite"),
        (ConfigSettings("store"), MONGO, "store", "mongodb://127.0.0.1:1/x"),
        (ConfigSettings("mongodb", uri=MONGO), "sqlite:d", "mongodb", "mongodb://127.0.0.1:1/x"),
        (
            *(ConfigSettings("zookeeper", ("127.0.0.1:1",)), "sqlite:d", "zookeeper"),
            "zookeeper://127.0.0.1:1/gateway/config",
        ),
    ],
)
def test_the_source_is_the_one_that_is_said_and_shows_no_secret(
    tmp_path: Path, settings: ConfigSettings, uri: str, kind: str, place: str
) -> None:
    config = harness.process_config(tmp_path, live=settings, store_uri=uri)
    parts = ConfigParts(config, tmp_path, "this one")
    assert (parts.source.kind, parts.source.of_revisions) == (kind, kind in ("store", "mongodb"))
    assert parts.source.name.endswith(place) and "secret" not in parts.source.name
    in_mongo = uri == MONGO or kind == "mongodb"
    assert (parts.revisions is parts.remembered) is not in_mongo


async def test_a_gateway_with_its_config_in_the_store_begins_with_the_file_and_leaves_it_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = harness.routing([harness.route("a", "documents")])
    async with harness.running(tmp_path, config, live=ConfigSettings("store")) as gateway:
        live, written = gateway.live, (tmp_path / "routing.yaml").read_text()
        draft = Draft(live.text.replace("name: a", "name: b"), Origin("alice", "", "api"), time.time())
        assert (await live.apply(draft, 1)).number == 2
        assert (tmp_path / "routing.yaml").read_text() == written
    (said,) = (one.getMessage() for one in caplog.records if "is not read" in one.getMessage())
    assert said.startswith(f"[config] source = store: {tmp_path / 'routing.yaml'} is not read")
    async with harness.running(tmp_path, config, live=ConfigSettings("store")) as gateway:
        assert (gateway.live.head.number, gateway.live.head.origin.author) == (2, "alice")
