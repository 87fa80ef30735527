"""Ways to the remote that a writer need not know, as publishers: chosen where a ledger is opened.

Behind a server that sequences (`sequenced`), and together with this user's other processes on
this host (`line`, `leader`, `slots`).
"""
