#!/usr/bin/env python3
"""Times a reference configuration (benchmarks/configs) in PyTorch and prints the JSON fields of `cudamoe bench model`.

The model is written for speed, not as textbooks have it: the experts of a dense mixture are one product, all gates are another, the
pairs of a sparse mixture are sorted by expert so that each expert is one product over its rows, and the gradient of the embeddings stays a list of
rows, whose duplicates are added up before exact row-wise AdaGrad. Dense parameters take AdamW. A training step is look-up, forward, loss, backward and
both updates. Data: the formula of CudaMoE.Benchmarking.BenchmarkData, so both engines see the same ids, numbers and labels.
"""
import argparse
import gc
import json
import time

import numpy as np
import torch
import torch.nn.functional as F

TRAINING_BATCHES, INFERENCE_BATCHES, LARGEST_SMALL_BATCH, RUNS_OF_GROUP = 8, 64, 512, 8


def on_device(array):
    """A NumPy array on the device of this run."""
    return torch.from_numpy(array).to(device())


def for_upload(array):
    """A NumPy array where the fastest copy to the device begins."""
    return torch.from_numpy(array).pin_memory() if on_gpu() else torch.from_numpy(array)


def device():
    # PyTorch before 2.3 cannot be asked for it, and runs here on the CPU only.
    return torch.get_default_device().type if hasattr(torch, "get_default_device") else "cpu"


def on_gpu():
    return device() == "cuda"


def uniform(stream, count):
    """u(stream, 0 .. count-1) in [0, 1): splitmix64's finaliser, top 24 bits."""
    with np.errstate(over="ignore"):
        z = (np.arange(count, dtype=np.uint64) + np.uint64((stream << 32) + 1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return ((z ^ (z >> np.uint64(31))) >> np.uint64(40)) * 2.0**-24


class Batch:
    def __init__(self, config, rows, index):
        sparse = config["sparse"]
        features, bag, table = sparse["features"], sparse.get("bag", 1), sparse["rows"]
        drawn = table * uniform(4 * index + 1, rows * features * bag).reshape(rows, features, bag) ** sparse.get("skew", 1.0)
        ids = np.minimum(drawn.astype(np.int64), table - 1) + (np.arange(features) * table)[None, :, None]
        self.ids = for_upload(ids.reshape(rows * features, bag).astype(np.int32 if on_gpu() else np.int64))
        self.dense = for_upload(uniform(4 * index + 2, rows * config.get("dense", 0)).reshape(rows, -1).astype(np.float32))
        labels = uniform(4 * index + 3, rows * config.get("tasks", 0)) < 0.25
        self.labels = for_upload(labels.reshape(rows, -1).T.astype(np.float32).copy())

    def uploaded(self):
        """The batch on the device; a GPU gets a copy, queued like everything else."""
        if not on_gpu():
            return self
        copy = object.__new__(Batch)
        ids, copy.dense, copy.labels = (t.to("cuda", non_blocking=True) for t in (self.ids, self.dense, self.labels))
        copy.ids = ids.long()
        return copy


class Embedding:
    """The tables of all features as one, their look-up, and their update from the gradient of the pooled rows."""

    def __init__(self, config):
        sparse, optimizer = config["sparse"], config["optimizer"]["sparse"]
        self.width = sparse["features"] * sparse["dim"]
        self.table = torch.empty(sparse["features"] * sparse["rows"], sparse["dim"]).normal_(std=0.01)
        self.squares = torch.zeros(len(self.table))
        self.pooling = sparse.get("pooling", "sum")
        self.rate, self.epsilon = optimizer["lr"], optimizer["eps"]
        self.sort = None

    def forward(self, batch):
        rows = F.embedding(batch.ids[:, 0], self.table) if batch.ids.shape[1] == 1 else F.embedding_bag(batch.ids, self.table, mode=self.pooling)
        return rows.view(-1, self.width)

    def update(self, batch, gradient):
        bag = batch.ids.shape[1]
        gradient = gradient.reshape(-1, self.table.shape[1])
        if bag > 1 and self.pooling == "mean":
            gradient = gradient / bag
        rows, occurrences = self.sorted_ids(batch.ids.view(-1))
        distinct, counts = torch.unique_consecutive(rows, return_counts=True)
        starts = torch.cumsum(counts, 0) - counts
        # A sum of gradient rows for each distinct id is what embedding_bag computes: the bags of a sample share its row.
        gradient = F.embedding_bag(occurrences if bag == 1 else occurrences // bag, gradient, starts, mode="sum")
        squares = self.squares.index_select(0, distinct).add_(gradient.square().mean(1))
        self.squares.index_copy_(0, distinct, squares)
        step = gradient.mul_((self.rate / (squares.sqrt_() + self.epsilon)).unsqueeze(1))
        self.table.index_copy_(0, distinct, self.table.index_select(0, distinct).sub_(step))

    def sorted_ids(self, ids):
        """Ids in ascending order and where each came from, by the faster of two sorts: NumPy's vectorised one depends on its version."""
        if self.sort is None:
            sorts = (sort_in_torch,) if on_gpu() else (sort_in_torch, sort_in_numpy)
            times = []
            for sort in sorts:
                sort(ids)
                started = time.perf_counter()
                sort(ids)
                times.append(time.perf_counter() - started)
            self.sort = sorts[times.index(min(times))]
        return self.sort(ids)


def sort_in_torch(ids):
    return torch.sort(ids)


def sort_in_numpy(ids):
    keys = np.sort((ids.numpy() << 32) | np.arange(len(ids)))
    return torch.from_numpy(keys >> 32), torch.from_numpy(keys & 0xFFFFFFFF)


class Mix(torch.autograd.Function):
    """out[b, t] = sum over e of gates[b, t, e] y[b, e]: weighted sums of rows, which embedding_bag computes in one pass; without MKL, torch.bmm is one
    tiny product a sample."""

    @staticmethod
    def forward(context, gates, y):
        rows, tasks, experts = gates.shape
        gates, y = gates.contiguous(), y.view(rows * experts, -1)
        row, expert, bag = (torch.arange(n) for n in (rows, experts, rows * tasks))
        indices = (row[:, None, None] * experts + expert).expand(rows, tasks, experts).reshape(-1)
        context.save_for_backward(gates, y, indices, bag * experts, bag.repeat_interleave(experts))
        return torch.embedding_bag(y, indices, bag * experts, False, 0, False, gates.view(-1))[0].view(rows, tasks, -1)

    @staticmethod
    def backward(context, gradient):
        gates, y, indices, starts, bags = context.saved_tensors
        rows, tasks, experts = gates.shape
        gradient = gradient.reshape(rows * tasks, -1)
        row, task = torch.arange(rows), torch.arange(tasks)
        transposed = (row[:, None, None] * tasks + task).expand(rows, experts, tasks).reshape(-1)
        weights = gates.transpose(1, 2).reshape(-1)
        dy = torch.embedding_bag(gradient, transposed, torch.arange(rows * experts) * tasks, False, 0, False, weights)[0]
        dgates = torch.ops.aten._embedding_bag_per_sample_weights_backward(gradient, y, indices, starts, bags, 0)
        return dgates.view(gates.shape), dy.view(rows, experts, -1)


class ToExperts(torch.autograd.Function):
    """Rows [n, d] to (row, expert) pairs in the order of the experts [n k, d]. The backward is a gather and a sum, no scattered addition."""

    @staticmethod
    def forward(context, x, order, place, k):
        context.save_for_backward(place)
        context.k = k
        return x.index_select(0, torch.div(order, k, rounding_mode="floor"))

    @staticmethod
    def backward(context, gradient):
        (place,) = context.saved_tensors
        return gradient.index_select(0, place).view(-1, context.k, gradient.shape[1]).sum(1), None, None, None


class FromExperts(torch.autograd.Function):
    """Pairs back to the order of the rows."""

    @staticmethod
    def forward(context, y, order, place):
        context.save_for_backward(order)
        return y.index_select(0, place)

    @staticmethod
    def backward(context, gradient):
        (order,) = context.saved_tensors
        return gradient.index_select(0, order), None, None


class GroupedLinear(torch.autograd.Function):
    """One product an expert over its rows, each written in its place; experts without rows cost nothing."""

    @staticmethod
    def forward(context, x, weight, bias, starts):
        context.save_for_backward(x, weight)
        context.starts = starts
        y = x.new_empty(len(x), weight.shape[1])
        for e, (a, b) in enumerate(zip(starts, starts[1:])):
            if a < b:
                torch.addmm(bias[e], x[a:b], weight[e].t(), out=y[a:b])
        return y

    @staticmethod
    def backward(context, gradient):
        x, weight = context.saved_tensors
        dx, dw, db = torch.empty_like(x), torch.zeros_like(weight), weight.new_zeros(weight.shape[:2])
        for e, (a, b) in enumerate(zip(context.starts, context.starts[1:])):
            if a < b:
                torch.mm(gradient[a:b], weight[e], out=dx[a:b])
                torch.mm(gradient[a:b].t(), x[a:b], out=dw[e])
                torch.sum(gradient[a:b], 0, out=db[e])
        return dx, dw, db, None


class Model:
    def __init__(self, config):
        self.tasks, experts = config["tasks"], config["experts"]
        self.count, self.k = experts["count"], experts.get("k")
        self.embedding = Embedding(config)
        self.parameters = []
        width = config["input_dim"]
        self.projection = self.linear(width, self.embedding.width + config["dense"])
        self.gate = self.linear(self.count * (1 if self.k else self.tasks), width)
        self.experts = []
        for hidden in experts["levels"][0]:
            self.experts.append(self.linear(self.count, hidden, width))
            width = hidden
        self.towers = []
        for hidden in (*config["tower"], 1):
            self.towers.append(self.linear(self.tasks, hidden, width))
            width = hidden

    def linear(self, *shape):
        bound = shape[-1] ** -0.5
        pair = [torch.empty(size).uniform_(-bound, bound).requires_grad_() for size in (shape, shape[:-1])]
        self.parameters += pair
        return pair

    def forward(self, embedded, dense):
        """Logits [tasks, rows], and the load-balance loss of a sparse mixture."""
        x = F.relu_(F.linear(torch.cat((embedded, dense), 1), *self.projection))
        mixed, balance = self.sparse(x) if self.k else self.dense(x)
        for i, (weight, bias) in enumerate(self.towers):
            mixed = torch.baddbmm(bias.unsqueeze(1), mixed, weight.transpose(1, 2))
            if i < len(self.towers) - 1:
                mixed = F.relu_(mixed)
        return mixed.squeeze(2), balance

    def dense(self, x):
        (weight, bias), = self.experts
        y = F.relu_(F.linear(x, weight.flatten(0, 1), bias.flatten())).view(len(x), self.count, -1)
        gates = F.linear(x, *self.gate).view(len(x), self.tasks, self.count).softmax(2)
        mixed = torch.bmm(gates.to(y.dtype), y) if y.dtype == torch.bfloat16 or on_gpu() else Mix.apply(gates, y)
        return mixed.transpose(0, 1), None

    def sparse(self, x):
        logits = F.linear(x, *self.gate)
        chosen, experts = logits.topk(self.k, 1)
        experts, order = torch.sort(experts.flatten(), stable=True)
        place = torch.empty_like(order).index_copy_(0, order, torch.arange(len(order)))
        counts = torch.bincount(experts, minlength=self.count)
        starts = [0, *counts.cumsum(0).tolist()]
        y = ToExperts.apply(x, order, place, self.k)
        for weight, bias in self.experts:
            y = F.relu_(GroupedLinear.apply(y, weight, bias, starts))
        y = FromExperts.apply(y, order, place).view(len(x), self.k, -1)
        weights = chosen.softmax(1).unsqueeze(1)
        mixed = (torch.bmm(weights, y) if on_gpu() else Mix.apply(weights, y)).squeeze(1)
        balance = None
        if torch.is_grad_enabled():
            balance = 0.01 * self.count * (logits.softmax(1).mean(0) * (counts / (len(x) * self.k))).sum()
        return mixed.expand(self.tasks, *mixed.shape), balance


def training_step(model, optimizer, batch, cast):
    embedded = model.embedding.forward(batch).requires_grad_()
    with cast():
        logits, balance = model.forward(embedded, batch.dense)
    loss = F.binary_cross_entropy_with_logits(logits.float(), batch.labels) * model.tasks
    (loss if balance is None else loss + balance).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    model.embedding.update(batch, embedded.grad)
    return loss


def make_optimizer(parameters, settings):
    """AdamW in one pass over all parameters where this version has it on the CPU, else by lists."""
    arguments = {"lr": settings["lr"], "weight_decay": settings.get("weight_decay", 0.0)}
    try:
        return torch.optim.AdamW(parameters, fused=True, **arguments)
    except (RuntimeError, TypeError):
        return torch.optim.AdamW(parameters, foreach=True, **arguments)


def forward_flops(config, rows):
    """Multiplications and additions of the products of one forward pass, the formula of CudaMoE.Benchmarking.BenchmarkConfig."""
    if "experts" not in config:
        return 0
    experts, tasks, sparse = config["experts"], config["tasks"], config["sparse"]

    def chain(widths):
        return sum(a * b for a, b in zip(widths, widths[1:]))

    width, k = config["input_dim"], experts.get("k")
    expert, tower = [width, *experts["levels"][0]], [experts["levels"][0][-1], *config["tower"], 1]
    features = sparse["features"] * sparse["dim"] + config["dense"]
    return 2.0 * rows * (
        features * width + (k or experts["count"]) * chain(expert) + (1 if k else tasks) * experts["count"] * width + tasks * chain(tower)
    )


def prepare(config, arguments, rows):
    """The function to time; it takes the number of the run."""
    training = arguments.mode == "training"
    count = INFERENCE_BATCHES if not training and rows <= LARGEST_SMALL_BATCH else TRAINING_BATCHES
    batches = [Batch(config, rows, i) for i in range(count)]

    def cast():
        return torch.autocast(device(), dtype=torch.bfloat16, enabled=arguments.precision == "bf16")

    if config["model"] == "embedding":
        embedding = Embedding(config)
        gradient = on_device(((uniform(3, rows * embedding.width) - 0.5) / rows).astype(np.float32)).view(rows, -1)

        def embedding_run(i):
            batch = batches[i % count].uploaded()
            embedding.forward(batch)
            if training:
                embedding.update(batch, gradient)

        return embedding_run
    model = Model(config)
    if arguments.compile:
        model.forward = torch.compile(model.forward)
    if training:
        optimizer = make_optimizer(model.parameters, config["optimizer"]["dense"])
        return lambda i: training_step(model, optimizer, batches[i % count].uploaded(), cast)

    def inference_run(i):
        with torch.inference_mode(), cast():
            batch = batches[i % count].uploaded()
            return model.forward(model.embedding.forward(batch), batch.dense)

    return inference_run


def measure(queue, seconds, training):
    """Seconds of each run in ascending order, by the rules of CudaMoE.Benchmarking.ModelBenchmark: on a GPU training steps are queued in groups, whose mean
    counts; a forward pass ends when the GPU has ended it."""

    group = RUNS_OF_GROUP if on_gpu() and training else 1

    def run(i):
        for j in range(group):
            queue(group * i + j)
        if on_gpu():
            torch.cuda.synchronize()

    started, runs = time.perf_counter(), 0
    while runs < 5 or time.perf_counter() - started < seconds / 5:
        run(runs)
        runs += 1
    estimate = (time.perf_counter() - started) / runs
    times = []
    gc.collect()
    gc.disable()
    for i in range(max(9, min(int(seconds / estimate), 1_000_000))):
        started = time.perf_counter()
        run(runs + i)
        times.append((time.perf_counter() - started) / group)
    gc.enable()
    return sorted(times)


def captured(run, count):
    """The runs as CUDA graphs, after three on a stream of their own as PyTorch asks for."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for i in range(3):
            run(i)
    torch.cuda.current_stream().wait_stream(side)
    graphs = []
    for i in range(count):
        graphs.append(torch.cuda.CUDAGraph())
        with torch.cuda.graph(graphs[-1]):
            run(i)
    return lambda i: graphs[i % count].replay()


def main():
    parser = argparse.ArgumentParser(description="Times a reference configuration in PyTorch and prints one JSON line.")
    parser.add_argument("--config", required=True, help="a file of benchmarks/configs")
    parser.add_argument("--mode", choices=("training", "inference"), default="training")
    parser.add_argument("--batch", type=int, help="samples of a batch; default: the configuration's")
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32", help="bf16 is autocast; dense mixtures only")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--tf32", action="store_true", help="f32 products on the tensor cores of a GPU, with operands of 10 bits")
    parser.add_argument("--captured", action="store_true", help="inference on a GPU: from CUDA graphs, one a batch")
    parser.add_argument("--compile", action="store_true", help="the layers above the look-up through torch.compile")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3, help="seconds of timed runs, at least")
    arguments = parser.parse_args()
    with open(arguments.config, encoding="utf-8") as file:
        config = json.load(file)
    if arguments.precision == "bf16" and config["model"] != "mmoe":
        parser.error("--precision bf16 runs dense mixtures only")
    if arguments.device != "cpu":  # versions before 2.0 know no default device
        torch.set_default_device(arguments.device)
    torch.backends.cuda.matmul.allow_tf32 = arguments.tf32
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(config["seed"])
    rows = arguments.batch or config["batch"]
    run = prepare(config, arguments, rows)
    if arguments.captured:
        run = captured(run, INFERENCE_BATCHES if rows <= LARGEST_SMALL_BATCH else TRAINING_BATCHES)
    times = measure(run, arguments.seconds, arguments.mode == "training")
    median = times[len(times) // 2]
    flops = forward_flops(config, rows) * (3 if arguments.mode == "training" else 1)
    print(json.dumps({
        "engine": f"PyTorch {torch.__version__}",
        "name": config["name"],
        "mode": arguments.mode,
        "batch": rows,
        "device": torch.cuda.get_device_name() if on_gpu() else "cpu",
        "tf32": arguments.tf32,
        "captured": arguments.captured,
        "compiled": arguments.compile,
        "threads": arguments.threads,
        "precision": arguments.precision,
        "runs": len(times),
        "minimum_microseconds": times[0] * 1e6,
        "median_microseconds": median * 1e6,
        "p99_microseconds": times[min(len(times) - 1, int(len(times) * 0.99))] * 1e6,
        "samples_per_second": rows / median,
        "gflops": flops / median / 1e9,
    }))


if __name__ == "__main__":
    main()
