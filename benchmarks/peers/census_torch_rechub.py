#!/usr/bin/python3
"""torch-rechub's census experiment with MMoE, run on the files of data/census-income-kdd.

Its published AUC (income 0.9579) belongs to one half of the test file, drawn without a seed, so it cannot be compared with a figure
on other rows. This program follows the published settings and prints what they give on our files, on the drawn half and on the
whole test file. Written from the description of the experiment, not from its code:
  features   33 categorical columns with embeddings of 4, encoded on training and test rows together; 7 numbers scaled to 0 .. 1
             and rounded to 4 places; no instance weight; labels income and never married
  network    8 experts of 16, towers of 8, batch normalisation after each linear layer, also before the gates' softmax
  training   Adam 1e-3 with L2 1e-4 on every parameter, batch 1024, mean of the two losses; the epoch with the best income AUC on the
             validation half (stratified by income), patience 30, at most 100 epochs

Needs PyTorch (Debian: python3-torch). The experts are computed as one product, which gives the same network.

  /usr/bin/python3 benchmarks/peers/census_torch_rechub.py --seeds 3
"""
import argparse
import copy
import gzip
import pathlib

import numpy as np
import torch
from torch import nn

DATA = pathlib.Path(__file__).resolve().parents[2] / "data" / "census-income-kdd"
COLUMNS, MARITAL_STATUS, INSTANCE_WEIGHT, INCOME = 42, 7, 24, 41
NUMBERS = [0, 5, 16, 17, 18, 30, 39]
CATEGORIES = [c for c in range(COLUMNS) if c not in NUMBERS + [MARITAL_STATUS, INSTANCE_WEIGHT, INCOME]]
DIMENSION, EXPERTS, WIDTH, TOWER, TASKS = 4, 8, 16, 8, 2


def read(name):
    with gzip.open(DATA / name, "rt") as file:
        return [[field.strip() for field in line.strip().rstrip(".").split(",")] for line in file if line.strip()]


class Census:
    def __init__(self):
        train, test = read("census-income.data.gz"), read("census-income.test.gz")
        rows = np.array(train + test, dtype=object)
        self.train_rows, self.rows = len(train), len(rows)
        numbers = rows[:, NUMBERS].astype(float)
        numbers = ((numbers - numbers.min(0)) / (numbers.max(0) - numbers.min(0))).round(4)
        ids = np.stack([np.unique(rows[:, c].astype(str), return_inverse=True)[1] for c in CATEGORIES], 1)
        sizes = ids.max(0) + 1
        self.vocabulary = int(sizes.sum())
        self.ids = torch.tensor(ids + np.concatenate([[0], np.cumsum(sizes)[:-1]]))
        self.numbers = torch.tensor(numbers, dtype=torch.float32)
        income = np.array(["50000+" in value for value in rows[:, INCOME]], float)
        married = np.array([value == "Never married" for value in rows[:, MARITAL_STATUS]], float)
        self.labels = np.stack([income, married], 1)


class Mmoe(nn.Module):
    def __init__(self, data):
        super().__init__()
        inputs = DIMENSION * len(CATEGORIES) + len(NUMBERS)
        self.embedding = nn.Embedding(data.vocabulary, DIMENSION)
        nn.init.normal_(self.embedding.weight, 0, 1e-4)
        self.experts = nn.Sequential(nn.Linear(inputs, EXPERTS * WIDTH), nn.BatchNorm1d(EXPERTS * WIDTH), nn.ReLU())
        self.gates = nn.Sequential(nn.Linear(inputs, TASKS * EXPERTS), nn.BatchNorm1d(TASKS * EXPERTS))
        self.towers = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, TOWER), nn.BatchNorm1d(TOWER), nn.ReLU(), nn.Linear(TOWER, 1)) for _ in range(TASKS)
        )

    def forward(self, ids, numbers):
        x = torch.cat([self.embedding(ids).flatten(1), numbers], 1)
        experts = self.experts(x).view(-1, EXPERTS, WIDTH)
        mixed = torch.bmm(torch.softmax(self.gates(x).view(-1, TASKS, EXPERTS), 2), experts)
        return torch.cat([tower(mixed[:, k]) for k, tower in enumerate(self.towers)], 1)


def auc(scores, labels):
    """Area under the ROC curve, ties at one half."""
    _, value, count = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[value]
    positives = labels.sum()
    return (rank[labels == 1].sum() - positives * (positives + 1) / 2) / (positives * (len(labels) - positives))


def predict(model, data, rows):
    model.eval()
    with torch.no_grad():
        return torch.cat([model(data.ids[part], data.numbers[part]) for part in rows.split(8192)]).numpy()


def run(data, seed, epochs, patience):
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    test = np.arange(data.train_rows, data.rows)
    is_validation = np.zeros(data.rows, bool)
    for label in (0, 1):
        of_label = test[data.labels[test, 0] == label]
        random.shuffle(of_label)
        is_validation[of_label[: len(of_label) // 2]] = True
    validation = torch.tensor(np.flatnonzero(is_validation))
    model = Mmoe(data)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)
    labels = torch.tensor(data.labels, dtype=torch.float32)
    best, best_epoch, best_state = 0.0, 0, None
    for epoch in range(epochs):
        model.train()
        for part in torch.randperm(data.train_rows).split(1024):
            loss = nn.functional.binary_cross_entropy_with_logits(model(data.ids[part], data.numbers[part]), labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        score = auc(predict(model, data, validation)[:, 0], data.labels[is_validation, 0])
        if score > best:
            best, best_epoch, best_state = score, epoch, copy.deepcopy(model.state_dict())
        elif epoch - best_epoch >= patience:
            break
    model.load_state_dict(best_state)
    scores = predict(model, data, torch.tensor(test))
    half = ~is_validation[test]
    return [auc(scores[rows, task], data.labels[test][rows, task]) for rows in (half, slice(None)) for task in range(TASKS)] + [best_epoch + 1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="how many runs (3)")
    parser.add_argument("--epochs", type=int, default=100, help="epochs at most (100)")
    parser.add_argument("--patience", type=int, default=30, help="epochs without a better validation score (30)")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch (1)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = Census()
    print("| seed | test half: income | never married | whole test file: income | never married | best epoch |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for seed in range(1, options.seeds + 1):
        *values, epoch = run(data, seed, options.epochs, options.patience)
        print(f"| {seed} | " + " | ".join(f"{value:.4f}" for value in values) + f" | {epoch} |", flush=True)


if __name__ == "__main__":
    main()
