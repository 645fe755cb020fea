"""How the peer is used: an evaluation episode by episode, one that keeps features, and a training step."""

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ml_collections import ConfigDict
from PIL import Image
from torch.nn import functional

from benchmarks import measure, peer
from simpropnet_jax.io.labels import FOREGROUND, VOID


@dataclass(frozen=True)
class Task:
    """What is evaluated: the episodes of one shot, and how they are read and scored.

    Attributes:
      source: where images and labels are read from.
      episodes: each with `query`, `supports` and `class_id`.
      size, label_size: sides of the squares that images and labels are stretched to.
      void: 'ignore' or 'background'.
      workers: threads that decode ahead, as the workers of a DataLoader do.
    """

    source: Any
    episodes: Sequence
    size: int
    label_size: int
    void: str
    workers: int

    def read(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Image u8 [S,S,3] and label u8 [L,L]."""
        jpeg, png = self.source.example(number)
        image = Image.open(io.BytesIO(jpeg)).convert('RGB').resize((self.size,) * 2, Image.BILINEAR)
        label = Image.open(io.BytesIO(png)).resize((self.label_size,) * 2, Image.NEAREST)
        return np.asarray(image), np.asarray(label)

    def read_episode(self, episode) -> tuple[np.ndarray, np.ndarray]:
        """Images u8 [1+K,S,S,3] and labels u8 [1+K,L,L], the query first."""
        images, labels = zip(
            *(self.read(number) for number in (episode.query, *episode.supports)), strict=True
        )
        return np.stack(images), np.stack(labels)


def ahead(function: Callable, items: Iterable, workers: int) -> Iterator:
    """The function of every item, in order, computed by threads a little ahead."""
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def groups(items: Iterable, size: int) -> Iterator[tuple[list, int]]:
    """Lists of `size` items and how many of them count: the last list is filled up with its last item, as ours is."""
    group = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group, size
            group = []
    if group:
        yield group + group[-1:] * (size - len(group)), len(group)


class Evaluation:
    """Scores the episodes of a task; called, it returns int64 [E, 2], intersection and union of each.

    Args:
      network: the peer, with weights, on its device.
      batch: of episodes and images at a time.
      setting: see `measure.WORDS`.
    """

    def __init__(
        self, network: peer.FewShot, task: Task, batch: int, device: str, setting: str = 'eager'
    ):
        self.network, self.task, self.batch = network.eval(), task, batch
        self.device, self.setting = device, setting

    def __call__(self, count: int | None = None) -> np.ndarray:
        """Args: count: of episodes, the first ones; None: all."""
        with torch.inference_mode(), peer.precision(self.device, self.setting):
            self.last = torch.cat(list(self.counts(self.task.episodes[:count]))).cpu().numpy()
        return self.last

    def warm(self) -> None:
        """Make a short run to compile everything."""
        self(self.batch)

    def counts(self, episodes: Sequence) -> Iterator[torch.Tensor]:
        """Of group after group of episodes, [B, 2], on the device."""
        raise NotImplementedError

    def score(self, logits, labels, class_ids):
        """Intersection and union [B, 2] of logits [B,2,h,w], resized to the labels [B,L,L]."""
        logits = functional.interpolate(
            logits, labels.shape[1:], mode='bilinear', align_corners=True
        )
        predicted, truth = logits.argmax(1) == 1, labels == class_ids[:, None, None]
        either = (predicted | truth) & (
            (labels != VOID) if self.task.void == 'ignore' else torch.ones_like(truth)
        )
        return torch.stack([(predicted & truth).sum((1, 2)), either.sum((1, 2))], 1)

    def masks(self, labels, class_ids):
        """Foreground and validity, float [B,K,L,L], of support labels [B,K,L,L]."""
        valid = (
            (labels != VOID)
            if self.task.void == 'ignore'
            else torch.ones_like(labels, dtype=torch.bool)
        )
        return (labels == class_ids[:, None, None, None]).float(), valid.float()

    def class_ids(self, episodes):
        return torch.tensor([episode.class_id for episode in episodes], device=self.device)

    def move(self, arrays):
        """Arrays of the host, stacked, on the device."""
        return torch.from_numpy(np.stack(arrays)).to(self.device, non_blocking=True)


class Loop(Evaluation):
    """The straightforward one: each episode reads and encodes its own images."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.forward = peer.compiled(self.network, self.setting)

    def counts(self, episodes):
        read = groups(ahead(self.task.read_episode, episodes, self.task.workers), self.batch)
        for (group, count), (arrays, _) in zip(groups(episodes, self.batch), read, strict=True):
            images, labels = (self.move(each) for each in zip(*arrays, strict=True))
            class_ids = self.class_ids(group)
            masks = self.masks(labels[:, 1:], class_ids)
            logits = self.forward(images[:, 0], images[:, 1:], *masks)[0]
            yield self.score(logits, labels[:, 0], class_ids)[:count]


class Cached(Evaluation):
    """One that reads and encodes each image once, and keeps all features on the device."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.encode = peer.compiled(self.network.encode, self.setting)
        self.decode = peer.compiled(self.network.decode, self.setting)

    def counts(self, episodes):
        used = sorted(
            {number for episode in episodes for number in (episode.query, *episode.supports)}
        )
        features, labels = [], []
        for group, count in groups(ahead(self.task.read, used, self.task.workers), self.batch):
            images, own = zip(*group, strict=True)
            features.append(self.encode(self.move(images))[:count])
            labels.append(self.move(own)[:count])
        features, labels = torch.cat(features), torch.cat(labels)
        row = {number: i for i, number in enumerate(used)}
        for group, count in groups(episodes, self.batch):
            query = torch.tensor([row[episode.query] for episode in group], device=self.device)
            support = torch.tensor(
                [[row[n] for n in episode.supports] for episode in group], device=self.device
            )
            class_ids = self.class_ids(group)
            probe = self.network.probe(features[support], *self.masks(labels[support], class_ids))
            yield self.score(self.decode(features[query], probe), labels[query], class_ids)[:count]


class Training:
    """A training step as released code has it: SGD with momentum, autocast without a scaler, as bfloat16 needs none.

    Args:
      config: of the training; see `training.FIXED` for what is not in the peer.
      params: this project's, which the peer begins with.
      setting: see `measure.WORDS`.
    """

    def __init__(self, config: ConfigDict, params: Mapping, device: str, setting: str = 'eager'):
        self.train, self.void, self.device, self.setting = (
            config.train,
            config.data.void,
            device,
            setting,
        )
        self.network = peer.with_weights(config.model, params, device, setting).train()
        self.forward = peer.compiled(self.network, setting)
        self.weight = torch.tensor([1.0, config.train.foreground_weight], device=device)
        self.optimizer = torch.optim.SGD(
            [one for one in self.network.parameters() if one.requires_grad],
            config.train.learning_rate * config.train.rate_factor,
            momentum=config.train.momentum,
            weight_decay=config.train.weight_decay,
        )

    def to_device(self, batch: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
        """A batch of this project's loader, and perhaps a `history` [B,h,w,2]."""
        return {name: torch.from_numpy(array).to(self.device) for name, array in batch.items()}

    def loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The query's loss and, by dual prediction, the supports'."""
        truths = [batch['query_label'], batch['support_label'].flatten(0, 1)]
        if self.void == 'background':
            truths = [torch.where(label == VOID, 0, label) for label in truths]
        masks = truths[1].view(batch['support_label'].shape)
        foreground, valid = (masks == FOREGROUND).float(), (masks != VOID).float()
        past = batch['history'].permute(0, 3, 1, 2) if 'history' in batch else None
        with peer.precision(self.device, self.setting):
            logits = self.forward(
                batch['query_image'],
                batch['support_image'],
                foreground,
                valid,
                self.train.dual_prediction,
                past,
            )
        return sum(self.cross_entropy(*pair) for pair in zip(logits, truths, strict=False))

    def cross_entropy(self, logits, label):
        logits = functional.interpolate(
            logits.float(), label.shape[1:], mode='bilinear', align_corners=True
        )
        return functional.cross_entropy(logits, label.long(), self.weight, ignore_index=VOID)

    def step(self, batch: Mapping[str, torch.Tensor]) -> None:
        """One step, waited for."""
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(batch).backward()
        self.optimizer.step()
        measure.wait_for_torch(self.device)

    def loss_and_gradients(
        self, batch: Mapping[str, torch.Tensor]
    ) -> tuple[float, dict[str, np.ndarray]]:
        """Both of one batch, without a step."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(batch)
        loss.backward()
        parameters = self.network.named_parameters()
        return loss.item(), {
            name: one.grad.cpu().numpy() for name, one in parameters if one.requires_grad
        }
