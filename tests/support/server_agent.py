"""An agent's process: `server_agent.py CLONE AGENT TASK` claims it and prints a line of JSON.

It first reads the ledger, says "ready", and waits for a line: so that several of them
begin at one moment.
"""

from __future__ import annotations

import json
import sys

from coordledger import Ledger

path, agent, task = sys.argv[1:]
with Ledger.open(path, agent) as ledger:
    ledger.head()
    print("ready", flush=True)
    sys.stdin.readline()
    result = ledger.claim(task)
    (claim,) = result.claims
    said = {"outcome": result.outcome, "session": claim.session, "epoch": claim.epoch}
    print(json.dumps(said), flush=True)
