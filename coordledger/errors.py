"""Every way in which coordledger says no, in one table.

Rules of this file:
- A slug is stable: people and agents script against it. Sentences may improve.
- An error carries data; the sentence is built once, here, from the table.
- "You misused this" and "this data is bad" differ by type: the pure core raises
  `RuleBroken`, which knows no blame; its caller turns it into a refusal of one's own
  request (`own`) or into an integrity failure of somebody's record (`theirs`).

It does not print anything and knows nothing of the command line.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FAILED, USAGE, LOST, INTEGRITY, UNKNOWN = 1, 2, 3, 4, 5
INTERRUPTED = 130  # as shells count it
NOT_EXECUTABLE, NOT_FOUND = 126, 127  # a command, as shells count it
RUN = 120  # added to the codes above where those of another program are below: `run`

# slug: (exit code when it is one's own request, sentence, hint)
ERRORS: dict[str, tuple[int, str, str]] = {
    # -- the bytes of a record (docs/format.md, sections 2-4)
    "bad-json": (FAILED, "not JSON of the format: {why}", ""),
    "not-canonical": (FAILED, "the payload is not in canonical form", ""),
    "too-large": (FAILED, "{what} has {size} bytes, more than {limit}", ""),
    "bad-record": (FAILED, "{field}: {why}", ""),
    "newer-version": (
        INTEGRITY,
        "made by a newer version of coordledger ({what})",
        "upgrade coordledger; if somebody without a secret wrote it, an admin cuts it off",
    ),
    # -- the chain (sections 5, 6, 9)
    "bad-commit": (INTEGRITY, "the commit is not what its record renders to: {why}", ""),
    "wrong-ledger": (INTEGRITY, "the record belongs to ledger {got}, not to {expected}", ""),
    "bad-genesis": (INTEGRITY, "bad genesis record: {why}", ""),
    "unknown-key": (
        FAILED,
        "the ledger lists no valid key {agent}/{key}",
        "an admin enrols agents with: coordledger agent add {agent}",
    ),
    "bad-signature": (INTEGRITY, "the signature does not verify for {agent}/{key}", ""),
    "no-secret": (
        FAILED,
        "the server has no secret for {agent}/{key}",
        "its owner puts the agent's secret or the master into REPO.git/coordledger/, mode 0600",
    ),
    "bad-base": (INTEGRITY, "the base is not in this chain: {why}", ""),
    "replayed": (INTEGRITY, "{agent}'s intent {op} has landed already", ""),
    "time-backwards": (
        FAILED,
        (
            "record {seq} by {agent} is dated {at}: this one is {behind} behind it, and none is"
            " taken before then"
        ),
        "check this machine's clock; if it is right, at the server: coordledger repair REPO.git",
    ),
    # -- the rules of claims (section 9)
    "stale-rev": (LOST, "{what} is at revision {rev}, the record makes {got}", "look again"),
    "wrong-epoch": (
        LOST,
        "{task} is at epoch {epoch}, not at {got}",
        "look again: coordledger show {task}",
    ),
    "held": (
        LOST,
        "{task} is held by {agent}/{session} until {until}",
        "it can be taken over from {claimable_at} on",
    ),
    "already-yours": (
        LOST,
        "{task} is held by this very session until {until}",
        "to go on with it: coordledger renew {task}; --session tells runs in one worktree apart",
    ),
    "not-holder": (
        LOST,
        "{task} is held by {agent}/{session}, epoch {epoch}",
        "it is not yours to work on; what has happened: coordledger history {task}",
    ),
    "expired": (
        LOST,
        "the lease on {task} ran out at {until}",
        "stop working on it, or claim it again",
    ),
    "not-claimed": (LOST, "{task} is not claimed", ""),
    "done": (LOST, "{task} is done", "claim it with --reopen to do it again"),
    "blocked": (LOST, "{task} waits for {after}", "it can be claimed once that is done"),
    "not-yet": (
        LOST,
        "{task} can be claimed from {not_before} on",
        "to change that: coordledger edit {task}",
    ),
    "offered": (
        LOST,
        "{task} is offered to {agent} until {until}",
        "anybody can claim it from {claimable_at} on",
    ),
    "reserved": (
        LOST,
        "{path} is reserved by {agent}/{session} for {task} until {until}",
        "to ask for it: coordledger send --to {agent} TEXT; what is reserved: coordledger paths",
    ),
    "nothing-to-claim": (
        LOST,
        "no open, unblocked task{beside}",
        "--wait 10m waits for one; to see what was tried in vain: coordledger list --stuck",
    ),
    "offer-unchecked": (
        FAILED,
        "nobody has checked that {agent} hands {task} over: record {seq}",
        "with the server's hook, or a key for it, it can be checked: coordledger doctor",
    ),
    "not-live": (LOST, "no live claim on {task}", ""),
    "cannot-become": (LOST, "{task} cannot become {wanted}: {why}", ""),
    "waited-in-vain": (
        FAILED,
        "{task}: not {wanted} after {seconds} s",
        "to wait longer: --timeout",
    ),
    "withdrawn": (LOST, "{task} was withdrawn", "to offer it again: coordledger submit {task}"),
    "unknown-task": (FAILED, "no task {task} in this ledger", "the tasks: coordledger list"),
    "after-newer": (
        FAILED,
        "{task} cannot wait for {after}, which came after it",
        "submit it under a new id",
    ),
    "parent-newer": (
        FAILED,
        "{task} cannot be a part of {parent}, which came after it",
        "submit it under a new id",
    ),
    "to-oneself": (FAILED, "{agent} holds {task} already", "hand it over to another agent"),
    "paths-full": (
        FAILED,
        "the list of reserved paths would have {size} bytes, more than {limit}",
        "a folder, with / at its end, takes the place of all paths below it",
    ),
    "task-exists": (FAILED, "{task} is there already", ""),
    "task-differs": (
        LOST,
        "{task} is there already, with other attributes: {how}",
        "to see it: coordledger show {task}; nothing of yours was written: choose another id",
    ),
    "bad-lease": (FAILED, "the lease would end before it begins", ""),
    "ttl-above-policy": (
        FAILED,
        "a lease of {ttl} is longer than the policy's max_ttl of {limit}",
        "use a shorter --ttl",
    ),
    "not-later": (FAILED, "{task} is already leased until {until}", "renew with a longer --ttl"),
    "page-full": (
        FAILED,
        "the page of tasks where {task} would stand is full",
        "another id stands on another page; a shorter meta may fit, too",
    ),
    # -- agents, policy, messages (section 9)
    "not-permitted": (FAILED, "{agent} may not {what}", "those who may: coordledger agent list"),
    "bad-key": (FAILED, "key {id} of {who}: {why}", "coordledger agent list"),
    "alg-refused": (
        FAILED,
        "{who}/{key} is no SSH key, as the policy require_alg wants it",
        "on its host: coordledger key new; an admin: coordledger agent rotate {who} --ssh-key LINE",
    ),
    "last-key": (FAILED, "key {id} is the owner's last one", "rotate first"),
    "agent-exists": (
        FAILED,
        "agent {who} is enrolled already",
        "to give it a new key: coordledger agent rotate {who}",
    ),
    "too-many-agents": (FAILED, "the ledger has {limit} agents, the most there can be", ""),
    "too-many-delegates": (
        FAILED,
        "there are {limit} delegates below {who}, the most there can be",
        "end those that are not needed: coordledger agent revoke NAME",
    ),
    "bad-policy": (FAILED, "{key}={value} is not within {least} to {most}", ""),
    "bad-import": (
        FAILED,
        "{path} cannot be imported: {why}",
        "what can be: coordledger import --help",
    ),
    "unknown-agent": (
        FAILED,
        "no active agent {who} in this ledger",
        "the agents: coordledger agent list; an admin enrols one: coordledger agent add NAME",
    ),
    "text-too-long": (
        FAILED,
        "{field} has {size} bytes in the record, more than {limit}",
        "shorten it, or put it elsewhere and send a link",
    ),
    "mailbox-full": (FAILED, "{who}'s inbox is full: {why}", "{who} has to ack messages first"),
    "too-many-channels": (
        FAILED,
        "there are {limit} channels, the most there can be",
        "an admin makes room: coordledger channel drop CHANNEL",
    ),
    "unknown-channel": (
        FAILED,
        "no channel {channel} in this ledger",
        "the channels: coordledger channel list",
    ),
    # -- facts (section 9)
    "fact-changed": (
        LOST,
        "the fact {key} is at revision {rev}, not at {was}",
        "look again: coordledger fact get {key}; 0 is none, and what ran out counts for a while",
    ),
    "facts-full": (
        FAILED,
        "the page of facts where {key} would stand is full",
        "another key stands on another page; to make room: coordledger fact rm KEY",
    ),
    "fact-ends-at-once": (FAILED, "the fact {key} would end before it begins", ""),
    "bad-fact": (
        FAILED,
        "not the key of a fact: {value}",
        "1 to 200 printable ASCII characters without spaces",
    ),
    "unknown-fact": (FAILED, "no fact {key} in this ledger", "the facts: coordledger fact list"),
    "bad-thread": (FAILED, "thread {thread} is not a message that you have seen", ""),
    "not-in-inbox": (FAILED, "no message {seq} in your inbox", "the messages: coordledger inbox"),
    # -- admission by a server (section 10)
    "clock-skew": (
        FAILED,
        "the record's clock is {off} {direction} the server's, more than {limit} s",
        "check this machine's clock, then the server's: coordledger doctor",
    ),
    "record-aged": (
        FAILED,
        "the record grew too old on the way, again and again: the server allows {limit} s",
        "a longer --timeout may help; the clocks need not be wrong",
    ),
    "too-early": (
        LOST,
        "{task} can be taken over from {claimable_at} on, by the server's clock",
        "",
    ),
    "gap": (
        FAILED,
        (
            "the newest record is {gap} older than the server's clock, more than {limit} allows"
            " ({suggest} would do)"
        ),
        (
            "if the server's clock is right, its owner runs:"
            " git --git-dir=REPO.git config coordledger.maxGap {suggest}"
        ),
    ),
    "no-create": (
        FAILED,
        "a push cannot create a ledger",
        "the repository's owner runs: coordledger init PATH --agent NAME",
    ),
    "fenced": (
        FAILED,
        (
            "{ref} is fenced by ledger {ledger}, and moves from {old} to {new} under a claim only:"
            " coordledger push origin {new}:{ref} --task TASK"
        ),
        "",
    ),
    "code-moved": (
        FAILED,
        "{why}: the remote has other code there by now",
        "git pull --rebase, and the same command again",
    ),
    "code-refused": (FAILED, "{why}", ""),
    "nothing-to-land": (
        FAILED,
        "the remote has all of it already: nothing is to be landed",
        "if the work is done: coordledger complete {task}",
    ),
    "outside-paths": (
        FAILED,
        "the claim on {task} has not reserved {paths}",
        "coordledger claim {task} --path PATH, or push without --require-paths",
    ),
    "which-task": (
        USAGE,
        "{why}",
        "name one that it holds: --task TASK",
    ),
    "land-alone": (
        FAILED,
        "the push does not move {ref} from {old} to {new}, as its land record says",
        "",
    ),
    "land-not-sequenced": (
        FAILED,
        "the land record of {ref} goes to the ledger's own ref, in one push with the code",
        "",
    ),
    "not-together": (
        FAILED,
        "{refs}: neither moves without the other",
        "git push --atomic",
    ),
    "not-fenced": (
        FAILED,
        "{ref} is not fenced there: no land record moves it",
        "the repository's owner runs: coordledger hook install REPO.git --fence {ref}",
    ),
    "paths-unread": (
        FAILED,
        "which paths the push changes at {ref} cannot be told: {why}",
        "others have reserved some: push less at once, or wait until their claims have ended",
    ),
    "no-delete": (FAILED, "a ledger cannot be deleted by a push", ""),
    "not-fast-forward": (FAILED, "the push does not build on the ledger's head", "fetch first"),
    "too-many-records": (FAILED, "more than {limit} records in one push", ""),
    "too-much": (
        FAILED,
        "what one push renders would have more than {limit} bytes",
        "send fewer records in one push",
    ),
    "not-sequenced": (
        FAILED,
        "this server does not sequence: {ref} takes nothing",
        "the server's owner can switch it on: coordledger hook install REPO.git --sequence",
    ),
    "busy": (FAILED, "the ledger is busy: {why}", "try again"),
    "unverified-below": (
        FAILED,
        "the server has not verified its own ledger: {why}",
        "the server's owner runs: coordledger hook verify REPO.git",
    ),
    "invalid-below": (
        INTEGRITY,
        "the server's own ledger does not verify: {where}: {why}",
        "the server's owner cuts it off there: coordledger repair REPO.git",
    ),
    "bad-ref": (FAILED, "{ref} is not a ledger's ref", ""),
    "bad-push": (FAILED, "cannot read what is pushed: {why}", ""),
    "unneeded": (FAILED, "the push brings what its records do not need: {what}", ""),
    "hook-broken": (
        FAILED,
        "the hook cannot work: {why}",
        "the server's owner mends that, or runs: coordledger hook install REPO.git",
    ),
    "try-ok": (FAILED, "a try: it would be admitted", ""),
    # -- code and claims
    "unknown-commit": (FAILED, "{commit} names no commit of the code here", "git fetch"),
    "never-landed": (
        FAILED,
        "no land record says that {commit} came to a ref{left}",
        "only what goes to a fenced ref has one: coordledger push origin REF --task TASK",
    ),
    "proof-too-large": (
        FAILED,
        "the proof would have more than {limit} bytes",
        "audit the ledger in a clone instead: coordledger audit --full",
    ),
    "proof-unchecked": (
        FAILED,
        "no secret here for {count} of {records} records: the first is record {seq}, {agent}/{key}",
        "--secret-file FILE has it; --chain-only does without",
    ),
    "proof-shorter": (
        FAILED,
        "the proof ends at record {last}: record {seq}, which is trusted, was not compared",
        "ask who made it for: coordledger prove COMMIT --whole",
    ),
    "bad-proof": (INTEGRITY, "the proof does not hold: {why}", ""),
    "proof-differs": (INTEGRITY, "the proof is not of what is trusted: {why}", ""),
    # -- set-up and surroundings
    "no-agent": (
        FAILED,
        "no agent is configured",
        "--as NAME; for good: coordledger join --agent NAME, or git config coordledger.agent NAME",
    ),
    "bad-agent": (
        FAILED,
        "not an agent's name: {value}",
        "a-z, 0-9, _ and -, at most 64; up to three such names of delegates, each after a dot",
    ),
    "bad-session": (FAILED, "not a session's name: {value}", "a-z, 0-9, _ and -, at most 64"),
    "bad-channel": (FAILED, "not a channel's name: {value}", "a-z, 0-9, _ and -, at most 64"),
    "bad-label": (FAILED, "not a label: {value}", "a-z, 0-9, _ and -, at most 64"),
    "bad-ledger": (FAILED, "not a ledger's name: {value}", "a-z, 0-9, _ and -, at most 64"),
    "bad-task": (
        FAILED,
        "not a task's id: {value}",
        "1 to 200 printable ASCII characters; what else a name has takes three for each byte",
    ),
    "bad-ttl": (
        FAILED,
        "not a lease's length: {value}",
        "90s, 10m, 2h, 1d",
    ),
    "no-unit": (
        FAILED,
        "{what}: {value} is seconds to some and minutes to others",
        "{value}s for seconds, {value}m for minutes",
    ),
    "bad-value": (FAILED, "{what}: {why}", ""),
    "no-sqlite": (
        FAILED,
        "this Python has no SQLite, which the records are counted and looked up by",
        "a Python that was built with the module sqlite3; status, list and history need none",
    ),
    "no-terminal": (
        FAILED,
        "watch needs a terminal to draw on",
        "print it once: coordledger watch --once; or what comes: coordledger log --follow",
    ),
    "no-curses": (
        FAILED,
        "this Python has no curses, which watch draws with",
        "take a Python that was built with curses, or print it once: coordledger watch --once",
    ),
    "no-extra": (
        FAILED,
        "{what} needs packages that are not installed",
        "pip install 'coordledger[{extra}]'",
    ),
    "bad-secret": (FAILED, "{where} holds no usable secret: {why}", ""),
    "bad-ssh-key": (FAILED, "{where}: {why}", ""),
    "ssh-key-unknown": (
        FAILED,
        "the SSH key of {agent} that is here is not one of the ledger's",
        "an admin runs: coordledger agent rotate {agent} --ssh-key {key}",
    ),
    "not-ssh": (
        FAILED,
        "record {seq} is signed with a secret, {agent}/{key}: OpenSSH cannot check it",
        "",
    ),
    "no-ssh-key": (
        FAILED,
        "no SSH key of {agent} is here",
        "name it: --ssh-key FILE; or make one: coordledger key new --agent {agent}",
    ),
    "key-exists": (
        FAILED,
        "{agent} has a key already: {path}",
        "to see it: coordledger key show --agent {agent}; --another makes one beside it",
    ),
    "secret-exposed": (FAILED, "{path} is not safe: {why}", "{fix}"),
    "no-secret-found": (
        FAILED,
        "no secret of {agent} found that fits the ledger's key",
        "put it into {where}; an admin makes a new one: coordledger agent rotate {agent}",
    ),
    "no-key": (
        FAILED,
        "no key here to check {agent}'s claim with",
        "leave out --check here where the server's hook is enough",
    ),
    "nobody-checked": (
        FAILED,
        "no key here to check {agent}'s claim with, and no hook on the server vouches for it",
        "to look for the hook: coordledger doctor",
    ),
    "holder-revoked": (LOST, "{agent}, who holds {task}, has no valid key any more", ""),
    "claim-key-revoked": (
        LOST,
        "{task} is held by a record of {agent}'s key {key}, which record {seq} revoked",
        "an admin frees it: coordledger release {task} --force",
    ),
    "no-master": (
        FAILED,
        "no secret for {who} can be made: the ledger's master is not here, if it has one",
        (
            "by an SSH key: --ssh-key LINE; or run it inside of REPO.git, or copy"
            " REPO.git/coordledger/master to {where}"
        ),
    ),
    "no-parent-secret": (
        FAILED,
        "no secret for {who} can be made: that of {above}'s key {key} is not here, if it has one",
        "by an SSH key: --ssh-key LINE; or run it where that secret is",
    ),
    "key-revoked": (
        FAILED,
        "{agent}'s key {key} was revoked by record {seq}",
        "an admin can give a new one: coordledger agent add {agent}",
    ),
    # -- commands that run under a claim
    "command-not-found": (NOT_FOUND, "{command}: no such command", "nothing was started"),
    "command-not-executable": (
        NOT_EXECUTABLE,
        "{command} cannot be executed",
        "nothing was started",
    ),
    "lease-too-short": (
        FAILED,
        "a lease on {task} could be used for {left} s: max_skew is kept free before its end",
        "a longer one: --ttl 10m",
    ),
    "lease-lost": (RUN, "the lease on {task} was lost: {why}", ""),
    "already-run": (LOST, "a command runs under the claim on {task} already", ""),
    "no-git": (FAILED, "git is not there: {why}", "install git 2.30 or newer"),
    "no-process": (
        FAILED,
        "cannot start git: {why}",
        "this machine is short of processes, memory or open files: try again later",
    ),
    "not-trusted": (
        FAILED,
        "{path} belongs to somebody else, and git does not open it",
        "if you trust its owner, where it is: git config --global --add safe.directory {path}",
    ),
    "not-owner": (
        FAILED,
        "{path} belongs to {owner}, and its pushes could not replace what this account writes",
        "as its owner: sudo -u {owner} coordledger repair {path}",
    ),
    "not-named": (
        FAILED,
        "{path} is bare, and safe.bareRepository lets git open such a repository by name only",
        "name it: GIT_DIR={path} coordledger status",
    ),
    "git-failed": (FAILED, "git failed: {why}", ""),
    "not-a-repository": (FAILED, "{path} is not a git repository", ""),
    "object-format": (FAILED, "{path} uses {what}, which coordledger cannot read", ""),
    "no-remote": (
        FAILED,
        "no remote {remote} is configured",
        "{advice}",
    ),
    "two-addresses": (
        FAILED,
        "{remote} is read at {reads} and written at {pushes}: two places have two winners",
        "name the ledger's one address: git config coordledger.remote {single}",
    ),
    "remote-unreachable": (
        FAILED,
        "cannot reach {remote}: {why}",
        "check the URL and the network; what is here already can be read with --offline",
    ),
    "timeout": (FAILED, "no answer within {seconds} s", "a longer --timeout may help"),
    "not-a-ledger": (
        FAILED,
        "{remote} has no ledger {name}{others}",
        "its owner creates one: coordledger init PATH --agent NAME",
    ),
    "several-ledgers": (
        FAILED,
        "{remote} has several ledgers: {names}",
        "to say which one: --ledger NAME",
    ),
    "other-ledger": (
        INTEGRITY,
        "this clone follows ledger {ours}, and {remote} has {theirs}",
        "ask the server's owner who made it anew; another clone can follow the other ledger",
    ),
    "already-joined": (
        FAILED,
        "this clone follows ledger {ours} already",
        "use another clone, or --ledger NAME",
    ),
    "ledger-exists": (
        FAILED,
        "{remote} has a ledger {name} already",
        "to join it: coordledger join {remote} --agent NAME",
    ),
    "not-joined": (
        FAILED,
        "this clone has not joined a ledger",
        "coordledger join REMOTE --agent NAME",
    ),
    "bad-config": (FAILED, "{key}: {why}", ""),
    "push-refused": (FAILED, "the server refused: {why}", "{hint}"),
    "stale-lock": (
        FAILED,
        "the server has a stale lock: {why}",
        "the server's owner removes that .lock file when no push is running",
    ),
    "unfinished": (
        FAILED,
        "{done} of {of} new records verified within {seconds} s",
        "run it again: it goes on from there; a longer --timeout does it in one go",
    ),
    "local-lock": (
        FAILED,
        "{where} is held by {holder}",
        "try again; a stopped process has to go on, or to end",
    ),
    "gone": (FAILED, "record {seq} is not in this copy", "it lies below a shallow copy's edge"),
    "hook-not-run": (FAILED, "nothing verifies pushes to {path}: {why}", "{do}"),
    "doctor-failed": (FAILED, "{count} of the checks failed", ""),
    "settings-refused": (
        FAILED,
        "{path}: {why}",
        "nothing of that harness was written; what would be: coordledger setup --dry-run",
    ),
    "no-harness": (
        FAILED,
        "no harness was found here: neither its program, nor its folder",
        "name it: coordledger setup claude",
    ),
    "no-project": (
        FAILED,
        "{path} is in no git work tree",
        "run it in the project; for all projects of yours: --user",
    ),
    "not-connected": (
        FAILED,
        "{count} of these differ from what this version writes",
        "to write it: coordledger setup; to see it first: coordledger setup --dry-run",
    ),
    "already-served": (FAILED, "{path} is served already", "end the other process first"),
    "demo-failed": (FAILED, "the demo did not go as promised: {why}", ""),
    "usage": (USAGE, "{why}", "{command} --help"),
    "interrupted": (INTERRUPTED, "interrupted", ""),
    "io": (FAILED, "{why}", ""),
    "internal": (FAILED, "a fault in coordledger: {why}", "COORDLEDGER_DEBUG=1 shows where"),
    # -- integrity
    "rewritten": (
        INTEGRITY,
        "the remote's history was rewritten: it does not continue the verified head {head}",
        "ask the server's owner; to leave the verified history for the remote's: {command}",
    ),
    "ledger-gone": (
        INTEGRITY,
        "{remote} has no ledger {name} any more; verified was {head}",
        "ask the server's owner: it was moved, hidden or deleted{others}",
    ),
    "told-lost": (
        INTEGRITY,
        "{remote} does not have record {seq} ({commit}), of which it said that it had landed",
        (
            "a replica that lags catches up: try again; else it has gone back: ask its owner."
            " To leave what it had told: {command}"
        ),
    ),
    "vouch-differs": (
        INTEGRITY,
        "the hook of {remote} has verified another history: its record {seq} is not the one here",
        "compare with other hosts: coordledger head; to leave the verified history: {command}",
    ),
    "remote-behind": (
        INTEGRITY,
        "{remote} is an older copy: it ends at record {seq}, verified was {head}",
        "a replica that lags catches up: try again; if it stays so, ask the server's owner",
    ),
    "audit-unchecked": (
        FAILED,
        "{count} of {records} records were checked by nobody",
        (
            "their signers' keys check them, or a vouch of the server's hook; --allow-unverified"
            " does without"
        ),
    ),
    "pin-mismatch": (INTEGRITY, "the remote's ledger is not the pinned one: {why}", ""),
    "head-differs": (INTEGRITY, "the other copy has another history: {why}", ""),
    "from-future": (
        INTEGRITY,
        (
            "by {agent}, dated {at}, {ahead} ahead of this machine's clock: nothing can be written"
            " before then"
        ),
        "check this machine's clock; if it is right, cut the record off",
    ),
    "bad-chain": (INTEGRITY, "{count} bad records", ""),
    "bad-copy": (INTEGRITY, "the local copy is damaged: {why}", "coordledger join --reset"),
    "bad-state": (
        INTEGRITY,
        "the state that this shallow copy took on trust is not one of a ledger: {why}",
        "coordledger join --reset",
    ),
    # -- unknown
    "output-lost": (
        UNKNOWN,
        "it has landed, and the answer could not be printed: {why}",
        "the same command again tells it, and so does: coordledger resolve",
    ),
    "not-moved": (
        UNKNOWN,
        "record {seq} of {task} has landed, but {ref} is not at {new}: the server stopped between",
        "look at {ref}; the same command moves it, or one under another claim if the task is done",
    ),
    "unknown-outcome": (
        UNKNOWN,
        "the push may or may not have landed: {why}",
        "to settle it: coordledger resolve",
    ),
}


class CoordledgerError(Exception):
    """The base of everything that coordledger raises for its users.

    `code` is the stable slug, `message` one printable line, `hint` one line or "",
    `data` what the sentence was built from, `exit_code` the command line's.
    """

    exit_code = FAILED

    def __init__(
        self, code: str, message: str, hint: str = "", data: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.hint, self.data = code, message, hint, data or {}


class Failed(CoordledgerError):
    """Refused or impossible; nothing was written."""


class Lost(CoordledgerError):
    """Somebody else has it, or the lease is over; nothing was written."""

    exit_code = LOST


class Integrity(CoordledgerError):
    """A record does not verify, or history was rewritten."""

    exit_code = INTEGRITY


class OutcomeUnknown(CoordledgerError):
    """The write may or may not have landed."""

    exit_code = UNKNOWN


_TYPES: dict[int, type[CoordledgerError]] = {
    FAILED: Failed,
    LOST: Lost,
    INTEGRITY: Integrity,
    UNKNOWN: OutcomeUnknown,
}


def own_code(code: int) -> int:
    """The exit code beside those of another program that is run, for one that is `code` else."""
    return RUN + code if FAILED <= code <= UNKNOWN else code


def printable(value: object, limit: int = 200) -> str:
    """`value` as printable ASCII of at most `limit` characters: safe on a terminal."""
    text = str(value)
    if not (text.isascii() and text.isprintable()):
        text = ascii(text)[1:-1]
    return text if len(text) <= limit else text[: limit - 3] + "..."


# What stands in hints as one word of a command, and the characters that no shell takes apart.
_WORDS = frozenset(("agent", "key", "owner", "path", "remote", "single", "task", "where", "who"))
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-")


def _quoted(text: str) -> str:
    """`text` as one word for a shell: a hint may be copied there."""
    return text if text and _PLAIN.issuperset(text) else "'" + text.replace("'", "'\\''") + "'"


def sentence(code: str, **data: Any) -> tuple[str, str]:
    """The line and the hint of `code`, filled in."""
    _, message, hint = ERRORS[code]
    shown = {name: printable(value) for name, value in data.items()}
    words = {name: _quoted(text) if name in _WORDS else text for name, text in shown.items()}
    return message.format(**shown), hint.format(**words)


def error(code: str, **data: Any) -> CoordledgerError:
    """The exception for `code`, of the type that its exit code has."""
    message, hint = sentence(code, **data)
    exit_code = ERRORS[code][0]
    made = _TYPES.get(exit_code, Failed)(code, message, hint, data)
    made.exit_code = exit_code
    return made


def disk_error(fault: OSError) -> CoordledgerError:
    """The system's word about a file, as an error of ours: io."""
    what = fault.strerror or type(fault).__name__
    return error("io", why=f"{what}: {fault.filename}" if fault.filename else what)


# Records that another clock, or another version, may find valid: that is tried first.
_BAD_FOR_NOW = ("newer-version", "from-future")


class RuleBroken(Exception):
    """A record breaks one rule of docs/format.md. The caller knows which side is to blame."""

    def __init__(self, code: str, **data: Any) -> None:
        super().__init__(code)
        self.code, self.data = code, data

    def __str__(self) -> str:
        return sentence(self.code, **self.data)[0]

    def own(self) -> CoordledgerError:
        """It was our own request: refused."""
        return error(self.code, **self.data)

    def theirs(self, seq: int, oid: str, repair: str) -> Integrity:
        """It is a record that somebody wrote: the chain is not to be trusted. `repair` is the
        command that cuts it off.
        """
        hint = ERRORS[self.code][2] if self.code in _BAD_FOR_NOW else "an admin cuts it off"
        hint += f": {repair}"
        where = f"record {seq} ({oid[:12]})"
        return Integrity(self.code, f"{where}: {self}", hint, {"seq": seq, "commit": oid})
