"""From the text of RULE or PROBLEM to the callable it names: a built-in name, `module:factory` or
`file.py:factory`.

`optax:adam` and `optax:contrib.ademamix` are the second form. Modules are also looked for in the current
folder.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from toylab.commands.parts.refusal import BadInput, nearest
from toylab.commands.parts.settings import LEARNING_RATES, Parameters, check_names

FORMS = "a built-in name, optax:NAME, module:factory or file.py:factory"
PROBLEM_FORMS = "a built-in name, module:factory or file.py:factory"


@dataclass(frozen=True)
class Resolved:
    """A callable and the text that named it."""

    name: str
    factory: Callable[..., Any]

    @property
    def parameters(self) -> Parameters:
        """What the callable takes. **Errors:** `BadInput` if that cannot be read."""
        signature = _parameters(self)
        names = tuple(name for name, one in signature.items() if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL))
        return Parameters(self.name, names, any(one.kind is one.VAR_KEYWORD for one in signature.values()))

    def required(self) -> list[str]:
        """The parameters without a default."""
        several = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        signature = _parameters(self).items()
        return [name for name, one in signature if one.default is one.empty and one.kind not in several]

    def called(self, settings: Mapping[str, Any]) -> Any:
        """The callable's result. Raises what it raises."""
        return _called(self.factory, _parameters(self), settings)


def resolved(
    text: str, named: Mapping[str, Callable[..., Any]], noun: str = "rule", instance: type | None = None
) -> Resolved:
    """The callable that `text` names.

    **Arguments:** `named` the built-in ones; `noun` what is sought, for messages; `instance` a type whose objects may
    be named too, instead of a callable that returns one.
    **Errors:** `BadInput` for an unknown name (with the nearest), a missing file or module, one that raises
    while it is imported, a missing attribute (with the callables there are), and for something that cannot be
    called.
    """
    forms = FORMS if noun == "rule" else PROBLEM_FORMS
    if text in named:
        return Resolved(text, named[text])
    place, colon, attribute = text.rpartition(":")
    if not colon:
        if text.endswith(".py"):
            place, attribute = text, ""
        else:
            hint = nearest(text, named, f"{noun}s are {', '.join(named)}" if len(named) <= 12 else f"needed {forms}")
            raise BadInput(f"no {noun} is called {text!r}", hint)
    module = _loaded_file(place) if place.endswith(".py") else _loaded_module(place, text)
    if not attribute:
        raise BadInput(f"{text!r} names no {noun}, needed {forms}", _callables(module))
    value: Any = module
    for part in attribute.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            hint = nearest(part, _callable_names(value), _callables(value))
            raise BadInput(f"{place} has no {attribute!r}", hint) from None
    if instance is not None and isinstance(value, instance):
        return Resolved(text, lambda: value)
    if not callable(value):
        message = f"{text} is a {type(value).__name__}, needed a callable that returns a {noun}"
        raise BadInput(message, _callables(module))
    return Resolved(text, value)


def named_rule(text: str) -> Resolved:
    """The callable that RULE names, not tried. **Errors:** `BadInput`."""
    import optax

    from toylab.optimizers import NAMED

    if text not in NAMED and callable(getattr(optax, text, None)):
        raise BadInput(f"no rule is called {text!r}", f"did you mean optax:{text}?")
    return resolved(text, NAMED)


def resolved_rule(text: str, settings: Mapping[str, Any]) -> Resolved:
    """The optimizer factory that RULE names, tried once with numbers.

    **Arguments:** `settings` values given with `--set`, which replace defaults.
    **Errors:** `BadInput`, also for a setting that the factory has no parameter for, a factory without a
    numeric hyperparameter, one that raises, and one that returns something else than an
    `optax.GradientTransformation`.
    """
    rule = named_rule(text)
    parameters = _parameters(rule)
    open_ended = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    named = {name: one for name, one in parameters.items() if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)}
    if not open_ended:
        check_names(settings, named, text)
    required = [name for name, one in named.items() if one.default is one.empty and name not in settings]
    if (
        not required
        and not any(_is_number(one.default) for one in named.values())
        and not any(map(_is_number, settings.values()))
    ):
        raise BadInput(
            f"{text} has no numeric hyperparameter, needed at least a learning rate",
            "give it a parameter learning_rate",
        )
    trial = {name: 0.1 if name in LEARNING_RATES else 0.5 for name in required} | dict(settings)
    call = f"{text}({', '.join(f'{name}={value!r}' for name, value in trial.items())})"
    hint = "give the arguments it needs with --set name=value, or wrap it in a factory of numbers"
    try:
        transform = _called(rule.factory, named, trial)
    except Exception as error:
        raise BadInput(f"{call} raised {type(error).__name__}: {error}", hint) from error
    if not all(callable(getattr(transform, part, None)) for part in ("init", "update")):
        raise BadInput(f"{call} returned a {type(transform).__name__}, needed an optax.GradientTransformation", hint)
    return rule


def resolved_problem(text: str) -> Resolved:
    """What PROBLEM names: a function that returns a `toylab.Problem`, or such a problem itself.

    **Errors:** `BadInput`.
    """
    from toylab.problems import NAMED
    from toylab.problems.problem import Problem

    return resolved(text, NAMED, "problem", Problem)


def built_problem(problem: Resolved, settings: Mapping[str, Any]) -> Any:
    """The `toylab.Problem`, its loss tried once (on shapes).

    A single number becomes a tuple of one where the default is a tuple, and an integer `key` a random key.
    **Errors:** `BadInput` for a missing argument, whatever the function or the loss raises, and anything that is no
    problem.
    """
    import jax

    from toylab.training.checks import check_problem

    given = {name: _fitted(name, value, _parameters(problem).get(name)) for name, value in settings.items()}
    missing = [name for name in problem.required() if name not in given]
    if missing:
        raise BadInput(f"{problem.name} needs {', '.join(missing)}", f"give it with --set {missing[0]}=...")
    call = f"{problem.name}({', '.join(f'{name}={value!r}' for name, value in settings.items())})"
    hint = "give the arguments it needs with --set name=value"
    try:
        instance = problem.called(given)
    except ValueError as error:  # the problems' own refusals say what was needed
        raise BadInput(f"{call}: {str(error).removeprefix(f'{problem.name}: ')}", hint) from error
    except Exception as error:
        raise BadInput(f"{call} raised {type(error).__name__}: {error}", hint) from error
    try:
        check_problem(instance)
    except (ValueError, jax.errors.JAXTypeError) as error:
        raise BadInput(f"{call}: {error}", "PROBLEM must give a toylab.Problem(loss, params, data)") from error
    except Exception as error:
        raise BadInput(f"the loss of {call} raised {type(error).__name__}: {error}", "try it in Python") from error
    return instance


def _fitted(name: str, value: Any, parameter: inspect.Parameter | None) -> Any:
    if name == "key" and isinstance(value, int) and not isinstance(value, bool):
        import jax

        return jax.random.key(value)
    wants_tuple = parameter is not None and isinstance(parameter.default, tuple)
    return (value,) if wants_tuple and _is_number(value) else value


def _called(factory: Callable[..., Any], named: Mapping[str, inspect.Parameter], trial: Mapping[str, Any]) -> Any:
    positional = [trial[name] for name, one in named.items() if one.kind is one.POSITIONAL_ONLY and name in trial]
    keywords = {
        name: value
        for name, value in trial.items()
        if name not in named or named[name].kind is not inspect.Parameter.POSITIONAL_ONLY
    }
    return factory(*positional, **keywords)


def _parameters(rule: Resolved) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(rule.factory).parameters
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"the parameters of {rule.name} cannot be read: {error}",
            "wrap it in a Python function of numbers",
        ) from error


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _loaded_file(place: str) -> ModuleType:
    path = Path(place)
    if not path.is_file():
        others = sorted(path.parent.glob("*.py")) if path.parent.is_dir() else []
        hint = nearest(path.name, [one.name for one in others], f"the current folder is {Path.cwd()}")
        raise BadInput(f"there is no file {place}", hint)
    name = f"toylab_user_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BadInput(f"{place} cannot be imported as Python", f"needed {FORMS}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look their module up
    _searchable(path.resolve().parent)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise BadInput(
            f"importing {place} raised {type(error).__name__}: {error}", "run it with python to see where"
        ) from error
    return module


def _loaded_module(place: str, text: str) -> ModuleType:
    if not all(part.isidentifier() for part in place.split(".")):
        hint = f"a file is written {place}.py:..." if Path(f"{place}.py").is_file() else f"needed {FORMS}"
        raise BadInput(f"{text!r} names no module: got {place!r}", hint)
    _searchable(Path.cwd())
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not (place == error.name or place.startswith(error.name + ".")):
            raise BadInput(
                f"importing {place} raised {type(error).__name__}: {error}", f"install {error.name}"
            ) from error
        raise BadInput(f"there is no module {place}", f"needed {FORMS}") from None
    except (Exception, SystemExit) as error:
        raise BadInput(
            f"importing {place} raised {type(error).__name__}: {error}",
            f"python -c 'import {place}' shows where",
        ) from error


def _searchable(folder: Path) -> None:
    """Let what the user's file imports from its own folder be found, after everything that is installed."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _callable_names(module: Any) -> list[str]:
    names = [name for name in dir(module) if not name.startswith("_")]
    return [name for name in names if callable(getattr(module, name, None))]


def _callables(module: Any) -> str:
    """What can be called in a module; those defined there rather than imported, where there are any."""
    names = _callable_names(module)
    own = [
        name for name in names if getattr(getattr(module, name), "__module__", None) == getattr(module, "__name__", "")
    ]
    names = own or names
    return (
        f"it has {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}"
        if names
        else "nothing in it can be called"
    )
