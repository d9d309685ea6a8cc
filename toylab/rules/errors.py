"""Why a rule has no edge: the one refusal of the numerical road."""


class NoLinearEdge(ValueError):
    """The rule has no linear edge: its held step is not linear in (weights, gradient, fast state).

    `reason` is one line, `hint` says what to try. `theory.NoLinearEdge` is the symbolic road's refusal, with the same
    two fields; the two packages do not import each other, so what catches both is `except ValueError`.
    """

    def __init__(self, reason: str, hint: str = "only rules that are linear once their slow state is held have one"):
        super().__init__(reason)
        self.reason, self.hint = reason, hint
