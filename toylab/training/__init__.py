"""Training as compiled loops: one run, sweeps, one look inside a loop that is not ours, and what runs leave behind."""
