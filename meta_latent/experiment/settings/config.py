"""Configuration: YAML files and `key=value` overrides, checked strictly against frozen dataclasses.

OmegaConf reads the YAML, merges the sources and resolves `${...}`; `structure.py` turns the result into the
dataclasses.
"""

import copy
import functools
import io
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException, UnsupportedValueType

import meta_latent
from meta_latent import files
from meta_latent.errors import UserError
from meta_latent.experiment.settings import extensions, structure, type_hints

Schema = TypeVar("Schema")
BASE = "from"
"""In a group's mapping, the file to start from: `model: {from: keypoints_rssm, latent_size: 20}`."""

Override = str | tuple[str, Any]
"""`key=value`, or a key and its value."""

_DEEPEST = 50
"""Levels of a YAML; the parser's own recursion ends the process at some ten thousands."""
_REFERENCE = re.compile(r"\$\{(\w[\w.+-]*)\}")
"""`${a.b}`, the value of another key."""
_SUITE = re.compile("[a-z0-9_-]+/[a-z0-9_-]+")
"""The name of a task distribution, which packages that are not imported yet may know."""
_COMMAND_LINE, _PAIR = "the command line", "a given key and value"


def load(schema: type[Schema], sources: Sequence[Mapping | Path | str], overrides: Sequence[Override] = ()) -> Schema:
    """An instance of the frozen dataclass `schema` from its defaults, then `sources` in order, then
    `overrides`.

    sources: nested dicts or YAML paths; later ones win, mappings merge, lists replace.
    overrides: "a.b=1" with YAML values, or ("a.b", 1); "targets.0.seed=1" reaches into a list.
    To replace a mapping rather than add to it, empty it first: "targets={}" "targets.mine.suite=toy/lqr"; an
    empty mapping in a source does the same. null leaves out one entry that is there before: "targets.mine=null".
    Where the schema has a dataclass or mapping, a string names a file of that group: `model: small` is
    configs/model/small.yaml, replacing what was there; overrides that choose a file apply before deeper ones.
    Items of a list or mapping are of the group that it is called after: `algorithms: [sac, ivg]` reads
    configs/algorithm/sac.yaml and configs/algorithm/ivg.yaml.
    Modules that a key `imports` names are imported. Raises `UserError` (one line) naming key and origin for
    an unknown key (with the nearest valid one), a value of the wrong type or out of range, a missing value or
    file.
    """
    return load_with_origins(schema, sources, overrides)[0]


def load_with_origins(
    schema: type[Schema], sources: Sequence[Mapping | Path | str], overrides: Sequence[Override] = ()
) -> tuple[Schema, structure.Origin]:
    """See `load`; also a function that says where the value at a dotted key came from."""
    resolved, origin = merged(schema, sources, overrides)
    if isinstance(imports := resolved.get("imports"), list) and imports:
        extensions.import_packages(map(str, imports))
        # Once more: what was imported may have registered the types of keys (`type_hints.Keyed`).
        resolved, origin = merged(schema, sources, overrides)
    return structure.build(schema, resolved, origin), origin


def merged(
    schema: type, sources: Sequence[Mapping | Path | str], overrides: Sequence[Override]
) -> tuple[dict[str, Any], structure.Origin]:
    """The plain settings before they are checked, see `load`, and where each came from."""
    merge = _Merge()
    tree = structure.defaults(schema, {})
    for source in sources:
        origin = "the given values" if isinstance(source, Mapping) else str(source)
        content = dict(source) if isinstance(source, Mapping) else read_yaml(Path(source))
        tree = merge.onto(tree, content, schema, "", origin)
    # Stable: files first, so that `model.latent_size=20 model=small` means the same in either order.
    given = sorted(map(parsed, overrides), key=lambda one: not _names_file(one[1], type_hints.type_at(schema, one[0])))
    for key, value, origin in given:
        tree = merge.override(tree, schema, key, value, origin)
    _check_references(tree, tree, "")
    if _is_plain(tree):
        return copy.deepcopy(tree), merge.origin
    try:
        resolved = OmegaConf.to_container(OmegaConf.create(tree), resolve=True)
    except OmegaConfBaseException as error:
        where = f"{error.full_key}: " if error.full_key else ""
        advice = "; give numbers, text, lists and mappings" if isinstance(error, UnsupportedValueType) else ""
        raise UserError(f"cannot resolve the configuration: {where}{str(error).splitlines()[0]}{advice}") from error
    return resolved, merge.origin


def _is_plain(node: Any) -> bool:
    """Whether OmegaConf, which takes half of the time of loading, would make an equal copy of `node`."""
    if type(node) is dict:
        return all(type(name) is str and _is_plain(item) for name, item in node.items())
    if type(node) is list:
        return all(map(_is_plain, node))
    return node is None or type(node) in (bool, int, float) or (type(node) is str and "${" not in node)


def _check_references(node: Any, tree: Mapping, key: str) -> None:
    """Raise UserError for a `${...}` that is not the name of a key, or names one whose value holds another: what
    resolves them would read the environment, and a few lines could make more values than any memory holds.
    """
    if isinstance(node, Mapping):
        for name, item in node.items():
            _check_references(item, tree, _join(key, name))
    elif isinstance(node, list | tuple):
        for place, item in enumerate(node):
            _check_references(item, tree, _join(key, place))
    elif isinstance(node, str) and "${" in node:
        names = _REFERENCE.findall(node)
        if len(names) != node.count("${"):
            raise UserError(f"{key}={node}: ${{...}} takes the name of another key, as ${{seed}}, and nothing else")
        for name in names:
            if "${" in str(_value_at(tree, name)):
                raise UserError(f"{key}={node}: the value of {name} holds a ${{...}} itself; name what that names")


def _value_at(tree: Any, key: str) -> Any:
    """The value at a dotted key; None where there is none."""
    for name in key.split("."):
        if isinstance(tree, list | tuple) and name.isdecimal() and int(name) < len(tree):
            tree = tree[int(name)]
        else:
            tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree


def find(group: str, name: str) -> Path:
    """Path of the YAML file `name` of `group` ("experiment", "model", ...).

    Looks into ./configs/, then into the configs that came with the package. A path that ends in .yaml is
    taken as it is.
    Raises `UserError` naming the nearest choices.
    """
    name = files.expanded(name)
    if name.endswith((".yaml", ".yml")) and (path := Path(name)).is_file():
        return path
    for root in _roots():
        path = root / group / f"{name}.yaml"
        if path.is_file():
            return path
    if name.endswith((".yaml", ".yml")):
        raise UserError(f"there is no file {name}")
    if group == "experiment" and Path(name).is_dir():
        raise UserError(f"{name} holds no experiment.yaml: give the folder runs/NAME of an experiment, or the name or "
                        "the YAML that it was started with")  # fmt: skip
    if group == "experiment" and os.sep in name:
        beside = [path.parent.name for path in Path(name).parent.glob("[!.]*/*.*")
                  if path.name in ("experiment.yaml", "run.json")]  # fmt: skip
        hint = structure.nearest(Path(name).name, beside) if len(beside) <= 100 else ""
        raise UserError(f"there is no folder of runs {name}, nor an experiment of this name{hint}")
    raise UserError(f"there is no configs/{group}/{name}.yaml{structure.nearest(name, choices(group))}")


def choices(group: str) -> list[str]:
    """Names of the YAML files of `group`, sorted."""
    return sorted(
        {
            str(path.relative_to(root / group).with_suffix(""))
            for root in _roots()
            for path in (root / group).rglob("*.yaml")
        }
    )


def to_dict(instance: Any) -> dict[str, Any]:
    """Nested plain dict of a config instance (tuples become lists, paths strings), fit for YAML and JSON."""
    return structure.plain(instance)


def to_yaml(instance: Any) -> str:
    """YAML text of a config instance; `load(type(instance), [path_of_it])` gives the same instance back."""
    return OmegaConf.to_yaml(OmegaConf.create(to_dict(instance)))


class _Merge:
    """Merges sources and remembers where each value came from."""

    def __init__(self) -> None:
        self._origins: dict[str, str] = {}  # of single values, lists and empty mappings
        self._place = _COMMAND_LINE  # where the present override came from

    def origin(self, key: str) -> str:
        """Where the value at the dotted `key` came from: of a mapping, all places that gave it something."""
        inside = [place for name, place in self._origins.items() if _is_within(name, key)]
        while not inside and key:
            key = key.rpartition(".")[0]
            inside = [self._origins[key]] if key in self._origins else []
        return " and ".join(dict.fromkeys(inside)) or structure.DEFAULTS

    def onto(self, base: Any, value: Any, expected: Any, key: str, origin: str) -> Any:
        """`value` merged onto `base`, after the files it names were read; neither is changed."""
        if hasattr(value, "tolist"):  # a number or an array of NumPy or PyTorch
            value = value.tolist()
        if _names_file(value, expected):
            return self._file(value, expected, key)
        empties = isinstance(value, Mapping) and not value and type_hints.is_open_mapping(expected)
        if empties or not isinstance(value, Mapping):
            self._forget(key)
            self._origins[key] = origin
        if isinstance(value, list | tuple | range):
            return [
                self.onto(None, v, type_hints.type_of(expected, str(i)), _join(key, i), origin)
                for i, v in enumerate(value)
            ]
        if not isinstance(value, Mapping):
            return value
        value = dict(value)
        if empties:
            return {}
        if type_hints.holds_mapping(expected) and isinstance(value.get(BASE), str):
            base = self._file(value.pop(BASE), expected, key)
        if not isinstance(base, Mapping) or structure.kind_changes(expected, base, value):
            self._forget(key)
            base = structure.defaults(expected, value)
        result = dict(base)
        for name, item in value.items():
            inner = type_hints.type_of(expected, str(name))
            if item is None and type_hints.is_entry(expected, inner):
                result = self._without(result, str(name), key, origin)
            else:
                result[str(name)] = self.onto(result.get(str(name)), item, inner, _join(key, name), origin)
        return result

    def _without(self, base: Mapping, name: str, key: str, origin: str) -> dict[str, Any]:
        """The mapping `base` at `key` without its entry `name`. UserError: there is none."""
        where = _join(key, name)
        if name not in base:
            there = structure.nearest(name, map(str, base)) or f"; {key} is empty"
            raise UserError(
                f"{where}=null (in {origin}) leaves out an entry that is not there{there}; "
                "for one that changes nothing, write {}"
            )
        self._forget(where)
        return {given: item for given, item in base.items() if given != name}

    def override(self, tree: Any, schema: Any, key: str, value: Any, origin: str) -> dict[str, Any]:
        """`tree` with the value at the dotted `key` replaced (mappings merge)."""
        self._place = origin
        head, _, rest = key.partition(".")
        return self._override(tree, schema, "", head, rest, value)

    def _override(self, node: Any, expected: Any, above: str, head: str, rest: str, value: Any) -> Any:
        key, inner = _join(above, head), type_hints.type_of(expected, head)
        is_item = isinstance(node, list) and head.isdigit() and int(head) < len(node)
        if isinstance(node, list) and not is_item:
            raise UserError(
                f"override {_join(key, rest)}: {above} has {len(node)} items, so {head!r} is not one of them"
            )
        old = node[int(head)] if is_item else (node.get(head) if isinstance(node, Mapping) else None)
        if rest:
            next_head, _, next_rest = rest.partition(".")
            old = structure.defaults(inner, {}) if old is None else old
            if not isinstance(old, Mapping | list):
                raise UserError(f"override {_join(key, rest)}: {key} is the single value {old!r} and has no keys")
            new = self._override(old, inner, key, next_head, next_rest, value)
        elif value is None and type_hints.is_entry(expected, inner):
            return self._without(node or {}, head, above, self._place)
        else:
            new = self.onto(old, value, inner, key, self._place)
        if is_item:
            return [*node[: int(head)], new, *node[int(head) + 1 :]]
        return {**node, head: new}

    def _forget(self, key: str) -> None:
        """What stands at `key` is replaced: where it came from no longer counts."""
        self._origins = {name: place for name, place in self._origins.items() if not _is_within(name, key)}

    def _file(self, name: str, expected: Any, key: str) -> Any:
        try:
            path = find(_group(key), name)
        except UserError as error:
            if not _SUITE.fullmatch(name) or type_hints.type_of(expected, "suite") is not str:
                raise
            # By its form: nothing that knows the name need be imported yet.
            raise UserError(f"{key}={name}: expected a mapping such as {{suite: {name}}}") from error
        return self.onto(None, read_yaml(path), expected, key, str(path))


def _group(key: str) -> str:
    """Group of the files that strings at `key` name: `algorithms.0` and `algorithms.x` are of `algorithm`."""
    names = [name for name in reversed(key.split(".")) if not name.isdigit()]
    for name in names:
        for group in (name, name.removesuffix("s")):
            if any((root / group).is_dir() for root in _roots()):
                return group
    return names[0] if names else key


def _names_file(value: Any, expected: Any) -> bool:
    return isinstance(value, str) and not value.startswith("${") and type_hints.holds_mapping(expected)


def parsed(override: Override) -> tuple[str, Any, str]:
    """Key, value and origin of an override, a pair or text. Raises UserError, see `parse_override`."""
    if isinstance(override, tuple) and len(override) == 2:
        return (*override, _PAIR)
    return (*parse_override(override), _COMMAND_LINE)


def parse_override(override: str) -> tuple[str, Any]:
    """Key and typed value of "key=value", whose value is YAML, but for comments: `out=/a #b` is a path with
    a space. Raises UserError if it is not that.
    """
    if not isinstance(override, str):
        raise UserError(f"override {override!r} is not text of the form key=value, such as 'seed=1'; of several each "
                        "is an argument of its own")  # fmt: skip
    key, equals, text = override.partition("=")
    if not equals or not all(key.strip().split(".")):
        raise UserError(f"override {override!r} is not of the form key=value")
    try:
        value = copy.deepcopy(_value_of(text))
    except (OmegaConfBaseException, yaml.YAMLError, ValueError, RecursionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"override {override!r}: the value is not valid YAML ({reason})") from error
    return key.strip(), value


@functools.lru_cache(maxsize=1024)
def _value_of(text: str) -> Any:
    """The value of an override; not to be changed, as it is kept: cells and sweeps parse the same ones again."""
    if _has_comment(text):
        return text.strip()
    return OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))["value"]


def _has_comment(text: str) -> bool:
    """Whether YAML takes the end of a single unquoted value for a comment. YAMLError: of anything else."""
    node = yaml.compose(text, yaml.SafeLoader)
    if node is None:
        return bool(text.strip())
    rest = text[node.end_mark.index :].strip()
    if rest.startswith("#") and not (isinstance(node, yaml.ScalarNode) and node.style is None):
        raise yaml.YAMLError(f"what is {rest!r} after its end?")
    return rest.startswith("#")


def read_yaml(path: Path) -> dict[str, Any]:
    """Content of a YAML file that holds a mapping. Raises `UserError` naming the file if it is unreadable."""
    try:
        text = files.read_bytes(path).decode()
        content = copy.deepcopy(_content_of(text))
    except FileNotFoundError as error:
        raise UserError(f"there is no configuration file {path}") from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"cannot read {path}: {reason}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} should hold a mapping of keys to values, got {type(content).__name__}")
    return content


@functools.lru_cache(maxsize=64)
def _content_of(text: str) -> Any:
    """What a YAML holds; not to be changed, as it is kept: cells and sweeps read the same files again."""
    _check_depth(text)
    return OmegaConf.to_container(OmegaConf.load(io.StringIO(text)))


def _check_depth(text: str) -> None:
    """Raise ValueError if a YAML is nested deeper than any settings are; by its events, which need no recursion."""
    depth = 0
    for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} levels deep")


def _roots() -> tuple[Path, ...]:
    package = Path(meta_latent.__file__).resolve().parent
    # Installed wheels carry the configs inside the package; in a source checkout they lie beside it.
    return Path("configs"), package / "configs", package.parent / "configs"


def _is_within(name: str, key: str) -> bool:
    return not key or name == key or name.startswith(f"{key}.")


def _join(key: str, name: object) -> str:
    return f"{key}.{name}".strip(".")
