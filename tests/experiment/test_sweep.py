"""Sweeps: variants and their names, shared pretrainings and runs, what counts as finished, retries, refusals."""

import contextlib
import dataclasses
import errno
import itertools
import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest

import meta_latent
from meta_latent import cli, files
from meta_latent.errors import RunError, UserError
from meta_latent.experiment.learning import cells, sweep, sweep_plan
from meta_latent.experiment.pretraining import pretrain
from meta_latent.experiment.runs import checkpoint, processes, run_folder, scheduler
from meta_latent.experiment.runs.ledger import Ledger
from meta_latent.experiment.runs.processes import Cell
from meta_latent.experiment.runs.scheduler import Event, Policy, run_cells
from meta_latent.experiment.settings import sweep as settings


def load(grid=None, variants=None, overrides=(), **keys):
    section = {"of": "toy", "grid": grid or {}, "variants": variants or {}}
    return settings.load({"name": "s", "sweep": section, **keys}, list(overrides))


def names(found):
    return [variant.name for variant in found[1]]


class TestVariants:
    def test_every_combination_is_an_experiment(self):
        sweep, variants = load({"seed": [0, 1], "algorithms.ivg.horizon": [3, 5]}, out="x")
        assert [v.name for v in variants] == [
            "seed_0,horizon_3",
            "seed_0,horizon_5",
            "seed_1,horizon_3",
            "seed_1,horizon_5",
        ]
        assert [(v.experiment.seed, v.experiment.algorithms["ivg"].horizon) for v in variants] == [
            (0, 3),
            (0, 5),
            (1, 3),
            (1, 5),
        ]
        assert {v.group for v in variants} == {"horizon_3", "horizon_5"}
        assert cells.cell_folder(variants[0].experiment, "goal", "sac/scratch", 4) == Path(
            "x/s/seed_0,horizon_3/transfer/goal/sac/scratch/4"
        )

    def test_the_command_line_may_say_what_is_varied(self):
        sweep, _ = load({"seed": [0, 1]}, overrides=["sweep.of=hidden_goal"])
        assert sweep.sweep.of == "hidden_goal" and "sparse" in sweep.transfer.targets
        with pytest.raises(UserError, match="no configs/experiment/nope.yaml"):
            load(overrides=["sweep.of=nope"])
        with pytest.raises(UserError, match="sweep.of=reuse_models is a sweep itself"):
            load(overrides=["sweep.of=reuse_models"])
        section = {"of": "nope", "grid": {"seed": [0]}}
        given = {"transfer": {"targets": {"sparse": {"tasks": 3}}}, "sweep": section}  # what is there makes it whole
        sweep, _ = settings.load(given, ["transfer.targets.dense.tasks=4", "sweep.of=hidden_goal"])
        assert [target.tasks for target in sweep.transfer.targets.values()] == [3, 4]
        for override in ("sweep={of: toy}", ("sweep.of", "toy")):
            assert load(overrides=[override])[0].sweep.of == "toy"
        assert settings.load({"sweep": {"of": "toy"}}, ["sweep.of=null"])[0].transfer.targets == {}
        for section in (None, 3, [4]):
            with pytest.raises(UserError, match="sweep="):
                settings.load({"sweep": section})

    @pytest.mark.parametrize(("grid", "variant", "clash"), [
        ("seed", {"seed": 5}, True), ("algorithms.ivg.horizon", {"algorithms": {"ivg": {"horizon": 3}}}, True),
        ("transfer.targets", {"transfer.targets.goal": None}, True), ("algorithms.ivg.horizon", {"seed": 5}, False),
        ("algorithms.ivg.horizon", {"algorithms": {"ivg": {"hidden": 3}}}, False),
        ("transfer.targets.goal.tasks", {"transfer.targets.goal": None}, True),
    ])  # fmt: skip
    def test_what_a_variant_and_the_grid_both_set_is_refused(self, grid, variant, clash):
        said = pytest.raises(UserError, match=f"of variant a and {grid} of the grid set the same")
        with said if clash else contextlib.nullcontext():
            load({grid: [{}] if grid == "transfer.targets" else [3, 4]}, {"a": variant})

    def test_a_file_and_what_it_says_may_be_set_by_variant_and_grid(self):
        for grid, variant in (({"model": ["conv_rssm"]}, {"model.head_hidden": 7}),
                              ({"model.head_hidden": [7]}, {"model": "conv_rssm"})):  # fmt: skip
            (variant,) = load(grid, {"a": variant})[1]
            assert variant.experiment.model.head_hidden == 7 and variant.experiment.model.core.kind == "rssm"
        with pytest.raises(UserError, match="model of variant a and model of the grid set the same"):
            load({"model": ["conv_rssm"]}, {"a": {"model": "conv_rssm"}})

    def test_named_variants_are_combined_with_the_grid(self):
        own = {"small": {"model.head_hidden": 8}, "large": {"model": {"head_hidden": 64}}}
        _, variants = load({"seed": [0, 1]}, own)
        assert [(v.name, v.group, v.experiment.model.head_hidden) for v in variants] == [
            ("small,seed_0", "small", 8),
            ("small,seed_1", "small", 8),
            ("large,seed_0", "large", 64),
            ("large,seed_1", "large", 64),
        ]

    def test_variants_that_differ_in_the_seed_alone_are_one_group(self):
        own = {
            "all": {},
            "again": {"seed": 1},
            "few": {"model.head_hidden": 8},
            "few_2": {"model.head_hidden": 8, "seed": 2},
        }
        assert [v.group for v in load(variants=own)[1]] == ["all", "all", "few", "few"]

    def test_nothing_varies(self):
        assert names(load()) == ["base"] and names(load({"seed": [3]})) == ["seed_3"]
        assert load({"seed": [3]})[1][0].group == "base"

    def test_names_of_values_and_keys(self):
        assert names(load({"transfer.arms": [["ivg/scratch"], ["sac/scratch"]]})) == ["arms_no0", "arms_no1"]
        assert names(load({"learner.horizon": [2], "algorithms.ivg.horizon": [3]})) == [
            "learner.horizon_2,ivg.horizon_3"
        ]
        assert names(load({"model.core": [{"memory": 4}], "transfer.video": [True]})) == ["core_no0,video_true"]
        long = names(load({}, {"v" * 99: {}}, ["sweep.grid.seed=[0,1]"]))
        assert len(set(long)) == 2 and all(len(name) <= 100 for name in long)

    def test_the_grid_may_be_nested_and_come_from_the_command_line(self):
        assert names(load({"algorithms": {"ivg": {"horizon": [3, 5]}}})) == ["horizon_3", "horizon_5"]
        assert names(load(overrides=["sweep.grid.algorithms.ivg.horizon=[3,5]"])) == ["horizon_3", "horizon_5"]

    def test_the_grid_wins_over_the_command_line(self):
        _, variants = load({"learner.horizon": [2, 3]}, overrides=["learner.horizon=1"])
        assert [v.experiment.learner.horizon for v in variants] == [2, 3]

    @pytest.mark.parametrize(("grid", "words"), [
        ({"sed": [1]}, ("variant sed_1", "unknown key 'sed'", "seed")),
        ({"algorithms.ivg.horizon": [3, -1]}, ("variant horizon_-1", "horizon=-1")),
        ({"seed": 3}, ("sweep.grid", "a list of at least one value")),
        ({"seed": []}, ("a list of at least one value",)),
        ({"seed": [1, 1]}, ("in the list once",)),
        ({"out": ["a", "b"]}, ("out is of the whole sweep",)),
        ({"sweep.retries": [1]}, ("sweep.retries is of the whole sweep",)),
    ])  # fmt: skip
    def test_mistakes_are_named(self, grid, words):
        with pytest.raises(UserError) as error:
            load(grid)
        assert all(word in str(error.value) for word in words), error.value

    def test_it_may_leave_out_a_target_of_the_experiment_that_it_varies(self):
        _, (variant,) = settings.load("ivg_lift_curves", ["sweep.variants={}"])
        assert list(variant.experiment.transfer.targets) == ["lift_red"]
        assert variant.experiment.algorithms == meta_latent.configure("ivg_lift").algorithms
        with pytest.raises(UserError, match="ivg_lift_curves.yaml is a sweep: meta-latent sweep ivg_lift_curves runs"):
            meta_latent.configure("ivg_lift_curves")

    def test_names_of_variants_are_folders(self):
        with pytest.raises(UserError, match="one folder's name"):
            load({}, {"a/b": {}})


def planned(tmp_path, grid, arms=("ivg/pretrained", "ivg/scratch"), seeds=(0, 1), **more):
    transfer = {"arms": list(arms), "seeds": list(seeds)}
    return sweep_plan.plan(*load(grid, out=str(tmp_path), transfer=transfer, **more))


class TestPlan:
    def test_pretrainings_are_shared_where_their_settings_are_equal(self, tmp_path):
        found = planned(tmp_path, {"seed": [0, 1], "algorithms.ivg.horizon": [3, 5], "learner.horizon": [2, 3]})
        own = [one for one in found if one.kind == sweep_plan.PRETRAINING]
        assert len(own) == 4 and len({one.experiment.name for one in own}) == 2  # a folder per learner.horizon
        assert {one.folder.name for one in own} == {"0", "1"}
        waits = {one.cell.after for one in found if "/ivg/pretrained/" in one.cell.name}
        assert waits == {(one.cell.name,) for one in own}

    def test_the_source_policy_makes_ivgs_settings_part_of_pretraining(self, tmp_path):
        more = {"pretrain": {"policy_updates": 4}}
        found = planned(tmp_path, {"algorithms.ivg.horizon": [3, 5]}, **more)
        assert sum(one.kind == sweep_plan.PRETRAINING for one in found) == 2

    def test_a_given_model_needs_no_pretraining(self, tmp_path):
        found = planned(tmp_path, {"algorithms.ivg.horizon": [3]}, pretrained="some/model")
        assert all(one.kind != sweep_plan.PRETRAINING and not one.cell.after for one in found)
        assert all(one.experiment.pretrained == "some/model" for one in found)

    def test_equal_runs_are_one_with_links(self, tmp_path):
        found = planned(tmp_path, {"seed": [0, 1, 2]}, seeds=(0,))
        scratch = [one for one in found if one.kind == "goal/ivg/scratch"]
        assert len(scratch) == 1 and len(scratch[0].links) == 2
        assert sum(one.kind == "goal/ivg/pretrained" for one in found) == 3
        scratch[0].folder.mkdir(parents=True)
        (scratch[0].folder / "run.json").write_text('{"status": "done"}')
        sweep_plan.write_links(found)
        sweep_plan.write_links(found)
        assert all(json.loads((link / "run.json").read_text()) == {"status": "done"} for link in scratch[0].links)

    @staticmethod
    def variants(out, **horizons):
        given = {name: {"algorithms.ivg.horizon": horizon} for name, horizon in horizons.items()}
        base = {"name": "s", "out": str(out), "transfer": {"arms": ["ivg/scratch"], "seeds": [0]}}
        return sweep_plan.plan(*settings.load(base | {"sweep": {"of": "toy", "variants": given}}, []))

    @staticmethod
    def finish(one):
        record = {"status": "done", "settings_sha256": sweep_plan.Finished().settings(one)}
        one.folder.mkdir(parents=True, exist_ok=True)
        (one.folder / "run.json").write_text(json.dumps(record))

    def test_a_variant_that_is_no_longer_equal_leaves_the_other_s_run(self, tmp_path):
        (both,) = self.variants(tmp_path, x=3, y=3)
        sweep_plan.write_links([both])
        self.finish(both)
        x, y = self.variants(tmp_path, x=3, y=5)
        assert y.folder.is_symlink()
        sweep_plan.write_links([x, y])
        assert not y.folder.exists() and [sweep_plan.Finished()(one) for one in (x, y)] == [True, False]

    def test_a_run_that_another_variant_gives_more_budget_is_no_longer_shared(self, tmp_path):
        (both,) = self.variants(tmp_path, x=3, y=3)
        sweep_plan.write_links([both])
        self.finish(both)
        source = {"name": "s", "out": str(tmp_path), "transfer": {"arms": ["ivg/scratch"], "seeds": [0]}}
        same, more = {"algorithms.ivg.horizon": 3}, {"transfer.budget_env_steps.default": 777}
        found = sweep.Sweep(source | {"sweep": {"of": "toy", "variants": {"x": same | more, "y": same}}})
        (x, y) = found.planned
        assert y.folder.is_symlink() and sweep_plan.borrowed(found.planned) == {y.cell.name}
        assert not found.done  # else y's place would hold a run of x's budget
        sweep_plan.write_links(found.planned)
        assert x.folder.is_dir() and not y.folder.exists()

    def test_less_budget_than_a_run_had_is_refused_before_anything_is_written(self, tmp_path):
        def source(budget):
            given = {"x": {"transfer.budget_env_steps.default": budget}}
            return {"name": "s", "out": str(tmp_path), "sweep": {"of": "toy", "variants": given},
                    "transfer": {"arms": ["ivg/scratch"], "seeds": [0]}}  # fmt: skip

        (one,) = sweep.Sweep(source(200)).planned
        self.finish(one)
        (one.folder / "config.yaml").write_text(json.dumps(one.narrow))  # JSON is YAML
        checkpoint.save(one.folder / "checkpoints", {"at": 200})
        with pytest.raises(UserError, match="it may get more, and not less than 200: nothing was started"):
            sweep.run(source(100))
        assert not (tmp_path / "s" / "x" / "experiment.yaml").exists()

    def test_a_stale_run_is_not_taken_for_one_that_is_equal_now(self, tmp_path):
        for one in self.variants(tmp_path, x=3, y=5):
            self.finish(one)
        both = self.variants(tmp_path, x=3, y=3)
        with pytest.raises(UserError, match="y/.* holds a run with other settings"):
            sweep_plan.write_links(both)
        (fresh,) = self.variants(tmp_path, new=3, y=3)
        assert "/new/" in str(fresh.folder)

    def test_a_run_that_is_there_is_the_one_that_is_linked_to(self, tmp_path):
        """Whichever variant comes first now: the folder that holds the run stays where it is."""
        before = planned(tmp_path, {"seed": [1, 2]}, ["ivg/scratch"], [0])
        before[0].folder.mkdir(parents=True)
        sweep_plan.write_links(before)
        found = planned(tmp_path, {"seed": [2, 1]}, ["ivg/scratch"], [0])
        assert [one.folder for one in found] == [before[0].folder]
        sweep_plan.write_links(found)
        assert before[0].folder.is_dir() and not before[0].folder.is_symlink()

    def test_a_run_of_a_variant_that_the_sweep_no_longer_has_stays_linked(self, tmp_path):
        (one,) = planned(tmp_path, {"seed": [0, 1]}, ["ivg/scratch"], [0])
        finish(one, sweep_plan.Finished())
        sweep_plan.write_links([one])
        (left,) = planned(tmp_path, {"seed": [1]}, ["ivg/scratch"], [0])
        sweep_plan.write_links([left])
        assert left.folder.is_symlink() and sweep_plan.Finished()(left)
        shutil.rmtree(one.folder)
        sweep_plan.write_links([left])
        assert not left.folder.is_symlink()  # it led nowhere, and would be in a new run's way

    def test_a_setting_that_the_arm_does_not_read_makes_no_second_run(self, tmp_path):
        found = planned(tmp_path, {"algorithms.ivg.horizon": [3, 5]}, ["sac/scratch", "ivg/scratch"], [0])
        assert [one.kind for one in found] == ["goal/sac/scratch", "goal/ivg/scratch", "goal/ivg/scratch"]

    def test_the_yaml_of_a_variant_is_the_experiment(self, tmp_path):
        found = planned(tmp_path, {"seed": [0, 1]})
        sweep_plan.write_experiments(found)
        for one in found:
            name = one.cell.argv[one.cell.argv.index("meta_latent") + 2]
            overrides = [word for word in one.cell.argv if word.startswith("seed=")]
            assert meta_latent.configure(name, *overrides) == one.experiment


def finish(one, finished):
    """Fabricate the record of a finished run."""
    one.folder.mkdir(parents=True)
    record = {"status": "done", "settings_sha256": finished.settings(one)}
    (one.folder / "run.json").write_bytes(files.to_json(record))


class TestFinished:
    def test_a_real_run_is_recognised_by_its_settings(self, toy, tmp_path, toy_model):
        chosen = toy.experiment(tmp_path, f"pretrained={toy_model / 'model'}")
        cells.run_cell(chosen, "goal", "ivg/pretrained", 0)
        source = {"name": "toy", "out": str(tmp_path), "sweep": {"of": "toy"}}
        overrides = [*toy.small, f"pretrained={toy_model / 'model'}", "transfer.arms=[ivg/pretrained]"]
        folder = tmp_path / "toy" / "base" / "transfer"
        folder.parent.mkdir()
        (tmp_path / "toy" / "transfer").rename(folder)
        (tmp_path / "toy" / "experiment.yaml").unlink()  # a sweep's folder has none
        assert len(sweep.Sweep(source, overrides).done) == 1  # whatever the experiment is called
        changed = sweep.Sweep(source, [*overrides, "algorithms.ivg.horizon=2"])
        assert len(changed.planned) == 1 and not changed.done

    def test_a_real_pretraining_is_recognised(self, toy, tmp_path):
        source = {"name": "s", "out": str(tmp_path), "sweep": {"of": "toy"}}
        overrides = [*toy.small, "transfer.arms=[ivg/pretrained]"]
        (one, _) = sweep.Sweep(source, overrides).planned
        pretrain.pretrain(one.experiment)
        assert sweep.Sweep(source, overrides).done == {one.cell.name}

    def test_a_thousand_finished_cells_are_recognised_in_two_seconds(self, tmp_path):
        source = {"name": "s", "out": str(tmp_path), "transfer": {"arms": ["ivg/scratch"], "seeds": list(range(50))},
                  "sweep": {"of": "toy", "grid": {"algorithms.ivg.horizon": list(range(1, 21))}}}  # fmt: skip
        found = sweep.Sweep(source)
        for one in found.planned:
            finish(one, found.finished)
        started = time.process_time()  # other load does not count
        again = sweep.Sweep(source)
        todo, stuck = again.open_cells(retry_failed=False)
        assert time.process_time() - started < 2
        assert len(again.done) == 1000 and not todo and not stuck

    @pytest.mark.parametrize("record", ["", "{", "[]", '{"status": "running"}', '{"status": "done"}'])
    def test_anything_else_has_not_finished(self, tmp_path, record):
        (one,) = planned(tmp_path, {}, ["ivg/scratch"], [0])
        one.folder.mkdir(parents=True)
        (one.folder / "run.json").write_text(record)
        assert not sweep_plan.Finished()(one)


def cell(name, code="", after=()):
    return Cell(name, (sys.executable, "-S", "-c", code), after)


class TestPolicy:
    def outcomes(self, cells_, policy):
        events = []
        return run_cells(cells_, 2, events.append, policy=policy), [(e.kind, e.cell.name) for e in events]

    def test_a_failed_cell_is_tried_again_and_what_needs_it_waits(self, tmp_path):
        code = f"import os, sys; p = {str(tmp_path / 'n')!r}; open(p, 'a').write('x'); sys.exit(os.path.getsize(p) < 3)"
        outcome, events = self.outcomes([cell("a", code), cell("b", after=("a",))], Policy(retries=2))
        assert outcome == {"a": "done", "b": "done"}
        assert events == [*[("started", "a"), ("again", "a")] * 2, ("started", "a"), ("done", "a"),
                          ("started", "b"), ("done", "b")]  # fmt: skip

    @pytest.mark.parametrize(("code", "policy", "tries"), [
        ("raise SystemExit(1)", Policy(retries=2), 3),
        ("raise SystemExit(2)", Policy(retries=2), 1),  # wrong input gets no better
        ("import os; os.kill(os.getpid(), 9)", Policy(deaths=2), 3),
        ("import os; os.kill(os.getpid(), 9)", Policy(retries=2), 1),
    ])  # fmt: skip
    def test_how_often(self, code, policy, tries):
        outcome, events = self.outcomes([cell("a", code)], policy)
        assert outcome == {"a": "failed"} and events.count(("started", "a")) == tries

    def test_an_interrupted_cell_is_taken_over_and_is_no_failure(self):
        code = "raise SystemExit(130)"
        outcome, events = self.outcomes([cell("a", code), cell("b", after=("a",))], Policy(retries=5, deaths=2))
        assert outcome == {"a": "interrupted", "b": "skipped"}
        assert [kind for kind, name in events if name == "a"] == [*["started", "again"] * 2, "started", "interrupted"]
        outcome, _ = self.outcomes([cell("a", code), cell("c")], Policy(fail_fast=True))
        assert outcome == {"a": "interrupted", "c": "done"}

    def test_ctrl_c_tells_how_long_the_cells_had_run(self, monkeypatch):
        slow = (
            "import time\nprint('on', flush=True)\ntry: time.sleep(60)\nexcept KeyboardInterrupt: raise SystemExit(130)"
        )
        events = []

        def stop(one, line):
            raise KeyboardInterrupt  # as the signal does, once the cell runs

        with pytest.raises(KeyboardInterrupt):
            run_cells([cell("slow", slow), cell("later")], 1, events.append, stop, progress=False)
        (event,) = (e for e in events if e.kind != "started")
        assert (event.kind, event.cell.name, event.exit_status) == ("interrupted", "slow", 130) and event.seconds > 0

    def test_fail_fast_stops_the_others(self):
        slow = "import time\ntry: time.sleep(60)\nexcept KeyboardInterrupt: raise SystemExit(130)"
        started = time.monotonic()
        found = [cell("slow", slow), cell("bad", "import time; time.sleep(0.5); raise SystemExit(1)"), cell("later")]
        outcome, _ = self.outcomes(found, Policy(fail_fast=True))
        assert outcome == {"bad": "failed", "slow": "stopped", "later": "stopped"}
        assert time.monotonic() - started < 20

    def test_a_cell_that_another_process_holds_is_waited_for(self):
        asked = []

        def busy(one):
            asked.append(one.name)
            return len(asked) == 1

        outcome, events = self.outcomes([cell("a")], Policy(busy=busy))
        assert outcome == {"a": "done"} and asked == ["a"] * 2
        outcome, events = self.outcomes([cell("a", "1 / 0")], Policy(finished=lambda one: True))
        assert outcome == {"a": "done"} and events == [("found", "a")]

    def losing(self, folder, status=2, named=None):
        """A cell that finds `folder` taken, or one of another name, whenever it starts."""
        said = f"meta-latent: {named or folder} {processes.IN_USE} 1; wait"
        code = f"import sys; print({said!r}, file=sys.stderr); sys.exit({status})"
        return dataclasses.replace(cell("a", code), log=folder / "output.log")

    def test_a_start_that_lost_a_race_is_no_failure(self, tmp_path):
        """Another process takes the folder while the cell starts, and has let it go before that one's end is seen."""
        finished = iter([False, False, True])
        started = time.monotonic()
        outcome, events = self.outcomes([self.losing(tmp_path)], Policy(finished=lambda one: next(finished)))
        assert outcome == {"a": "done"} and [kind for kind, _ in events] == ["started", "again"] * 2 + ["found"]
        assert time.monotonic() - started > 2  # there is time between two starts
        assert (tmp_path / "output.log").read_text() == ""  # which is the other process's

    def test_who_loses_for_ever_fails(self, tmp_path, monkeypatch):
        monkeypatch.setattr(scheduler, "_BUSY_SECONDS", 0.0)
        monkeypatch.setattr(scheduler, "_RACES", 3)
        asked = itertools.count()  # what went on for ever would end here, as done
        policy = Policy(finished=lambda one: next(asked) > 8)
        outcome, events = self.outcomes([self.losing(tmp_path)], policy)
        assert outcome == {"a": "failed"} and [kind for kind, _ in events].count("started") == 4

    @pytest.mark.parametrize("given", [{"status": 1}, {"named": "port 80"}])
    def test_other_failures_are_no_lost_races(self, tmp_path, given):
        outcome, events = self.outcomes([self.losing(tmp_path, **given)], Policy())
        assert outcome == {"a": "failed"} and [kind for kind, _ in events] == ["started", "failed"]

    def test_other_wrong_input_is_not_tried_again(self):
        outcome, events = self.outcomes([cell("a", "raise SystemExit(2)")], Policy(retries=2, deaths=2))
        assert outcome == {"a": "failed"} and [kind for kind, _ in events] == ["started", "failed"]

    def test_the_cost_of_a_cell_is_far_below_a_second(self):
        started = time.monotonic()
        run_cells([cell(str(k)) for k in range(6)], 1)
        assert time.monotonic() - started < 6 * 0.5


class TestLedger:
    def test_it_remembers_failures_and_seconds(self, tmp_path):
        path = tmp_path / "sweep.jsonl"
        ledger = Ledger(path)
        ledger.add("a", "k", "s", outcome="again", seconds=3.0, line="x")
        ledger.add("a", "k", "s", outcome="done", seconds=4.0, line="y")
        ledger.add("b", "k", "s", outcome="failed", seconds=1.0, line="why")
        for one in (ledger, Ledger(path)):
            assert one.seconds("k") == 7.0 and one.seconds("other") is None
            assert one.failed("b", "s") and one.line("b") == "why"
            assert not one.failed("b", "changed") and not one.failed("a", "s") and not one.failed("c", "s")

    @pytest.mark.parametrize("end", range(1, 60, 7))
    def test_a_line_that_a_kill_cut_short_costs_no_other(self, tmp_path, end):
        path = tmp_path / "sweep.jsonl"
        Ledger(path).add("a", "k", "s", outcome="failed", seconds=1.0)
        whole = path.read_bytes()
        path.write_bytes(whole + whole[:end])
        ledger = Ledger(path)
        ledger.add("b", "k", "s", outcome="failed", seconds=1.0)
        found = Ledger(path)
        assert found.failed("a", "s") and found.failed("b", "s")


class TestRunning:
    @pytest.fixture
    def cheap(self, tmp_path, monkeypatch):
        """A sweep of scratch arms whose cells are stand-ins: they write what a finished run leaves."""
        real = sweep_plan.plan

        def plan(*arguments):
            return [sweep_plan.replace(one, cell=Cell(one.cell.name, self.stand_in(one), one.cell.after, one.cell.log))
                    for one in real(*arguments)]  # fmt: skip

        self.bad, self.bad_status = set(), 1
        self.finished = sweep_plan.Finished()
        monkeypatch.setattr(sweep_plan, "plan", plan)
        transfer = {"arms": ["ivg/scratch"], "seeds": [0, 1]}
        return {"name": "s", "out": str(tmp_path), "transfer": transfer, "workers": 2,
                "sweep": {"of": "toy", "grid": {"algorithms.ivg.horizon": [3, 5]}, "retries": 0}}  # fmt: skip

    def stand_in(self, one):
        if one.cell.name in self.bad:
            return (sys.executable, "-S", "-c", f"print('one\\ntwo\\nwhy'); raise SystemExit({self.bad_status})")
        record = json.dumps({"status": "done", "settings_sha256": self.finished.settings(one), "seed": one.seed})
        code = f"import os; f = {str(one.folder)!r}; os.makedirs(f, exist_ok=True); open(f + '/run.json', 'w').write("
        code += f"{record!r}); open(f + '/count', 'a').write('x')"
        return (sys.executable, "-S", "-c", code)

    def test_finished_cells_are_not_run_again_and_failed_ones_only_when_asked(self, cheap, capsys):
        self.bad = {"horizon_5/goal/ivg/scratch/1"}
        with pytest.raises(RunError, match=r"1 of 4 cells did not finish; failed: horizon_5/goal/ivg/scratch/1; .*"
                                           "--retry-failed"):  # fmt: skip
            meta_latent.sweep(cheap)
        assert "one\n    two\n    why" in capsys.readouterr().err
        with pytest.raises(RunError):
            meta_latent.sweep(cheap)
        assert "3 finished, 0 to run" in capsys.readouterr().err
        self.bad = set()
        meta_latent.sweep(cheap, retry_failed=True)
        root = Path(cheap["out"]) / "s"
        assert [len(path.read_text()) for path in root.rglob("count")] == [1] * 4
        assert not sweep.Sweep(cheap).open_cells(retry_failed=False)[0]

    def test_the_last_line_says_how_many_a_failure_stopped(self, cheap):
        self.bad = {"horizon_3/goal/ivg/scratch/0"}
        last = "4 of 4 cells did not finish; failed: horizon_3/goal/ivg/scratch/0; stopped by --fail-fast: 3; the same"
        with pytest.raises(RunError, match=last):
            meta_latent.sweep(cheap | {"workers": 1}, fail_fast=True)

    def test_cells_that_all_failed_for_wrong_input_are_wrong_input(self, cheap):
        self.bad, self.bad_status = {"horizon_5/goal/ivg/scratch/1", "horizon_3/goal/ivg/scratch/0"}, 2
        for _ in range(2):  # failing now, and left alone for having failed before
            with pytest.raises(UserError, match="2 of 4 cells did not finish; failed: horizon_3"):
                meta_latent.sweep(cheap)
        self.bad, self.bad_status = {"horizon_5/goal/ivg/scratch/1"}, 1
        with pytest.raises(RunError, match="1 of 4"):
            meta_latent.sweep(cheap, retry_failed=True)

    def test_attempts_that_were_interrupted_count_in_the_ledger_and_are_no_failures(self, cheap):
        whole = sweep.Sweep(cheap)
        one = whole.planned[0]
        whole.root.mkdir(parents=True)
        for kind, status in (("interrupted", 130), ("stopped", 130), ("done", 0)):
            sweep._noted(whole, {one.cell.name: one})(Event(kind, one.cell, status, seconds=5.0))
            assert not whole.ledger.failed(one.cell.name, one.settings)
        sweep._noted(whole, {one.cell.name: one})(Event("stopped", one.cell))  # it had not begun
        assert whole.ledger.seconds(one.kind) == 15.0 and len((whole.root / sweep.LEDGER).read_text().splitlines()) == 3

    @pytest.mark.parametrize("part", ["experiment.yaml", "transfer/goal", "pretrain/0"])
    def test_a_folder_of_one_experiment_is_refused(self, cheap, part):
        folder = Path(cheap["out"]) / "s" / part
        folder.mkdir(parents=True)
        with pytest.raises(UserError, match="holds the runs of one experiment.*name=s_sweep"):
            meta_latent.sweep(cheap)
        assert not (Path(cheap["out"]) / "s" / sweep.LEDGER).exists()
        assert sweep.Sweep(cheap, ["name=s_sweep"]).root.name == "s_sweep"

    def test_a_variant_may_be_called_as_the_parts_of_such_a_folder_are(self, cheap):
        given = {**cheap, "sweep": {"of": "toy", "variants": {"transfer": {"algorithms.ivg.horizon": 3}}}}
        root = sweep.Sweep(given).root
        (root / "transfer").mkdir(parents=True)
        (root / "sweep.json").write_text("{}")
        assert sweep.Sweep(given).root == root

    def test_nor_do_runs_of_one_experiment_begin_in_the_folder_of_a_sweep(self, cheap, capsys):
        meta_latent.sweep(cheap)
        capsys.readouterr()
        for command in ("pretrain", "transfer", "demo"):
            assert cli.main([command, "toy", f"out={cheap['out']}", "name=s", "transfer.arms=[ivg/scratch]"]) == 2
            said = capsys.readouterr().err
            assert said.count("holds a sweep; give the experiment another name=") == 1 and said.count("\n") == 1
        assert not (Path(cheap["out"]) / "s/pretrain").exists()

    def test_changed_settings_give_a_failed_cell_another_chance(self, cheap):
        self.bad = {"horizon_5/goal/ivg/scratch/1"}
        with pytest.raises(RunError):
            meta_latent.sweep(cheap)
        todo, stuck = sweep.Sweep(cheap, ["transfer.warmup_episodes=3"]).open_cells(retry_failed=False)
        assert len(todo) == 4 and not stuck

    def test_two_processes_do_not_run_one_sweep(self, cheap):
        in_use = pytest.raises(UserError, match=f"in use by process {os.getpid()}")
        with run_folder.held(Path(cheap["out"]) / "s"), in_use:
            meta_latent.sweep(cheap)

    @pytest.mark.parametrize(("code", "words"), [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "could not write")])
    @pytest.mark.parametrize("name", ["experiment.yaml", "sweep.json", "sweep.jsonl", "sweep.html"])
    def test_a_disk_that_fails_is_named_and_the_same_command_goes_on(self, cheap, monkeypatch, code, words, name):
        def fail(event, path):
            if path.name == name:
                raise OSError(code, os.strerror(code))

        with monkeypatch.context() as patch, pytest.raises(RunError, match=f"{words}.*{name}"):
            patch.setattr(files, "fault_hook", fail)
            meta_latent.sweep(cheap)
        assert meta_latent.sweep(cheap)["runs"] is not None

    def test_a_sweep_writes_through_no_link(self, cheap, tmp_path):
        root, elsewhere = Path(cheap["out"]) / "s", tmp_path / "elsewhere"
        elsewhere.mkdir()
        root.mkdir()
        for name in (sweep.Sweep(cheap).variants[0].name, "report"):
            (root / name).symlink_to(elsewhere)
            with pytest.raises(UserError, match="leads out of"):
                meta_latent.sweep(cheap)
            assert not list(elsewhere.iterdir())
            (root / name).unlink()
        meta_latent.sweep(cheap)

    def test_a_dry_run_writes_nothing_and_says_what_is_known(self, cheap):
        said = sweep.foretell(cheap)
        assert "4 variants" not in said and "2 variants" in said and "to run 4" in said and "time: unknown" in said
        assert not (Path(cheap["out"]) / "s").exists()
        meta_latent.sweep(cheap)
        said = sweep.foretell(cheap, ["transfer.seeds=[0,1,2,3]"])
        assert "finished 4" in said and "to run 4" in said and "time: about" in said

    def test_what_cannot_be_is_refused_before_the_first_cell(self, cheap):
        for overrides, words in (
            (["arm=ivg/scratch"], "leave out"),
            (["transfer.targets={}"], "targets is empty"),
        ):
            with pytest.raises(UserError, match=words):
                meta_latent.sweep(cheap, *overrides)


def test_the_predicted_bytes_are_those_of_the_episodes(tmp_path):
    (one,) = planned(tmp_path, {}, ["ivg/scratch"], [0])
    spec = sweep.Spec.of(sweep.bind_target(one.experiment, "goal").distribution)
    assert sweep._bytes(one) == sweep.predicted_bytes(spec, 300) > 300 * 16 * 16 * 3


def test_the_command_says_wrong_input_in_one_line(capsys, tmp_path):
    assert cli.main(["sweep", "toy", "sweep.grid.seed=3", f"out={tmp_path}"]) == 2
    assert "sweep.grid" in capsys.readouterr().err
    assert cli.main(["sweep", "toy", "--dry-run", "sweep.grid.seed=[0,1]", f"out={tmp_path}"]) == 0
    assert "2 variants" in capsys.readouterr().out
    assert cli.main(["sweep", "toy", "--dry-run", "sweep.grid.seed=[0]", f"out={tmp_path}"]) == 0
    said = capsys.readouterr().out
    assert "1 variant\n" in said and "of them 1 pretraining; 0 more are equal" in said


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.main(["sweep", "toy", f"out={tmp_path / 'file'}"]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_whether_a_folder_is_in_use(tmp_path):
    assert not run_folder.in_use(tmp_path) and not list(tmp_path.iterdir())
    with run_folder.held(tmp_path):
        assert run_folder.in_use(tmp_path)
    assert not run_folder.in_use(tmp_path)
