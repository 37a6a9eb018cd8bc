"""Tabletop: a hand with suction and three free blocks, all primitives in real contact (MuJoCo)."""
