"""einops on tensors: `einops.array_api` takes them as they are, and gradients go through it."""

import einops.array_api as einops
import numpy as np

import tensorsmith as ts

images = ts.asarray(np.random.default_rng(0).standard_normal((4, 3, 32, 32)))

patches = einops.rearrange(images, "b c (h i) (w j) -> b (h w) (i j c)", i=8, j=8)
print("patches", patches.shape)
pooled = einops.reduce(images, "b c (h 2) (w 2) -> b c h w", "max")
print("pooled", pooled.shape)
tiled = einops.repeat(images, "b c h w -> (rows h) (b w) c", rows=2)
print("tiled", tiled.shape)
packed, shapes = einops.pack([images[:, 0], images[:, 1:]], "b * h w")
first, rest = einops.unpack(packed, shapes, "b * h w")
assert ts.array_equal(rest, images[:, 1:])

weights = images.requires_grad_()
einops.reduce(ts.square(weights), "b c h w -> ", "sum").backward()
assert ts.allclose(weights.grad, 2 * weights.detach())
print("the gradient of the sum of squares is twice the images")
