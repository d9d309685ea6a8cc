"""The commands of `toylab`, one module each: `configure(parser)` declares its options, `run(options) -> exit
code` does the work.

Heavy imports (JAX, SymPy, matplotlib) belong inside `run`.
"""

COMMANDS = {
    "derive": "derive where a rule becomes unstable, from its own code",
    "verify": "run the claims: what theory predicts against what experiments measure",
    "figures": "draw the figures, with their data beside them",
    "train": "train once, observed and saved",
    "sweep": "train every member of a grid, with seeds",
    "edge": "how far from the edge: sharpness, edge ratio, largest stable learning rate now",
    "flows": "lay the models of the averaged path beside the run: accuracy and cost of each",
    "doctor": "check devices, precision, packages and the output folder",
}
"""Name -> one-line summary, in the order of `toylab --help`."""
