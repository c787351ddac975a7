"""NumPy arrays in, NumPy arrays out: a curve fitted with exact first and second derivatives."""

import numpy as np

import tensorsmith as ts

# The measured points stay NumPy's; the tensors are views of the same memory.
rng = np.random.default_rng(0)
time = np.linspace(0, 4, 200)
heard = np.exp(-0.7 * time) * np.sin(5.0 * time) + 0.02 * rng.standard_normal(200)
t, y = ts.asarray(time), ts.asarray(heard)


def misfit(p):
    decay, frequency = p[0], p[1]
    return ((ts.exp(-decay * t) * ts.sin(frequency * t) - y) ** 2).mean()


gradient = ts.grad(misfit)
curvature = [ts.grad(lambda p, i=i: gradient(p)[i]) for i in range(2)]

p = ts.asarray(np.array([0.5, 4.8]))
for step in range(8):
    print(
        f"step {step}: misfit {misfit(p).item():.6f} at decay {p[0].item():.5f}, frequency {p[1].item():.5f}"
    )
    hessian = np.stack([row(p).numpy() for row in curvature])
    p = p - ts.asarray(np.linalg.solve(hessian, gradient(p).numpy()))  # Newton's step
