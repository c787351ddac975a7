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


# Newton's method: the gradient, and the Hessian as the gradient of each of its elements.
p = ts.asarray(np.array([0.5, 4.8]))
for step in range(8):
    p = p.detach().requires_grad_()
    value = misfit(p)
    (gradient,) = ts.autograd.grad(value, [p], create_graph=True)
    rows = [ts.autograd.grad(gradient[i], [p], retain_graph=True)[0].numpy() for i in range(2)]
    print(f"step {step}: misfit {value.item():.6f} at decay {p[0].item():.5f}, frequency {p[1].item():.5f}")
    p = ts.asarray(p.detach().numpy() - np.linalg.solve(np.stack(rows), gradient.detach().numpy()))
