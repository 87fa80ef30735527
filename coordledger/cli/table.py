"""Which commands there are: where each is written, and its line in the list of `--help`.

Rules: a command's module is imported when somebody asks for it, and not for the list of all: twenty
modules with what click makes of their options take as long as click itself takes. A line here
is the first sentence of the command's own help, to the letter (a test compares them). It knows
nothing of click.
"""

from __future__ import annotations

# Section of the list -> command -> the module in this package, and its line.
TABLE: dict[str, dict[str, tuple[str, str]]] = {
    "Work": {
        "claim": ("claims", "Claim tasks: first writer wins."),
        "renew": ("claims", "Extend the lease that this session holds."),
        "complete": ("claims", "Finish a task that this session holds."),
        "release": ("claims", "Give a task back: it is open again, at once or later."),
        "handoff": ("claims", "Pass a task on: AGENT takes it over by claiming it."),
        "require": ("looking", "A gate: exit 0 only if the claim is live, and checked."),
        "run": ("running", "Run COMMAND under a claim that lasts as long as it does."),
    },
    "Tasks": {
        "status": ("audit", "Where the ledger stands, what I hold, what is unread."),
        "list": ("looking", "List tasks: the highest priority first, then the oldest."),
        "show": ("looking", "Show one task, and its page in the ledger's tree."),
        "history": ("looking", "Every record about a task, oldest first."),
        "wait": ("looking", "Wait until all of the tasks are done, free or claimed."),
        "submit": ("tasks", "Offer a task."),
        "edit": ("tasks", "Change a task's title, priority, labels, and so on."),
        "withdraw": ("tasks", "Take back an offer that nobody holds."),
        "batch": ("tasks", "Land many operations with one push: JSON lines on stdin."),
    },
    "Code": {
        "blame-claim": ("proofs", "Under whose claim a commit came to a fenced ref."),
        "guard": ("guard", "Refuse files that somebody else has reserved: exit 3."),
        "push": ("landing", "Push code to fenced refs under a claim: both or neither."),
        "paths": ("looking", "The paths that live claims have reserved."),
    },
    "Messages and facts": {
        "fact": ("facts", "Small values that all agents share, each under a key."),
        "send": ("messages", "Send BODY, or stdin for `-`, to an agent or a channel."),
        "inbox": ("messages", "Messages to me, and what is unread in the channels."),
        "ack": ("messages", "Acknowledge messages."),
        "messages": ("messages", "All messages that were sent, oldest first."),
        "channel": ("messages", "The channels that there are, and dropping one."),
    },
    "Looking": {
        "log": ("log", "What has happened, a line for each record."),
        "stats": ("log", "What each agent did and in all, and how long it took."),
        "agents": ("log", "Who was last seen when, and holds and has done what."),
        "report": ("report", "Show all of a ledger on one page."),
        "watch": ("watch", "A live screen: who holds what, and what happens."),
    },
    "Set-up": {
        "init": ("admin", "Found a ledger in a bare repository."),
        "join": ("admin", "Enter a ledger: fetch it, verify it, remember its head."),
        "agent": ("admin", "Enrol agents, list them, change and revoke their keys."),
        "policy": ("admin", "Show the ledger's limits, or change them (as an admin)."),
        "doctor": ("admin", "Check the set-up by trying it out."),
        "demo": ("admin", "Watch agents race, talk and forge, on its own remote."),
        "bench": ("admin", "Measure what claims cost here, beside plain git."),
        "completion": ("admin", "Print a shell's completion script."),
        "import": ("importing", "Bring in tasks, messages and facts."),
        "export": ("importing", "Print all tasks: JSON lines, CSV, or issues of beads."),
        "key": ("keys", "Make an SSH key to sign records with, or show it."),
    },
    "Harnesses": {
        "setup": ("connect", "Connect Claude Code, Codex and others with the ledger."),
        "prime": ("harnesses", "What a session has to know, in a few lines."),
        "agent-hook": ("harnesses", "Answer a harness's hook: the event as JSON on stdin."),
        "mcp": ("mcp", "Serve the ledger's tools by MCP, on stdin and stdout."),
    },
    "Server": {
        "hook": ("admin", "The server's side: what verifies every push."),
        "serve": ("admin", "Answer for the hooks of repositories: cheaper pushes."),
        "repair": ("repair", "Cut a ledger back to its last valid record."),
    },
    "Trust": {
        "prove": ("proofs", "Prove to others under whose claim a commit landed."),
        "verify-proof": ("proofs", "Verify FILE, a proof, with no network and no repository."),
        "audit": ("audit", "Verify what was not audited here yet, or everything."),
        "head": ("audit", "The verified head in one line, to compare with another's."),
        "resolve": ("audit", "Settle writes whose outcome is unknown."),
        "allowed-signers": ("keys", "Print the SSH keys as OpenSSH's allowed_signers file."),
    },
}
