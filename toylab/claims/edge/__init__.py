"""Where rules become unstable: thresholds, growth and filters derived from a rule's code, against runs of that code."""
