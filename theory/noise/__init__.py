"""What mini-batches do to the edge: second moments, single runs, the thermostat."""
