"""Toy environments without MuJoCo: oracles for tests of data flow, models and algorithms."""
