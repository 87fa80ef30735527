"""git's plumbing: objects, refs, programs, the wire. It knows nothing of ledgers."""
