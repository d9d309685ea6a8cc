"""Every model of training that can be laid beside an optimizer's run, by name.

A module of this folder that declares `MODEL` takes part everywhere: comparison, command, tables and figures.
"""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType, ModuleType

from toylab.discovery import claim_name, declarations
from toylab.models.model import Model

BASELINE = "stable_flow"
"""The model that a comparison measures all others by: the rule's averaged motion without oscillation."""


@cache
def models() -> Mapping[str, Model]:
    """Name -> model, those that cover more rules first, and in the order of their names among these.

    Raises `toylab.discovery.DiscoveryError`, with the file, for a module that cannot be imported or declares no MODEL,
    and for a name that two modules declare.
    """
    owners: dict[str, ModuleType] = {}
    listed: list[Model] = []
    for module, model in declarations("toylab.models", "MODEL"):
        claim_name(owners, model.name, module)
        listed.append(model)
    ordered = sorted(listed, key=lambda model: (model.covers, model.name))
    return MappingProxyType({model.name: model for model in ordered})
