"""Strict configuration: merging, group files, overrides; errors name key, origin and nearest choice."""

import dataclasses
import pickle
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

import meta_latent
from meta_latent import cli
from meta_latent.errors import UserError, UserErrors
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.types import Spec


@dataclass(frozen=True)
class Encoder:
    """A nested group."""

    kind: Literal["conv", "keypoints"] = "conv"
    channels: tuple[int, ...] = (8, 16)


@dataclass(frozen=True)
class Model:
    """A group."""

    latent_size: int = 10
    rate: float = 1e-3
    encoder: Encoder = Encoder()


@dataclass(frozen=True)
class Distractor:
    """An item of lists and mappings."""

    name: str
    intensity: float = 0.5

    def __post_init__(self):
        if not 0 <= self.intensity <= 1:
            raise ValueError(f"intensity {self.intensity} is not within 0 and 1")


@dataclass(frozen=True)
class Sac:
    """One of two algorithms."""

    kind: Literal["sac"] = "sac"
    entropy: float = 0.1


@dataclass(frozen=True)
class Planner:
    """The other."""

    kind: Literal["planner"] = "planner"
    horizon: int = 5


@dataclass(frozen=True)
class Chain:
    """A group that may hold another of its kind."""

    links: int = 0
    more: "Chain | None" = None


@dataclass(frozen=True)
class Chains:
    """Groups of the same keys, and another key of that name within one alone."""

    first: Model = Model()
    second: Model = Model()
    third: Model = Model()
    chain: Chain = Chain()


@dataclass(frozen=True)
class Experiment:
    """The schema of these tests."""

    name: str
    seed: int = 0
    model: Model = Model()
    out: Path = Path("runs")
    device: Literal["cpu", "cuda"] = "cpu"
    resume: bool = True
    budget: int | None = None
    limit: float | Literal["auto"] = "auto"
    window: tuple[int, float] = (1, 2.0)
    distractors: list[Distractor] = field(default_factory=list)
    targets: dict[str, Distractor] = field(default_factory=dict)
    algorithm: Sac | Planner = Sac()
    options: dict[str, Any] = field(default_factory=dict)


def load(*overrides, **values):
    return config.load(Experiment, [{"name": "x", **values}], list(overrides))


def message(*overrides, **values):
    with pytest.raises(UserError) as caught:
        load(*overrides, **values)
    assert "\n" not in str(caught.value) or isinstance(caught.value, UserErrors)
    return str(caught.value)


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """A working folder with group files."""
    monkeypatch.chdir(tmp_path)
    for path, text in {
        "model/small.yaml": "latent_size: 3\nrate: 1e-2\nencoder: points\n",
        "model/large.yaml": "latent_size: 99\n",
        "encoder/points.yaml": "kind: keypoints\n",
        "experiment/push.yaml": "name: push\nmodel: small\nseed: 7\ntargets:\n  red: {name: color}\n",
        "experiment/typo.yaml": "name: push\nmodell: small\n",
        "experiment/deep.yaml": "name: push\nmodel: {from: small, latent_size: 4}\n",
        "experiment/broken.yaml": "name: [\n",
        "experiment/list.yaml": "- 1\n",
        "targets/both.yaml": "red: {name: color}\nblue: {name: noise, intensity: 1}\n",
    }.items():
        (tmp_path / "configs" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "configs" / path).write_text(text)
    return tmp_path


def test_defaults_and_conversions():
    made = load(
        "seed=3",
        "model.rate=1",
        "model.latent_size=1e2",
        "window=[3,4]",
        "out=/tmp/x",
        "budget=5",
        "distractors=[{name: a},{name: b, intensity: 1}]",
        "targets.red.name=color",
        "limit=3",
        "options.a.b=[1,x]",
        "model.encoder.channels=[]",
    )
    assert made == Experiment(
        "x",
        3,
        Model(100, 1.0, Encoder(channels=())),
        Path("/tmp/x"),
        budget=5,
        limit=3.0,
        window=(3, 4.0),
        distractors=[Distractor("a"), Distractor("b", 1.0)],
        targets={"red": Distractor("color")},
        options={"a": {"b": [1, "x"]}},
    )
    types = [type(v) for v in (made.model.rate, made.model.latent_size, made.window[1], made.limit)]
    assert types == [float, int, float, float]


def test_later_sources_win_and_mappings_merge():
    made = config.load(Experiment, [{"name": "a", "model": {"latent_size": 1}}, {"name": "b", "model": {"rate": 2}}])
    assert (made.name, made.model.latent_size, made.model.rate) == ("b", 1, 2.0)


def test_exponents_without_a_dot_are_numbers(groups):
    assert config.load(Experiment, [config.find("experiment", "push")]).model.rate == 0.01
    assert load("model.rate=1e-5").model.rate == 1e-5


@dataclass(frozen=True)
class Tuned:
    """A schema whose defaults differ from the defaults of its parts."""

    model: Model = field(default_factory=lambda: Model(latent_size=77, encoder=Encoder("keypoints")))
    budgets: dict[str, int] = field(default_factory=lambda: {"default": 3000})
    models: dict[str, Model] = field(default_factory=dict)
    maybe: Model | None = None
    algorithm: Sac | Planner = Planner(horizon=9)
    copied: int = 0
    imports: tuple[str, ...] = ()


def test_changing_one_value_keeps_the_schemas_own_defaults_beside_it(groups):
    assert config.load(Tuned, []) == Tuned()
    assert config.load(Tuned, [{"model": {"rate": 1}}]).model == Model(77, 1.0, Encoder("keypoints"))
    assert config.load(Tuned, [], ["model.encoder.channels=[]"]).model.encoder == Encoder("keypoints", ())
    assert config.load(Tuned, [], ["budgets.sac=5"]).budgets == {"default": 3000, "sac": 5}
    assert config.load(Tuned, [], ["model=large"]).model == Model(99)
    assert config.load(Tuned, [], ["models.a.rate=1"]).models == {"a": Model(rate=1.0)}
    assert config.load(Tuned, [], ["maybe.rate=1"]).maybe == Model(rate=1.0)
    assert config.load(Tuned, [], ["copied=${model.latent_size}"]).copied == 77


def test_another_kind_starts_from_its_own_defaults():
    assert config.load(Tuned, [], ["algorithm.horizon=3"]).algorithm == Planner(horizon=3)
    assert config.load(Tuned, [{"algorithm": {"kind": "sac"}}]).algorithm == Sac()
    assert config.load(Tuned, [], ["algorithm={kind: sac, entropy: 2}"]).algorithm == Sac(entropy=2.0)


def test_imports_of_a_yaml_are_imported(groups, monkeypatch):
    (groups / "registered_by_yaml.py").write_text("import sys; sys.registered_by_yaml = True")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "registered_by_yaml", False, raising=False)
    config.load(Tuned, [{"imports": ["registered_by_yaml"]}])
    assert sys.registered_by_yaml
    with pytest.raises(UserError, match="'no_such_module'"):
        config.load(Tuned, [{"imports": ["no_such_module"]}])


def test_items_are_of_the_group_their_list_is_called_after(groups):
    (groups / "configs/distractor").mkdir()
    (groups / "configs/distractor/lights.yaml").write_text("name: light\nintensity: 1\n")
    lights = Distractor("light", 1.0)
    assert load("distractors=[lights,{name: a}]").distractors == [lights, Distractor("a")]
    assert "configs/distractor/light.yaml; did you mean 'lights'?" in message("distractors=[light]")


def test_interpolation_and_null():
    assert load("budget=${seed}", "seed=4").budget == 4
    assert load("budget=null", budget=3).budget is None
    assert "no_such" in message("budget=${no_such}")


def test_group_names_read_files(groups):
    made = config.load(Experiment, [config.find("experiment", "push")])
    assert made.model == Model(3, 0.01, Encoder("keypoints"))
    assert made.targets == {"red": Distractor("color")}
    assert config.load(Experiment, [config.find("experiment", "deep")]).model == Model(4, 0.01, Encoder("keypoints"))
    assert set(load("targets=both").targets) == {"red", "blue"}


@pytest.mark.parametrize("order", [1, -1])
def test_a_file_replaces_the_group_and_deeper_overrides_apply_after_it(groups, order):
    overrides = ["model.rate=5", "model=large"][::order]
    made = config.load(Experiment, [config.find("experiment", "push")], overrides)
    assert made.model == Model(99, 5.0)  # nothing of small.yaml is left


def test_overrides_reach_into_lists():
    items = [{"name": "a"}, {"name": "b"}]
    assert load("distractors.1.intensity=1", distractors=items).distractors[1] == Distractor("b", 1.0)
    assert "has 2 items" in message("distractors.2.intensity=1", distractors=items)


def test_a_key_that_stands_deeper_is_named():
    for key, said in (("rate", "'first.rate', 'second.rate', 'third.rate'?"),
                      ("links", "'chain.links', 'chain.more.links', 'chain.more.more.links' or 4 more?"),
                      ("kind", "'first.encoder.kind', 'second.encoder.kind', 'third.encoder.kind'?"),
                      ("frist", "'first'?")):  # fmt: skip
        with pytest.raises(UserError) as caught:
            config.load(Chains, [{key: 3}])
        assert str(caught.value).endswith(f"did you mean {said}")
    with pytest.raises(UserError, match="unknown key 'first.kind' .*; choose from"):  # at the top alone
        config.load(Chains, [{"first": {"kind": 3}}])


def test_unions_of_dataclasses_are_chosen_by_their_kind():
    assert load(algorithm={"kind": "planner", "horizon": 9}).algorithm == Planner(horizon=9)
    assert "'horizn'" not in message(algorithm={"kind": "planner", "horizn": 9}).split("did you mean")[1]
    assert "algorithm.kind='plannr'" in message(algorithm={"kind": "plannr"})


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("sede=1", ["'sede'", "the command line", "'seed'"]),
        ("model.latentsize=1", ["'model.latentsize'", "'model.latent_size'"]),
        ("targets.red.intensty=1", ["'targets.red.intensty'", "'targets.red.intensity'"]),
        ("zzz=1", ["'zzz'", "choose from", "model"]),
        ("seed=1.5", ["seed=1.5", "int"]),
        ("seed=a", ["seed='a'", "int"]),
        ("seed=true", ["seed=True", "int"]),
        ("seed=null", ["seed=None", "int"]),
        ("seed=.inf", ["seed=inf", "int"]),
        ("resume=1", ["resume=1", "bool"]),
        ("model.rate=fast", ["model.rate='fast'", "float"]),
        ("model.rate=true", ["model.rate=True", "float"]),
        ("name=3", ["name=3", "str", "quote"]),
        ("device=gpu", ["device='gpu'", "'cpu', 'cuda'"]),
        ("model.encoder.kind=keypoint", ["model.encoder.kind", "did you mean 'keypoints'"]),
        ("limit=automatic", ["limit='automatic'", "float or one of 'auto'"]),
        ("window=[1]", ["window=[1]", "a list of 2: int, float"]),
        ("model.encoder.channels=[1,x]", ["model.encoder.channels.1='x'", "int"]),
        ("model.encoder.channels=3", ["model.encoder.channels=3", "should be a list, each item int, such as [3]"]),
        ("distractors=3", ["distractors=3", "a list, each item a mapping with the keys name"]),
        ("targets.red.intensity=1", ["targets.red.name", "no value"]),
        ("model=3", ["model=3", "latent_size"]),
        ("seed.x=3", ["seed", "single value"]),
        ("seed", ["'seed'", "key=value"]),
        ("=3", ["'=3'", "key=value"]),
        ("seed=[", ["seed=[", "YAML"]),
    ],
)
def test_mistakes_are_named(override, parts):
    text = message(override, seed=0)
    for part in parts:
        assert part in text


def test_errors_name_the_file(groups):
    with pytest.raises(UserError, match=r"'modell' \(in configs/experiment/typo.yaml\); did you mean 'model'"):
        config.load(Experiment, [config.find("experiment", "typo")])
    for name, reason in {"broken": "cannot read.*broken.yaml", "list": "should hold a mapping"}.items():
        with pytest.raises(UserError, match=reason):
            config.load(Experiment, [config.find("experiment", name)])
    with pytest.raises(UserError, match="no configuration file nowhere.yaml"):
        config.load(Experiment, ["nowhere.yaml"])
    assert "configs/model/smal.yaml; did you mean 'small'?" in message("model=smal")


def test_missing_values_and_failed_checks():
    with pytest.raises(UserError, match="name has no value; set it with name="):
        config.load(Experiment, [{}])
    text = message("targets.red={name: a, intensity: 2}")
    assert "targets.red" in text and "the command line" in text and "not within 0 and 1" in text


def test_yaml_round_trip(tmp_path):
    made = load("distractors=[{name: a}]", "budget=3", "model.rate=1e-7", "targets.red.name=b", "options.x=1e3")
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml(made))
    assert config.load(Experiment, [path]) == made
    assert config.to_dict(made)["out"] == "runs" and config.to_dict(made)["window"] == [1, 2.0]


def test_sources_are_not_changed():
    source = {"name": "x", "model": {"rate": 1}, "distractors": [{"name": "a"}]}
    config.load(Experiment, [source], ["model.rate=2", "distractors.0.name=b"])
    assert source == {"name": "x", "model": {"rate": 1}, "distractors": [{"name": "a"}]}


def test_find_takes_paths_names_and_package_configs(groups):
    assert config.find("model", "small") == Path("configs/model/small.yaml")
    assert config.find("model", str(groups / "configs/model/small.yaml")).is_file()
    assert config.choices("model")[:1] and {"large", "small"} <= set(config.choices("model"))


def test_result_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        load().seed = 3


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("out=/a #b", "/a #b"),
        ("out=#b", "#b"),
        ("out='/a #b'", "/a #b"),
        ("out=a#b", "a#b"),
        ("out=a: 'x #b'", {"a": "x #b"}),
        ("out=", None),
        ("out=3 # three", "3 # three"),
    ],
)
def test_a_command_line_has_no_comments(override, value):
    assert config.parse_override(override) == ("out", value)


@pytest.mark.parametrize(
    "override",
    ["out=[1] # one", "out='a' #b", "model.=1", ".model=1", "a..b=1", "x=" + "9" * 5000, "x=" + "[" * 9999],
)
def test_what_is_no_override(override):
    with pytest.raises(UserError, match="^override ") as caught:
        config.parse_override(override)
    assert "\n" not in str(caught.value) or isinstance(caught.value, UserErrors)


def test_an_empty_mapping_replaces_what_was_there():
    first = {"targets": {"red": {"name": "color"}}, "options": {"a": 1}, "name": "x"}
    made = config.load(Experiment, [first], ["targets={}", "targets.blue.name=b"])
    assert made.targets == {"blue": Distractor("b")}
    assert config.load(Experiment, [first, {"targets": {}}]).targets == {}
    assert config.load(Experiment, [first, {"options": {"a": {}}}]).options == {"a": {}}
    assert set(config.load(Experiment, [first], ["targets.blue.name=b"]).targets) == {"red", "blue"}
    assert config.load(Tuned, [], ["budgets={}", "budgets.sac=5"]).budgets == {"sac": 5}
    assert config.load(Tuned, [], ["model={}"]) == Tuned()  # fixed keys cannot be left out


def test_null_leaves_out_one_entry_that_was_there():
    first = {"targets": {"red": {"name": "color"}, "blue": {"name": "b"}}, "options": {"a": 1}, "name": "x"}
    for made in (config.load(Experiment, [first, {"targets": {"red": None}}]),
                 config.load(Experiment, [first], ["targets.red=null"]),
                 config.load(Experiment, [first], [("targets", {"red": None})])):  # fmt: skip
        assert made.targets == {"blue": Distractor("b")}
    again = config.load(Experiment, [first, {"targets": {"red": None}}], ["targets.red.name=r"])
    assert again.targets == {"blue": Distractor("b"), "red": Distractor("r")}
    assert config.load(Experiment, [first], ["options.a=null"]).options == {"a": None}  # where null is a value
    for sources, overrides, where in (([first, {"targets": {"rod": None}}], [], "the given values"),
                                      ([first], ["targets.rod=null"], "the command line")):  # fmt: skip
        text = f"targets.rod=null .in {where}. leaves out an entry that is not there; did you mean 'red'.*write {{}}"
        with pytest.raises(UserError, match=text):
            config.load(Experiment, sources, overrides)
    with pytest.raises(UserError, match="targets.red=null .* is not there; targets is empty"):
        config.load(Experiment, [], ["targets={}", "targets.red=null"])
    with pytest.raises(UserError, match="model=None"):
        config.load(Tuned, [], ["model=null"])  # a fixed key


@dataclass(frozen=True)
class Pair:
    """Two settings that constrain each other."""

    low: int = 0
    high: int = 10
    names: dict[str, int] = field(default_factory=dict)

    def __post_init__(self):
        if self.low > self.high:
            raise ValueError(f"low={self.low} is above high={self.high}")
        if "bad" in self.names:
            raise ValueError("names has 'bad'")


@dataclass(frozen=True)
class Pairs:
    """Where they stand."""

    pair: Pair = Pair()


@pytest.mark.parametrize(
    ("text", "overrides", "places"),
    [
        ("{low: 5}", ["pair.high=3"], "the file and the command line"),
        ("{low: 50}", ["pair.names.a=3"], "the file and the defaults"),
        ("{names: {a: 1}}", ["pair.low=30"], "the command line and the defaults"),
        ("{low: 5, high: 1}", [], "the file"),
        ("{names: {a: 1}}", ["pair.names.bad=3"], "the file and the command line"),
        ("{low: 5, high: 30}", ["pair={low: 7, high: 2}"], "the command line"),
    ],
)
def test_a_contradiction_is_blamed_on_all_places_it_came_from(tmp_path, text, overrides, places):
    path = tmp_path / "x.yaml"
    path.write_text(f"pair: {text}")
    with pytest.raises(UserError) as caught:
        config.load(Pairs, [path], overrides)
    assert str(caught.value).startswith(f"pair (in {places.replace('the file', str(path))}): ")


@pytest.mark.parametrize("key", ["name", "seed", "transfer.adaptation.scratch.joint"])
def test_what_a_template_leaves_to_be_given_is_asked_for(key):
    with pytest.raises(UserError, match=rf"^(transfer\..*: )?{re.escape(key)} is to be given: \?\?\? \(in the command"):
        config.load(ExperimentConfig, [config.find("experiment", "toy")], [f"{key}=???"])


def test_what_a_replaced_group_said_is_blamed_no_longer(groups):
    (groups / "configs/pair").mkdir()
    (groups / "configs/pair/odd.yaml").write_text("low: 50")
    with pytest.raises(UserError) as caught:
        config.load(Pairs, [{"pair": {"high": 30}}], ["pair=odd"])
    assert str(caught.value) == "pair (in configs/pair/odd.yaml and the defaults): low=50 is above high=10"


@pytest.mark.parametrize("name", sorted(path.stem for path in Path(__file__).parents[2].glob("configs/model/*.yaml")))
def test_every_shipped_model_can_be_built(name):
    chosen = config.load(ExperimentConfig, [config.find("experiment", "toy")], [f"model={name}"]).model
    made = LatentStateModel(Spec({"top": (16, 16, 3)}, 2, 2), chosen)
    assert made.core.memory_size == (3 if chosen.core.kind == "sequential" else 1) * chosen.core.memory


def test_faults_of_every_sort_are_told_at_once(tmp_path, capsys):
    """A key, a value, an arm of all and of one target, budgets, a suite; and nothing that only follows from them."""
    path = tmp_path / "odd.yaml"
    path.write_text(
        "seeed: 1\npretrain: {env_steps: many, on_policy: 0.5, policy_updats: 3, sources: [{suite: toy/lqrr}]}\n"
        "transfer: {arms: [ivg/pretraned, sac/scratch], seeds: [a], budget_env_steps: {sac/scrach: 5},\n"
        "  targets: {t: {suite: toy/lqr, arms: [ivgg/scratch]}}}\n"
    )
    assert cli.main(["transfer", str(path), f"out={tmp_path}"]) == 2
    said = capsys.readouterr().err.splitlines()
    for words in ("'seeed'", "'many'", "'pretrain.policy_updats'", "transfer.seeds.0='a'",
                  "arms: there is no arm 'ivg/pretraned'; did you mean 'ivg/pretrained'?",
                  "targets.t.arms: there is no arm 'ivgg/scratch'; did you mean 'ivg/scratch'?",
                  "budget_env_steps has no 'sac/scrach'; did you mean 'sac/scratch'?",
                  "no task distribution 'toy/lqrr'; did you mean 'toy/lqr'?"):  # fmt: skip
        assert sum(words in line for line in said) == 1, words
    assert len(said) == 8  # not that on_policy needs policy_updates, which are misspelt


def test_what_depends_on_wrong_targets_is_not_told_of_their_defaults(tmp_path):
    with pytest.raises(UserError) as error:
        meta_latent.configure("toy", "transfer.targets.goal.index=-1", "transfer.budget_env_steps.goal=5")
    assert len(getattr(error.value, "faults", [""])) == 1 and "goal.index" in str(error.value)


def test_every_wrong_key_is_named_at_once(capsys):
    given = ["seeed=1", "workers=none", "transfer.seeds=[0, a, -1]", "algorithms.ivg.horizn=3", "pretrain.env_steps=0"]
    with pytest.raises(UserErrors) as error:
        meta_latent.configure("toy", *given)
    lines = error.value.faults
    for words in (
        "'seeed'",
        "workers='none'",
        "transfer.seeds.1='a'",
        "'algorithms.ivg.horizn'",
        "pretrain.env_steps=0",
    ):
        assert sum(words in line for line in lines) == 1, words
    assert str(error.value).splitlines() == list(lines) and len(lines) == 5
    assert cli.main(["pretrain", "toy", *given]) == 2
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines()] == ["meta-latent:"] * 5
    assert pickle.loads(pickle.dumps(error.value)).faults == lines  # on its way from one process to another
    with pytest.raises(UserError) as one:
        meta_latent.configure("toy", given[0])
    assert not isinstance(one.value, UserErrors)
