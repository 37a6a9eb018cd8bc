import torch
from dataclasses import dataclass
from torch import nn
from meta_latent.nets import EnsembleMLP, Standardiser, pack_optimiser, unpack_optimiser
from meta_latent.ranges import count, positive, share
METRICS = {"model_error": "x", "model_epochs": "x"}
@dataclass(frozen=True)
class DynamicsConfig:
    members: int = count(5)
    hidden: int = count(512)
    layers: int = count(2)
    learning_rate: float = positive(1e-3)
    batch_size: int = count(500)
    max_epochs: int = count(50)
class DynamicsEnsemble(nn.Module):
    def __init__(self, c, S, A):
        super().__init__(); self.c, self.state_size, self.heads = c, S, c.members
        self.net = EnsembleMLP(c.members, S+A, S, c.hidden, c.layers)
        self.i, self.o = Standardiser(S+A), Standardiser(S)
        self.opt = torch.optim.Adam(self.net.parameters(), c.learning_rate, fused=True)
    def forward(self, s, a):
        d = self.net(self.i(torch.cat([s, a], -1)))
        return s + d * self.o.stddev + self.o.mean
    def through(self, s, a):
        N, P = s.shape[:2]; K = self.heads
        g = lambda x: x.view(N // K, K, P, -1).transpose(0, 1).reshape(K, N // K * P, -1)
        y = self(g(s), g(a))
        return y.view(K, N // K, P, -1).transpose(0, 1).reshape(N, P, -1)
    def fit(self, t, owners, rng):
        x = torch.cat([t.proprio, t.action], -1); y = t.next_proprio - t.proprio
        self.i.fit(x); self.o.fit(y)
        n = len(x); K = self.heads
        for e in range(self.c.max_epochs):
            idx = []
            for k in range(K):
                own = torch.arange(n) if owners is None else torch.nonzero(owners == k)[:, 0]
                idx.append(own[torch.randperm(len(own), generator=rng)])
            m = min(map(len, idx)); idx = torch.stack([i[:m] for i in idx])
            for j in range(0, m, self.c.batch_size):
                b = idx[:, j:j + self.c.batch_size]
                p = self.net(self.i(x[b])); l = (p - self.o(y[b])).square().mean((1, 2)).sum()
                self.opt.zero_grad(); l.backward(); self.opt.step()
        return {"model_error": float(l.detach() / K), "model_epochs": float(e)}
    def state(self):
        return {"n": self.state_dict(), "o": pack_optimiser(self.opt)}
    def load_state(self, s):
        self.load_state_dict(s["n"]); unpack_optimiser(self.opt, s["o"])
