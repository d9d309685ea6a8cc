"""Self-stabilization, which holds a run at its edge: closed orbits, their drift, and where a run settles."""
