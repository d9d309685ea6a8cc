"""Finding claims: every module in a topic's folder that declares `CLAIMS = [...]` takes part, with no list to edit."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from types import ModuleType

from toylab.claims.claim import TIERS, Claim
from toylab.discovery import DiscoveryError, claim_name, declarations, subpackages


class UnknownClaim(ValueError):
    """No claim or topic has that name; `hint` names the nearest."""

    def __init__(self, message: str, hint: str):
        super().__init__(message)
        self.hint = hint


def discovered(package: str = "toylab.claims") -> list[Claim]:
    """All claims declared as `CLAIMS` by the modules in the folders of a package, one folder a topic: by topic, then by
    module, then in the order of declaration.

    **Errors:** `DiscoveryError`, with the file, for a module that fails to import or declares no list `CLAIMS`, for two
    claims of one id, for a claim in the folder of another topic, and for one that a module makes but no module lists,
    which would silently never run.
    """
    claims: list[Claim] = []
    owners: dict[str, ModuleType] = {}
    modules: dict[str, ModuleType] = {}
    for folder in subpackages(package):
        for module, declared in declarations(folder, "CLAIMS"):
            if not isinstance(declared, list | tuple) or not all(isinstance(one, Claim) for one in declared):
                raise DiscoveryError(f"{module.__file__} declares CLAIMS that is no list of claims", "CLAIMS = [CLAIM]")
            for claim in declared:
                claim_name(owners, claim.id, module)
                if claim.topic != folder.rpartition(".")[2]:
                    raise DiscoveryError(
                        f"{module.__file__} declares {claim.id}", f"its id or its folder {folder} is of another topic"
                    )
            claims.extend(declared)
            modules |= {one.id: module for one in vars(module).values() if isinstance(one, Claim)}
    for lost in sorted(modules.keys() - owners.keys()):
        raise DiscoveryError(f"{modules[lost].__file__} makes {lost} but lists it in no CLAIMS", "it would never run")
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
            of_topic = {claim.id for claim in claims if claim.topic == name and claim.tier in included}
            if not of_topic:
                first = min((c.tier for c in claims if c.topic == name), key=TIERS.index)
                raise UnknownClaim(
                    f"topic {name} has no claim in the tier {tier}",
                    f"its first claims are of the tier {first}",
                )
            wanted |= of_topic
        elif name in {claim.id for claim in claims}:
            wanted.add(name)
        else:
            near = difflib.get_close_matches(name, [*topics, *(claim.id for claim in claims)], n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"topics are {', '.join(sorted(topics)) or 'none'}"
            raise UnknownClaim(f"no claim or topic is called {name!r}", f"{hint} See toylab verify --list.")
    return [claim for claim in claims if claim.id in wanted]
