"""Algorithms, one file each: the settings first, then the agent, then its entry; here one line each."""

from meta_latent.algorithms.registry import register

register("cem", "meta_latent.algorithms.cem:ALGORITHM")
register("ivg", "meta_latent.algorithms.ivg:ALGORITHM")
register("mb_mpo", "meta_latent.algorithms.mb_mpo:ALGORITHM")
register("mb_mpo_alpha0", "meta_latent.algorithms.mb_mpo:ALPHA0")
register("mb_mpo_first_order", "meta_latent.algorithms.mb_mpo:FIRST_ORDER")
register("mb_mpo_one_model", "meta_latent.algorithms.mb_mpo:ONE_MODEL")
register("me_ppo", "meta_latent.algorithms.me_trpo:ME_PPO")
register("me_trpo", "meta_latent.algorithms.me_trpo:ALGORITHM")
register("meld", "meta_latent.algorithms.meld:ALGORITHM")
register("no_carry", "meta_latent.algorithms.meld:NO_CARRY")
register("oracle", "meta_latent.algorithms.oracle:ALGORITHM")
register("pearl", "meta_latent.algorithms.pearl:ALGORITHM")
register("ppo", "meta_latent.algorithms.trpo:PPO")
register("rl2", "meta_latent.algorithms.rl2:ALGORITHM")
register("sac", "meta_latent.algorithms.sac:ALGORITHM")
register("sb3_sac", "meta_latent.algorithms.sb3_sac:ALGORITHM")
register("slac", "meta_latent.algorithms.meld:SLAC")
register("trpo", "meta_latent.algorithms.trpo:ALGORITHM")
