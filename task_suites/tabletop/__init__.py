"""Tabletop: a hand with suction or fingers and three free blocks, primitives in real contact (MuJoCo)."""
