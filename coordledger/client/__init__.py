"""What an agent's process does: a verified copy, writing, the use cases."""
