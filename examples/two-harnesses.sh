#!/bin/sh
# Two agents of different harnesses on one backlog: bob is Claude Code, dave is Codex.
#
# Run it in an empty folder, with coordledger, claude and codex on the PATH, and both logged in. They
# run commands without asking, and Codex without its sandbox and its review of hooks: run it where
# nothing can be lost.
set -eu

# The remote, and alice, who offers four tasks.
coordledger init ledger.git --agent alice --ssh-key
git clone --quiet ledger.git alice
(
	cd alice
	coordledger join origin --agent alice
	for task in lexer parser printer tests; do
		coordledger submit "$task" --title "A page about the $task"
	done
)

# Each agent has a key and a clone.
for agent in bob dave; do
	coordledger key new --agent "$agent" > "$agent.pub"
	(cd alice && coordledger agent add "$agent" --ssh-key "../$agent.pub")
	git clone --quiet ledger.git "$agent"
	(cd "$agent" && coordledger join origin --agent "$agent")
done

# Each is connected by its harness, and works.
prompt='Work off the backlog with coordledger: claim the next task, write its page into done/TASK.txt,
complete it, and go on until nothing is free.'
(cd bob && coordledger setup claude && claude -p "$prompt" --allowedTools Bash Write < /dev/null) &
(cd dave && coordledger setup codex && codex exec --dangerously-bypass-approvals-and-sandbox \
	--dangerously-bypass-hook-trust "$prompt" < /dev/null) &
wait

# What came of it.
cd alice
coordledger list
coordledger audit
