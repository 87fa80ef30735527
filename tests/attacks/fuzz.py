"""Coverage-guided fuzzing of what reads a stranger's bytes.

    python tests/attacks/fuzz.py commit --seconds 60
    python tests/attacks/fuzz.py push --seconds 60

`commit` feeds the parser of commits and the judging of what parses, and asks the second
implementation too; `push` feeds the hook's standard input. A finding is any exception that
is no refusal, a refusal that is not one printable line, or two implementations that do not
agree: then it exits with another code than 0, and the input is written to a file. It needs
atheris (`pip install -e '.[fuzz]'`), and is no part of the tests that run always.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import atheris

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parents[1])]

with atheris.instrument_imports(include=["coordledger", "json"]):
    from coordledger.errors import ERRORS, RuleBroken
    from coordledger.format import canonical
    from coordledger.format.chain import Chain  # noqa: TC001 - after the instrumentation
    from coordledger.format.commit import parse_commit
    from coordledger.format.signing import Keyring
    from coordledger.git.cat_file import CatFile
    from coordledger.git.tree import object_id
    from coordledger.server.admission import AdmissionContext
    from coordledger.server.fence import Fences
    from coordledger.server.pre_receive import judge_updates, refusal

from support import hostile  # noqa: E402 - it has to come after the path and the instrumentation
from support.second_reader import Invalid, Reader  # noqa: E402

REF = "refs/coordledger/main"
HEADS = len(hostile.log())
READERS: dict[int, tuple[Chain, Reader]] = {}
STORE: dict[str, CatFile] = {}


def commit_target(data: bytes) -> None:
    if not data:
        return
    count, content = data[0] % HEADS, data[1:]
    ours, theirs = READERS[count]
    head = ours.head
    try:
        found = parse_commit("0" * 40, content)
        assert canonical.encode(found.record) == found.signed.payload
        ours.judge(object_id("commit", content, "sha1"), content)
        accepted = True
    except RuleBroken as broken:
        assert broken.code in ERRORS
        assert str(broken).isascii()
        assert str(broken).isprintable()
        assert ours.head is head
        accepted = False
    try:
        theirs.step(content)
        assert accepted, "only the second reader accepts it"
    except Invalid:
        assert not accepted, "only the second reader refuses it"
    if accepted:
        READERS[count] = hostile.readers_after(count)


def push_target(data: bytes) -> None:
    context = AdmissionContext(STORE["objects"], Keyring(), 0, lambda: 0)
    refused = refusal(judge_updates(data, context, hostile.NoMarks(), Fences({})))
    line = r"coordledger: refused ([0-9a-f]{12}|-): [a-z-]+: [ -~]+"
    assert refused is None or re.fullmatch(line, str(refused))


def seeds(target: str, folder: Path, head: str) -> None:
    if target == "commit":
        for count, (_, content) in enumerate(hostile.log()):
            (folder / f"valid{count}").write_bytes(bytes([count]) + content)
        for name, vector in hostile.malformed().items():
            content = hostile.in_bytes(vector["commit"])
            if len(content) < 20_000:
                (folder / name).write_bytes(bytes([vector["after"] % 256]) + content)
        return
    zero, one = "0" * 40, "1" * 40
    lines = [f"{head} {one} {REF}", f"{zero} {head} refs/heads/x", f"{head} {zero} {REF}"]
    lines += [f"{zero} {head} refs/coordledger-try/main", f"{zero} {one} refs/Coordledger/x"]
    for number, line in enumerate(lines):
        (folder / f"line{number}").write_text(f"{line}\n")
    (folder / "all").write_text("".join(f"{line}\n" for line in lines))


def repository(folder: Path) -> str:
    """A bare repository with the valid chain of the vectors; its head."""
    folder.mkdir()
    git = ["git", "-C", str(folder)]
    subprocess.run([*git, "init", "--quiet", "--bare"], check=True)
    for kind, content in hostile.written().values():
        command = [*git, "hash-object", "-t", kind, "-w", "--stdin", "--literally"]
        subprocess.run(command, input=content, check=True, stdout=subprocess.DEVNULL)
    head = hostile.log()[-1][0]
    subprocess.run([*git, "update-ref", REF, head], check=True)
    return head


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("target", choices=["commit", "push"])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--findings", type=Path, default=Path.cwd(), help="where inputs go")
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.scratch is None:  # libFuzzer ends its process itself: somebody has to clean up
        with tempfile.TemporaryDirectory(prefix="coordledger-fuzz-") as folder:
            again = [sys.executable, str(HERE), *sys.argv[1:], "--scratch", folder]
            ran = subprocess.run(again, stderr=subprocess.PIPE, text=True, check=False)
        told = ran.stderr.splitlines()
        counted = [line for line in told if line.startswith("Done ")]
        print("\n".join(counted if ran.returncode == 0 and counted else told))
        sys.exit(ran.returncode if ran.returncode or counted else 1)
    corpus = options.scratch / "corpus"
    corpus.mkdir()
    head = repository(options.scratch / "repo.git") if options.target == "push" else ""
    seeds(options.target, corpus, head)
    if options.target == "push":
        environ = {"PATH": os.environ["PATH"], "GIT_DIR": str(options.scratch / "repo.git")}
        STORE["objects"] = CatFile(environ)
    else:
        READERS.update({count: hostile.readers_after(count) for count in range(HEADS)})
    flags = [
        f"-max_total_time={options.seconds}",
        "-max_len=65536",
        "-timeout=10",
        "-rss_limit_mb=1024",
        f"-artifact_prefix={options.findings}/",
        "-print_final_stats=0",
        str(corpus),
    ]
    atheris.Setup([sys.argv[0], *flags], commit_target if not STORE else push_target)
    atheris.Fuzz()  # it ends the process; its last line says how many runs there were


if __name__ == "__main__":
    main()
