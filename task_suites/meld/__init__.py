"""MELD's five hidden-goal tasks (Zhao et al. 2020): four with an arm, one with a running cheetah."""
