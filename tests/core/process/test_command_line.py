"""A command line is split as a shell would; what only a shell understands is refused outside of quotes."""

from __future__ import annotations

import pytest

from gateway.core.process import command_line


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("x >/dev/null", ">"), ("x > /dev/null", ">"), ("x 2>&1", "2>&1"), ("x 2>>log", "2>>"),
        ("x &>log", "&>"), ("x <in", "<"), ("x <<EOF", "<<"), ("x >|log", ">|"),
        ("cd x; y", ";"), ("x;y", ";"), ("a && b", "&&"), ("a&&b", "&&"), ("a || b", "||"), ("a|b", "|"),
        ("a | b", "|"), ("x &", "&"), ("x&", "&"), ("(cd x)", "("),
        ("x `date`", "`"), ("x $(date)", "$("), ("`which x`", "`"),
        ("$HOME/x", "$HOME"), ("x --port=$PORT", "$PORT"), ("x $1", "$1"), ("x ${PORT}", "variables"),
        ("~/x", "~"), ("x ~/y", "~"), ("~user/x", "~"),
        ("FOO=1 x", "FOO="), ("PYTHONPATH=src:. {python} -m x", "PYTHONPATH="), ("A+=1 x", "A+="),
        ("cd x", "cd"), ("export A=1", "export"), ("source env", "source"),
        (". env", "."), ("exec x", "exec"),
        ("x # c", "comment"), ("x \\\n--y", "backslash"),
    ],
)  # fmt: skip
def test_what_only_a_shell_understands_is_refused_by_name_with_what_to_write(text: str, named: str) -> None:
    _, wrong = command_line.read(text)
    (reason, hint) = wrong[0]
    assert len(wrong) == 1
    assert named in reason
    assert any(word in hint for word in ("sh -c", "write env", "of its own", "remove", "dollar")), hint


@pytest.mark.parametrize(
    ("text", "argv"),
    [
        ("sh -c 'cd x && exec y >log 2>&1; echo $HOME ~ `a`'",
         ("sh", "-c", "cd x && exec y >log 2>&1; echo $HOME ~ `a`")),
        ('sh -c "exec y --port $PORT"', ("sh", "-c", "exec y --port $PORT")),
        ("x '>' \\> \\$HOME '~/y' \"a;b\"", ("x", ">", ">", "$HOME", "~/y", "a;b")),
        ("env FOO=1 x --a=b", ("env", "FOO=1", "x", "--a=b")),
        ("gunicorn app:create() --forwarded-allow-ips=* -b unix:{socket}",
         ("gunicorn", "app:create()", "--forwarded-allow-ips=*", "-b", "unix:{socket}")),
        ("x http://a/?b=1&c=2#d ^a$ a~ --to=~", ("x", "http://a/?b=1&c=2#d", "^a$", "a~", "--to=~")),
        ("x\n--a\n--b", ("x", "--a", "--b")),
        ("'FOO=1' x", ("FOO=1", "x")),
    ],
)  # fmt: skip
def test_what_a_program_is_to_get_as_it_stands_passes(text: str, argv: tuple[str, ...]) -> None:
    assert command_line.read(text) == (argv, [])
