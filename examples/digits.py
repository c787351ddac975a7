"""A convolutional network on the handwritten digits that come with the package."""

import tensorsmith as ts
from tensorsmith import nn, optim
from tensorsmith.data import Digits
from tensorsmith.nn import functional as F
from tensorsmith.utils.data import DataLoader, TensorDataset

ts.manual_seed(0)
train, test = (
    TensorDataset(ts.asarray(d.data[:, None] / 16.0).astype(ts.float32), ts.asarray(d.targets))
    for d in (Digits(train=True), Digits(train=False))
)

model = nn.Sequential(
    nn.Conv2d(1, 32, 3, padding=1),
    nn.ReLU(),
    nn.Conv2d(32, 64, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(64 * 4 * 4, 10),
)
print(model)
optimizer = optim.AdamW(model.parameters(), lr=2e-3)

for epoch in range(8):
    for images, labels in DataLoader(train, batch_size=32, shuffle=True, seed=epoch):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    model.eval()
    with ts.no_grad():
        images, labels = test[:]
        right = (model(images).argmax(axis=1) == labels).astype(ts.float32).mean()
    model.train()
    print(f"epoch {epoch + 1}: loss {loss.item():.4f}, accuracy on the held-out digits {right.item():.4f}")

ts.save(model.state_dict(), "digits.safetensors")
print("saved digits.safetensors:", ", ".join(ts.load("digits.safetensors")))
