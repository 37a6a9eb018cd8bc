"""Algorithms, one file each: the settings first, then the agent, then its entry; here one line each."""

from meta_latent.algorithms.registry import register

register("ivg", "meta_latent.algorithms.ivg:ALGORITHM")
register("meld", "meta_latent.algorithms.meld:ALGORITHM")
register("no_carry", "meta_latent.algorithms.meld:NO_CARRY")
register("oracle", "meta_latent.algorithms.oracle:ALGORITHM")
register("pearl", "meta_latent.algorithms.pearl:ALGORITHM")
register("rl2", "meta_latent.algorithms.rl2:ALGORITHM")
register("sac", "meta_latent.algorithms.sac:ALGORITHM")
register("sb3_sac", "meta_latent.algorithms.sb3_sac:ALGORITHM")
register("slac", "meta_latent.algorithms.meld:SLAC")
