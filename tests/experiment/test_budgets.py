"""How many environment steps each cell may take."""

import pytest

from meta_latent.errors import UserError
from meta_latent.experiment.learning import cells as transfer
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.schema import ExperimentConfig, TransferConfig


def load(*overrides):
    return config.load(ExperimentConfig, [config.find("experiment", "toy")], list(overrides))


def test_the_most_specific_budget_counts():
    budgets = {"default": 1, "ivg/scratch": 2, "goal": 3, "goal/ivg/scratch": 4}
    kinds = [(target, arm) for target in ("goal", "other") for arm in ("ivg/scratch", "sac/scratch")]
    targets = load().transfer.targets
    settings = TransferConfig(targets=targets, budget_env_steps=budgets)
    assert [settings.budget(*kind) for kind in kinds] == [4, 3, 2, 1]
    assert TransferConfig(budget_env_steps={}).budget("goal", "ivg/scratch") == 3000


@pytest.mark.parametrize("key", ["gaol", "goal/ivg/scrach", "ivg/pretraned", "goal/sb3_sac/pretrained"])
def test_a_budget_for_nothing_is_refused(key):
    with pytest.raises(UserError, match="budget_env_steps has no"):
        load(f"transfer.budget_env_steps={{{key}: 5}}")


def test_a_cell_is_not_another_one_because_another_target_got_a_budget():
    def cell(*overrides):
        return transfer.narrowed(load(*overrides), "goal", "ivg/scratch", 0, None)

    assert cell() == cell("transfer.budget_env_steps={default: 300, sac/scratch: 7, goal/sac/scratch: 8}")
    assert cell() != cell("transfer.budget_env_steps={default: 300, goal/ivg/scratch: 9}")
