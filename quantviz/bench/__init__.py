"""What maps cost, by this package and by others, side by side in one run."""
