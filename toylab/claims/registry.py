"""Finding claims: every module beside this one that declares `CLAIMS = [...]` takes part, with no list to
edit.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable, Sequence

from toylab.claims.claim import TIERS, Claim
from toylab.claims.members import ClaimError


class UnknownClaim(ValueError):
    """No claim or topic has that name; `hint` names the nearest."""

    def __init__(self, message: str, hint: str):
        super().__init__(message)
        self.hint = hint


def discovered(package: str = "toylab.claims") -> list[Claim]:
    """All claims declared by the modules of a package, by topic and then in the order of declaration.

    **Errors:** `ClaimError` for two claims of one id, for a module that fails to import, and for a module
    that makes claims but does not declare them in `CLAIMS`, where they would silently never run.
    """
    claims: list[Claim] = []
    for entry in sorted(pkgutil.iter_modules(importlib.import_module(package).__path__), key=lambda m: m.name):
        name = f"{package}.{entry.name}"
        try:
            module = importlib.import_module(name)
        except Exception as error:
            raise ClaimError(f"the claims of {name} cannot be imported: {type(error).__name__}: {error}") from error
        declared = getattr(module, "CLAIMS", None)
        if declared is None and any(isinstance(value, Claim) for value in vars(module).values()):
            raise ClaimError(f"{name} makes claims but declares no CLAIMS list")
        claims.extend(declared or [])
    ids = [claim.id for claim in claims]
    for repeated in sorted({one for one in ids if ids.count(one) > 1}):
        raise ClaimError(f"two claims are called {repeated}")
    return sorted(claims, key=lambda claim: claim.topic)


def selected(claims: Sequence[Claim], names: Iterable[str], tier: str) -> list[Claim]:
    """The claims to run: those of the tier and the ones before it, restricted to the named claims and topics.

    A claim named by its full id runs whatever its tier. **Errors:** `UnknownClaim` for a name that is no
    claim or topic, or a topic without a claim in the tier.
    """
    included = TIERS[: TIERS.index(tier) + 1]
    names = list(names)
    if not names:
        return [claim for claim in claims if claim.tier in included]
    wanted: set[str] = set()
    topics = {claim.topic for claim in claims}
    for name in names:
        if name in topics:
            found = {claim.id for claim in claims if claim.topic == name and claim.tier in included}
            if not found:
                first = min((c.tier for c in claims if c.topic == name), key=TIERS.index)
                raise UnknownClaim(
                    f"topic {name} has no claim in the tier {tier}",
                    f"its first claims are of the tier {first}",
                )
            wanted |= found
        elif name in {claim.id for claim in claims}:
            wanted.add(name)
        else:
            near = difflib.get_close_matches(name, [*topics, *(claim.id for claim in claims)], n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"topics are {', '.join(sorted(topics)) or 'none'}"
            raise UnknownClaim(f"no claim or topic is called {name!r}", f"{hint} See toylab verify --list.")
    return [claim for claim in claims if claim.id in wanted]
