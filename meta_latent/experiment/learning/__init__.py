"""The one loop: what an arm starts from, collecting, evaluating, saving."""
