"""How an object was built: recorded at construction, written as plain values, and built again from them.

Nothing of a stranger's recipe runs: kpose's own classes are imported, and others only where their modules are named
as trusted.
"""

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from os import PathLike, fspath
from typing import Any, TypeVar

from kpose._messages import one_line
from kpose.structures import FeatureSpec, Template

__all__ = ["Recorded", "build", "encode", "encode_factory"]

OBJECT, FACTORY, ARGUMENTS, TUPLE = "class_path", "factory", "init_args", "tuple"
_MARKERS = {OBJECT, FACTORY, TUPLE}
_OWN_PACKAGES = ("kpose.backbones", "kpose.heads", "kpose.losses", "kpose.reconstruction")
_PLAIN = (bool, int, float, str, type(None))
_Init = TypeVar("_Init", bound=Callable[..., None])


class Recorded:
    """Mixin of parts that know how they were built: their class and the arguments of its constructor.

    A network hands its parts a `FeatureSpec` and a `Template`; these belong to the network and are not recorded.

    Example:
        >>> from kpose.backbones import TinyBackbone
        >>> encode(TinyBackbone(width=8))
        {'class_path': 'kpose.backbones.TinyBackbone', 'init_args': {'width': 8}}
    """

    _arguments: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401
        """Record the arguments of each constructor that a subclass defines."""
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = _recording(cls.__init__)  # type: ignore[method-assign]

    def recorded_arguments(self) -> dict[str, Any]:
        """Return the arguments that build this object again.

        Override it to replace those that name files or models elsewhere, where what they hold is saved by other
        means.

        Returns:
            Arguments by name, defaults included.
        """
        return dict(self.__dict__.get("_arguments", {}))  # no class of it has a constructor of its own


def encode(value: Any) -> Any:  # noqa: ANN401 - whatever a constructor takes
    """Describe a value in plain values that JSON can hold.

    Args:
        value: A plain value, a `Recorded` object, an instance of a data class, an enumeration's member, a path, a
            class or function of a module, a `functools.partial` of one with keywords only, or a tuple, list or
            dictionary of such values.

    Returns:
        Plain values; `build` gives the value back.

    Raises:
        TypeError: If it holds anything else; one line says what to give instead.

    Example:
        >>> import functools
        >>> from kpose.heads import KeypointHead
        >>> encode(functools.partial(KeypointHead, num_keypoints=8))
        {'factory': 'kpose.heads.KeypointHead', 'init_args': {'num_keypoints': 8}}
    """
    if isinstance(value, Enum):
        return encode(value.value)
    if type(value) in _PLAIN:
        return value
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, Recorded):
        return _description(OBJECT, type(value), _encoded_arguments(value))
    if is_dataclass(value) and not isinstance(value, type):
        return _description(OBJECT, type(value), {f.name: encode(getattr(value, f.name)) for f in fields(value)})
    if isinstance(value, functools.partial) and (kind := _made_by(value)) is not None:
        return _description(FACTORY, kind, {name: encode(v) for name, v in value.keywords.items()})
    if inspect.isroutine(value) or isinstance(value, type):
        return _description(FACTORY, value, {})
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return {TUPLE: [encode(v) for v in value]}
    if isinstance(value, list):
        return [encode(v) for v in value]
    if isinstance(value, Mapping) and all(isinstance(k, str) and k not in _MARKERS for k in value):
        return {k: encode(v) for k, v in value.items()}
    raise TypeError(
        f"A recipe needs plain values, classes, functools.partial and kpose's own parts; got {value!r:.80}. "
        "Give one of these."
    )


def encode_factory(part: Recorded) -> dict[str, Any]:
    """Describe what builds a part from a `FeatureSpec` and a `Template`, read off the part that it built.

    Args:
        part: Part of a network, built by a class, a `functools.partial` or any other callable.

    Returns:
        Plain values; `build` gives a class or a `functools.partial`.

    Raises:
        TypeError: If an argument of the part cannot be described.

    Example:
        >>> from kpose.heads import QuaternionHead
        >>> from kpose.templates import bird
        >>> factory = lambda spec, template: QuaternionHead(spec, template, width=8)
        >>> head = factory(FeatureSpec((8, 8), (4, 8)), bird())
        >>> encode_factory(head)["init_args"]["width"]
        8
    """
    return _description(FACTORY, type(part), _encoded_arguments(part))


def build(recipe: Any, *, trusted_modules: Sequence[str] = ()) -> Any:  # noqa: ANN401
    """Build what `encode` or `encode_factory` described.

    Args:
        recipe: Plain values.
        trusted_modules: Modules and packages beside kpose whose classes may be imported, which runs their code.

    Returns:
        The value; a class or `functools.partial` for a factory.

    Raises:
        ValueError: If a class is not trusted or not there, or refuses its arguments; one line says why.

    Example:
        >>> build({"class_path": "kpose.backbones.TinyBackbone", "init_args": {"width": 8}}).spec.channels
        (8, 16, 32, 64)
    """
    trusted = (*_OWN_PACKAGES, *trusted_modules)

    def decode(value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, list):
            return [decode(v) for v in value]
        if not isinstance(value, Mapping):
            return value
        if TUPLE in value:
            return tuple(decode(v) for v in value[TUPLE])
        if OBJECT not in value and FACTORY not in value:
            return {k: decode(v) for k, v in value.items()}
        kind = _imported(value.get(OBJECT, value.get(FACTORY)), trusted)
        arguments = {k: decode(v) for k, v in value.get(ARGUMENTS, {}).items()}
        if FACTORY in value:
            return functools.partial(kind, **arguments) if arguments else kind
        return kind(**arguments)

    try:
        return decode(recipe)
    except (ImportError, AttributeError, TypeError, LookupError, RuntimeError, RecursionError, OSError) as error:
        raise ValueError(f"A part of the network cannot be built: {one_line(error)[:300]}") from error


def _recording(init: _Init) -> _Init:
    """Wrap a constructor; the outermost one of an object, which its caller has called, is recorded."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def recording(self: Recorded, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        if "_arguments" not in self.__dict__:
            object.__setattr__(self, "_arguments", _bound(signature, self, args, kwargs))  # not torch's own
        init(self, *args, **kwargs)

    return recording  # type: ignore[return-value]


def _bound(signature: inspect.Signature, *call: Any) -> dict[str, Any]:  # noqa: ANN401
    self, args, kwargs = call
    try:
        bound = signature.bind(self, *args, **kwargs)
    except TypeError:  # the constructor itself says what is wrong
        return {}
    bound.apply_defaults()
    _, *names = signature.parameters
    found: dict[str, Any] = {}
    for name in names:
        value, kind = bound.arguments[name], signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            found |= value
        elif kind is inspect.Parameter.VAR_POSITIONAL:
            value = tuple(v for v in value if not isinstance(v, FeatureSpec | Template))
            found |= {name: value} if value else {}
        elif not isinstance(value, FeatureSpec | Template):
            found[name] = value
    return found


def _encoded_arguments(part: Recorded) -> dict[str, Any]:
    found = {}
    for name, value in part.recorded_arguments().items():
        built = getattr(part, name, None)
        if callable(value) and not isinstance(value, Recorded) and isinstance(built, Recorded):
            found[name] = encode_factory(built)  # any callable: what it has built knows how
            continue
        try:
            found[name] = encode(value)
        except TypeError as error:
            raise TypeError(f"{type(part).__name__}({name}=...): {error}") from error
    return found


def _made_by(factory: functools.partial[Any]) -> Any:  # noqa: ANN401
    """Return what a partial calls; None where it has positional arguments."""
    if getattr(factory.func, "__module__", "").startswith("jsonargparse"):  # it calls the class that comes last
        return factory.args[-1]
    return None if factory.args else factory.func


def _description(marker: str, kind: Any, arguments: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    return {marker: _path(kind), **({ARGUMENTS: arguments} if arguments else {})}


def _path(kind: Any) -> str:  # noqa: ANN401
    """Name a class or function by the package face that exports it, else by its own module."""
    module, name = getattr(kind, "__module__", None), getattr(kind, "__qualname__", "")
    if module is None or "<" in name:
        raise TypeError(
            f"A recipe needs classes and functions of a module's top level; got {kind!r:.80}. Move it there, or "
            "give "
            "a functools.partial."
        )
    package = ".".join(module.split(".")[:2])
    if package in _OWN_PACKAGES and getattr(sys.modules.get(package), name, None) is kind:
        module = package
    return f"{module}.{name}"


def _imported(path: object, trusted: Sequence[str]) -> Any:  # noqa: ANN401
    """Import a class from a trusted module, and nothing else."""
    module, _, name = str(path).rpartition(".")
    if module == "__main__" and "__main__" not in trusted:
        raise ValueError(
            f"{path} was defined in the script or notebook that trained it. Move {name} into a module, import it "
            "from "
            "there and train again; or define it again and load with trusted_modules=('__main__',)."
        )
    found: object = None
    if _is_within(module, trusted):
        found = getattr(importlib.import_module(module), name)
    # A trusted module holds names of others as well, such as `torch`.
    if not isinstance(found, type) or not _is_within(found.__module__, trusted):
        raise ValueError(
            f"{path} is no class of kpose, and importing it runs its module. If you trust it, name the module in "
            "trusted_modules (--trust MODULE on the command line)."
        )
    return found


def _is_within(module: str, packages: Sequence[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
