"""The same VAE in pythae (Chadebec et al. 2022, NeurIPS), trained by pythae's own trainer.

The networks are ours, handed to pythae's ``VAE`` as its documentation says; batch, optimizer (Adam, pythae's default)
and learning rate are the recipe's. Its images are binarised once, beforehand: it knows no fresh draws. It keeps no
averaged weights. So it has less to do for a step than the product has.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gen.data.reader import everything
from gen.model import Adam, GenerativeModel
from gen.nets.mlp import mlp
from gen.recipe import Recipe


def pythae_epochs(model: GenerativeModel, recipe: Recipe, shards: Path, folder: Path) -> tuple[Iterator[Tensor], int]:
    """An iterator that trains one epoch at every turn and gives its mean loss; and the number of steps in an epoch."""
    os.environ["TQDM_DISABLE"] = "1"  # progress bars of a trainer that is stopped and started
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    dims, latents, hidden = model.spec.dims, model.latents, _hidden(model)
    batch, optim = recipe.training.batch, model.optimizers()["model"]
    assert isinstance(optim, Adam)

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.net = mlp([dims, *hidden, 2 * latents])

        def forward(self, x: Tensor) -> Any:
            mean, log_var = self.net(x.flatten(1)).chunk(2, dim=1)
            return ModelOutput(embedding=mean, log_covariance=log_var)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.net = mlp([latents, *reversed(hidden), dims])

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=self.net(z).sigmoid().unflatten(1, model.spec.shape))

    pixels, _ = everything(shards, "train")
    count = len(pixels) // batch * batch  # whole batches only, as the product draws them
    torch.manual_seed(0)
    images = (torch.rand(count, *model.spec.shape) * 255 < pixels[:count]).float()
    config = VAEConfig(input_dim=model.spec.shape, latent_dim=latents, reconstruction_loss="bce")
    trainer = BaseTrainer(
        VAE(config, encoder=Encoder(), decoder=Decoder()),
        train_dataset=_Labelled(images),
        training_config=BaseTrainerConfig(
            output_dir=str(folder),
            num_epochs=10**6,
            per_device_train_batch_size=batch,
            learning_rate=optim.lr,
            no_cuda=True,
        ),
    )
    trainer.prepare_training()

    def epochs() -> Iterator[Tensor]:
        epoch = 0
        while True:
            epoch += 1
            yield torch.as_tensor(trainer.train_step(epoch))

    return epochs(), count // batch


def _hidden(model: GenerativeModel) -> list[int]:
    """Widths of the encoder's hidden layers."""
    layers = [layer for layer in model.encoder.modules() if isinstance(layer, nn.Linear)]
    return [layer.out_features for layer in layers[:-1]]


class _Labelled(torch.utils.data.Dataset):
    """What pythae's BaseDataset is, which wants labels."""

    def __init__(self, images: Tensor) -> None:
        self.data, self.labels = images, torch.zeros(len(images))

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        from pythae.data.datasets import DatasetOutput

        return DatasetOutput(data=self.data[index], labels=self.labels[index])
