"""From the text of a routing config to a snapshot, which is not live yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from gateway.call import Authentication, Snapshot, Target
from gateway.config import own_addresses, source, strict_yaml
from gateway.config.own_addresses import OwnListener
from gateway.config.strict_yaml import YamlDocument
from gateway.core.process.tls import TlsSettings, unknown_sections
from gateway.core.routing.compile import TargetOf, compile_data
from gateway.core.routing.problems import Problem, Problems, by_line
from gateway.runtime import threads

MakeTarget = Callable[[TargetOf], Target]
ProcessCheck = Callable[[Snapshot], list[Problem]]


def against_process(
    snapshot: Snapshot, own: Iterable[OwnListener], sections: Iterable[TlsSettings]
) -> list[Problem]:
    """What a process's own config makes wrong in a routing config. own: its listeners, see own_addresses.of.
    sections: its [tls:NAME]. Blocks, as own_addresses.problems does."""
    found = own_addresses.problems(snapshot.backends, own)
    return [*found, *unknown_sections(snapshot.certificates, sections)]


@dataclass(frozen=True, slots=True)
class Compiler:
    """Compiles texts for this process. check: finds the problems that depend on this process.
    texts: what was read last. All else as for `compile_data`."""

    target: MakeTarget
    sockets: str
    check: ProcessCheck = lambda snapshot: []
    authentication: Authentication | None = None
    folder: str = ""
    local: str = ""
    texts: source.Texts = field(default_factory=source.Texts)

    def compile(self, text: str) -> Snapshot:
        """A snapshot, not live yet. Blocks. Raises Problems, each with its line."""
        return self._compile_document(strict_yaml.parse(_encodable(text)))

    async def compile_apart(self, text: str) -> Snapshot:
        """As `compile`, without holding the event loop up. Raises TransientProblems too."""
        document = await self.texts.document(_encodable(text))
        return await threads.run(threads.CONFIG, self._compile_document, document)

    async def check_apart(self, text: str) -> list[Problem]:
        """What is wrong with a text; nothing when it compiles."""
        try:
            await self.compile_apart(text)
        except Problems as problems:
            return problems.items
        return []

    def _compile_document(self, document: YamlDocument) -> Snapshot:
        more = self.authentication, self.folder, self.local
        try:
            snapshot = compile_data(document.data, self.target, self.sockets, *more)
            if found := self.check(snapshot):
                raise Problems(found)
        except Problems as problems:
            raise Problems(by_line(map(document.locate, problems.items))) from None
        return snapshot


def _encodable(text: str) -> str:
    """The text, if it can be written as UTF-8: JSON can carry half a character. Raises Problems."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        reason = "it holds half a character (a lone surrogate), which UTF-8 does not have"
        raise Problems([Problem((), reason, "write the whole character", line)]) from None
    return text


def compile_text(
    text: str,
    target: MakeTarget,
    sockets: str,
    check: ProcessCheck = lambda snapshot: [],
    authentication: Authentication | None = None,
    folder: str = "",
    local: str = "",
) -> Snapshot:
    """From text to a snapshot, as `Compiler.compile`."""
    return Compiler(target, sockets, check, authentication, folder, local).compile(text)
