"""What runs where the repository lives: the hooks and the resident process."""
