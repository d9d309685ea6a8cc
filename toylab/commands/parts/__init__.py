"""What several commands share: how RULE, PROBLEM and settings are read, and how results are written."""
