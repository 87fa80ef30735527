"""coordledger: a claim ledger for fleets of agents, kept as signed commits in git."""
