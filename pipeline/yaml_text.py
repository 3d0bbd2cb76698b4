"""YAML as all of Fanfold reads and writes it: bounded, without surprises, and nothing in it is executed.

Numbers such as 1e-3 are numbers, dates are text, and a key that is given twice is an error. A text whose aliases refer
to themselves, or stand for more than it should hold, is refused.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml

LENGTH = 200_000  # characters of a text
NODES = 20_000  # of a text, with all aliases written out
DEPTH = 50


YAMLError = yaml.YAMLError


class _Loader(yaml.SafeLoader):
    _above = 0  # nodes that hold the present one

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        # As soon as it is too deep: PyYAML takes a time for each level that grows with their number.
        if self._above > DEPTH:
            raise YAMLError("it is nested too deeply")
        self._above += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._above -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set[str]()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and not key.tag.endswith("merge"):
                if key.value in seen:
                    raise YAMLError(f"the key {key.value} is given twice")
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_NUMBERS = {  # as YAML 1.2 writes them; YAML 1.1 reads 1e-3 as text, 12:30 as 750 and 010 as 8
    "int": r"[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F_]+",
    "float": (
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
    ),
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":int", ":float"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Dumper(yaml.SafeDumper):
    """Quotes a text that `load` would take for a number."""


for _kind, _pattern in _NUMBERS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_kind}", re.compile(f"(?:{_pattern})$"), list("-+0123456789.")
        )


def dump(value: Any) -> str:
    """Plain values as a YAML text, in their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def load(text: str) -> Any:
    """The content of a YAML text.

    Raises:
        YAMLError: It isn't YAML, holds a key twice, or is larger than a configuration can be.
    """
    if len(text) > LENGTH:
        raise YAMLError(f"it has more than {LENGTH:,} characters")
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node)
        return loader.construct_document(node)
    except RecursionError:
        raise YAMLError("it is nested too deeply") from None
    except (ValueError, OverflowError) as error:  # of a number's text
        raise YAMLError(str(error)) from error
    except (LookupError, TypeError, AttributeError) as error:  # of PyYAML's own, as for `!!bool x`
        raise YAMLError("a value is not of the type that its tag says") from error
    finally:
        loader.dispose()


def _check_size(root: yaml.Node) -> None:
    """Raise YAMLError where a node holds itself, is nested too deeply, or holds too many others."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node, above: tuple[int, ...]) -> int:
        if id(node) in above:
            raise YAMLError("an alias refers to itself")
        if len(above) > DEPTH:
            raise YAMLError("it is nested too deeply")
        if id(node) not in sizes:
            sizes[id(node)] = 1 + sum(size(part, (*above, id(node))) for part in _parts(node))
        if sizes[id(node)] > NODES:
            raise YAMLError(f"it holds more than {NODES:,} values, with its aliases written out")
        return sizes[id(node)]

    size(root, ())


def _parts(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value
