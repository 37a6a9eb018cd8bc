"""Meta-World 3.1.1 as task distributions: MT1, ML1, ML10, ML25, ML45 and sets of one's own."""
