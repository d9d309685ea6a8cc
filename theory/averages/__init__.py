"""How the average of a run at its edge moves: central flows, the central map, second moments at rest."""
