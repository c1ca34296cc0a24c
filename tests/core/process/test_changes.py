"""What is changed in gateway.conf is named as it is written."""

from __future__ import annotations

from gateway.core.process import changes
from gateway.core.process.settings import parse_process


def test_another_data_folder_changes_no_key_that_lies_in_it() -> None:
    before, after = (parse_process({"gateway": {"data": data}}, "/etc/gateway") for data in ("/a", "/b"))
    assert changes.named(changes.changed(before, after)) == ["[gateway] data"]


def test_a_key_that_names_another_file_is_changed_beside_it() -> None:
    before = parse_process({"gateway": {"data": "/a"}}, "/etc/gateway")
    after = parse_process({"gateway": {"data": "/b"}, "store": {"uri": "sqlite:other"}}, "/etc/gateway")
    assert changes.named(changes.changed(before, after)) == ["[gateway] data", "[store] uri"]
