"""The programs that run where the repository lives: two hooks and the resident process."""
