"""D-BLUP's five objectives by brute force, and their gradients as closed forms, in NumPy."""

import numpy as np


class Problem:
    """40 individuals × 60 SNPs, two without a record; mean and a covariate; five folds, four in none."""

    n, m = 40, 60

    def __init__(self):
        rng = np.random.default_rng(1)
        Z = rng.binomial(2, rng.uniform(0.1, 0.9, self.m), (self.n, self.m)).astype(float)
        p = Z.mean(0) / 2
        self.W, self.d = Z - 2 * p, float(np.sum(2 * p * (1 - p)))
        self.w = rng.uniform(0.3, 2, self.m)
        self.annotations = rng.normal(size=(self.m, 3))
        g = self.W @ rng.normal(size=self.m)
        self.phenotypes = 3 + g / g.std() + rng.normal(size=self.n)
        self.phenotypes[[3, 17]] = np.nan
        self.fixed = np.column_stack([np.ones(self.n), rng.normal(size=self.n)])
        self.folds = np.r_[np.full(4, -1), np.arange(self.n - 4) % 5]
        rows = ~np.isnan(self.phenotypes)
        self.y, self.X, self.rows = self.phenotypes[rows], self.fixed[rows], rows
        self.Wr, self.fold = self.W[rows], self.folds[rows]

    def G(self, w):
        return self.Wr * w @ self.Wr.T / self.d

    def held_out(self, lam, w, test):
        """Errors of prediction of the records `test` from all others."""
        t, G, X, y = ~test, self.G(w), self.X, self.y
        V = G[np.ix_(t, t)] + lam * np.eye(t.sum())
        b = np.linalg.solve(X[t].T @ np.linalg.solve(V, X[t]), X[t].T @ np.linalg.solve(V, y[t]))
        return y[test] - X[test] @ b - G[np.ix_(test, t)] @ np.linalg.solve(V, y[t] - X[t] @ b)

    def P(self, lam, w):
        Vi = np.linalg.inv(self.G(w) + lam * np.eye(len(self.y)))
        ViX = Vi @ self.X
        return Vi - ViX @ np.linalg.solve(self.X.T @ ViX, ViX.T)

    def closed_form(self, objective, lam, w):
        """∂/∂λ and ∂/∂w_j: each objective's own formula, with dP = −P V_θ P."""
        P, Z, d, r = self.P(lam, w), self.Wr, self.d, len(self.y)
        Py = P @ self.y

        def quadratic(a, b):  # −a'V_θ b along λ and the weights
            return -(a @ b), -(Z.T @ a) * (Z.T @ b) / d

        def trace(A):  # tr(A V_θ)
            return np.trace(A), np.einsum("ij,ik,kj->j", Z, A, Z) / d

        def add(*terms):
            return tuple(sum(factor * part[i] for factor, part in terms) for i in range(2))

        if objective == "train":
            own = add((2 * lam**2 / r, quadratic(P @ Py, Py)))
            return own[0] + 2 * lam / r * (Py @ Py), own[1]
        if objective == "heldout":
            held, total = [], (self.fold >= 0).sum()
            for fold in range(5):
                test = self.fold == fold
                S = np.eye(r)[:, test]
                inverse = np.linalg.inv(S.T @ P @ S)
                errors = inverse @ (S.T @ Py)  # dr = inverse S'P V_θ (P S r − Py)
                held.append((2 / total, quadratic(P @ S @ inverse @ errors, Py - P @ S @ errors)))
            return add(*held)
        if objective == "loo":
            errors = Py / np.diag(P)
            s, t = 2 * errors / (r * np.diag(P)), 2 * errors**2 / (r * np.diag(P))
            return add((1, quadratic(P @ s, Py)), (1, trace(P @ np.diag(t) @ P)))
        if objective == "gcv":
            tr = np.trace(P)
            return add((2 * r / tr**2, quadratic(P @ Py, Py)), (2 * r * (Py @ Py) / tr**3, trace(P @ P)))
        df = r - self.X.shape[1]
        return add((1, trace(P)), (df / (self.y @ Py), quadratic(Py, Py)))


def _train(p, lam, w):
    V = p.G(w) + lam * np.eye(len(p.y))
    b = np.linalg.solve(p.X.T @ np.linalg.solve(V, p.X), p.X.T @ np.linalg.solve(V, p.y))
    return np.mean((p.y - p.X @ b - p.G(w) @ np.linalg.solve(V, p.y - p.X @ b)) ** 2)


def _heldout(p, lam, w):
    return np.mean(np.concatenate([p.held_out(lam, w, p.fold == fold) for fold in range(5)]) ** 2)


def _loo(p, lam, w):
    return np.mean([p.held_out(lam, w, np.arange(len(p.y)) == i)[0] ** 2 for i in range(len(p.y))])


def _gcv(p, lam, w):
    P = p.P(lam, w)
    return len(p.y) * np.sum((P @ p.y) ** 2) / np.trace(P) ** 2


def _reml(p, lam, w):
    """By the density of error contrasts: K'y ~ N(0, K'VKσ²), K an orthonormal basis of X's complement."""
    K = np.linalg.svd(p.X)[0][:, p.X.shape[1] :]
    contrasts, V = K.T @ p.y, K.T @ (p.G(w) + lam * np.eye(len(p.y))) @ K
    df = len(contrasts)
    scale = contrasts @ np.linalg.solve(V, contrasts) / df
    return df * (np.log(2 * np.pi * scale) + 1) + np.linalg.slogdet(V)[1]


LOSSES = {"train": _train, "heldout": _heldout, "loo": _loo, "gcv": _gcv, "reml": _reml}
