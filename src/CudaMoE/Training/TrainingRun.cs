using System.Diagnostics;
using CudaMoE.Balancing;
using CudaMoE.Checkpoints;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Layers;
using CudaMoE.Models;
using CudaMoE.Tensors;

namespace CudaMoE.Training;

/// <summary>One run from its start, or from a checkpoint, to its end.</summary>
internal sealed class TrainingRun
{
    private const string LossSums = "loss_sums";
    private const string PairSums = "pair_sums";
    private const string LossWeights = "loss_weights";

    private readonly ModelDescription _description;
    private readonly TrainingDescription _training;
    private readonly Dataset _dataset;
    private readonly Device _device;
    private readonly RunFolder _folder;
    private readonly RunLog _log;
    private readonly TrainerOptions _options;
    private readonly ITrainingObserver _observer;
    private readonly MultiTaskModel _model;
    private readonly TrainingStep _trainingStep;
    private readonly CheckpointStore _store;
    private readonly EarlyStopping? _earlyStopping;
    private readonly long _stepsPerEpoch;
    private readonly long _logEvery;
    private readonly Stopwatch _clock = Stopwatch.StartNew();
    private readonly ThroughputMeter _throughput = new();
    private long _step;
    private int _epoch;
    private long _batch;

    public TrainingRun(
        ModelDescription description,
        Dataset dataset,
        Device device,
        MultiTaskModel model,
        RunFolder folder,
        RunLog log,
        TrainerOptions options,
        ITrainingObserver observer)
    {
        _description = description;
        _training = description.Training;
        _dataset = dataset;
        _device = device;
        _folder = folder;
        _log = log;
        _options = options;
        _observer = observer;
        _stepsPerEpoch = (dataset.Train.Rows + _training.BatchSize - 1) / _training.BatchSize;
        _logEvery = options.LogEvery ?? Math.Max(1, _stepsPerEpoch / 50);
        _earlyStopping = _training.EarlyStopping == null ? null : new(_training.EarlyStopping);
        _store = new(folder.CheckpointsPath, options.KeepCheckpoints);
        _model = model;
        _trainingStep = new(_model, _stepsPerEpoch * _training.Epochs);
    }

    private long TotalSteps => _stepsPerEpoch * _training.Epochs;

    public TrainingResult Start(CancellationToken cancellation)
    {
        RunStartedEvent started = Started();
        _log.Append(started);
        _observer.OnStarted(_folder.Path, started);
        return Guard(() =>
        {
            SaveCheckpoint(best: false);
            return Loop(cancellation);
        });
    }

    public TrainingResult Resume(CheckpointFolder checkpoint, CancellationToken cancellation)
    {
        Load(checkpoint);
        TrainingState state = checkpoint.State;
        _step = state.Step;
        _epoch = state.Epoch;
        _batch = state.Batch;
        _trainingStep.Balancer.Load(state.Balancer);
        _earlyStopping?.Load(state.EarlyStopping);
        state.Running.TryGetValue(LossSums, out IReadOnlyList<double>? sums);
        state.Running.TryGetValue(LossWeights, out IReadOnlyList<double>? weights);
        _trainingStep.Totals.Load(sums, weights);
        state.Running.TryGetValue(PairSums, out IReadOnlyList<double>? pairs);
        _trainingStep.Pairs.Load(pairs);

        RunResumedEvent resumed = new()
        {
            Step = _step,
            Checkpoint = Path.GetRelativePath(_folder.Path, checkpoint.Folder),
            Version = RunFacts.Version,
            Device = RunFacts.DeviceName(_device),
            Level = _device.Info.Level,
            Threads = _device.Info.Threads,
        };
        _log.Append(resumed);
        _observer.OnResumed(_folder.Path, Started(), resumed);
        return Guard(() => Loop(cancellation));
    }

    private TrainingResult Guard(Func<TrainingResult> body)
    {
        try
        {
            return body();
        }
        catch (Exception e)
        {
            End(RunStatus.Failed, e.Message);
            throw;
        }
    }

    private TrainingResult Loop(CancellationToken cancellation)
    {
        RunStatus status = RunStatus.Completed;
        string? message = null;
        while (_epoch < _training.Epochs)
        {
            if (_earlyStopping?.ShouldStop == true)
            {
                status = RunStatus.EarlyStopped;
                message = _earlyStopping.Reason;
                break;
            }

            if (!TrainEpoch(cancellation))
                return Cancel();
            if (!FinishEpoch(cancellation))
                return Cancel();
        }

        return Test(status, message, cancellation);
    }

    /// <summary>The batches of the current epoch that are left; false when cancelled.</summary>
    private bool TrainEpoch(CancellationToken cancellation)
    {
        _throughput.Restart();
        using BatchLoader loader = _dataset.Train.CreateLoader(new()
        {
            BatchSize = _training.BatchSize,
            Shuffle = true,
            Seed = _training.Seed,
            Epoch = _epoch,
            FirstBatch = _batch,
            Prefetch = _options.Prefetch,
        });
        while (loader.TryTake(out Batch? batch))
        {
            _step++;
            _trainingStep.Run(batch, _step);
            bool logs = _step % _logEvery == 0 || _step == 1;
            bool saves = _training.CheckpointSteps is { } every && _step % every == 0 && _batch + 1 < _stepsPerEpoch;
            if (logs || saves || _model.LossesKept == 1)
                _trainingStep.Finish();
            _throughput.Add(batch.Rows);
            _observer.OnProgress(new(_epoch + 1, _training.Epochs, _step, TotalSteps, _throughput.Recent, Mean(_trainingStep.Losses)));
            if (logs)
                LogStep(batch);
            _batch++;
            loader.Return(batch);
            if (saves)
                SaveCheckpoint(best: false);
            if (cancellation.IsCancellationRequested)
            {
                _trainingStep.Finish();
                return false;
            }
        }

        _trainingStep.Finish();
        return true;
    }

    /// <summary>Validation, log and checkpoint of a finished epoch; false when cancelled.</summary>
    private bool FinishEpoch(CancellationToken cancellation)
    {
        double trainSeconds = _throughput.Seconds;
        double samplesPerSecond = _throughput.Mean;
        Evaluation? validation = null;
        if (_dataset.Validation is { Rows: > 0 } rows)
        {
            try
            {
                validation = Evaluator.Evaluate(_model, rows, _dataset.Encoders, _observer, cancellation);
            }
            catch (OperationCanceledException)
            {
                return false;
            }
        }

        double[] trainLosses = _trainingStep.Totals.Means;
        bool best = _earlyStopping?.Observe(validation?.Metrics ?? [], _epoch + 1) ?? false;
        _epoch++;
        _batch = 0;
        _trainingStep.Totals.Clear();
        IReadOnlyList<TaskPair>? pairs = _trainingStep.Pairs.Pairs([.. _description.Tasks.Select(task => task.Name)]);
        _trainingStep.Pairs.Clear();
        EpochEvent logged = new()
        {
            Step = _step,
            Epoch = _epoch,
            TrainLosses = trainLosses,
            Validation = LoggedMetrics.Of(validation?.Metrics ?? []),
            Score = _earlyStopping?.Last,
            Best = best,
            Pairs = pairs,
            TrainSeconds = trainSeconds,
            ValidationSeconds = validation?.Seconds ?? 0,
            SamplesPerSecond = samplesPerSecond,
        };
        _log.Append(logged);
        _observer.OnEpoch(logged);
        SaveCheckpoint(best);
        return true;
    }

    private TrainingResult Test(RunStatus status, string? message, CancellationToken cancellation)
    {
        CheckpointFolder? tested = (_earlyStopping == null ? null : _store.OpenBest()) ?? _store.OpenLatest();
        if (tested != null)
            LoadWeights(tested);
        IReadOnlyList<TaskMetrics> metrics = [];
        if (_dataset.Test is { Rows: > 0 } rows)
        {
            Evaluation evaluation;
            try
            {
                evaluation = Evaluator.Evaluate(_model, rows, _dataset.Encoders, _observer, cancellation);
            }
            catch (OperationCanceledException)
            {
                End(RunStatus.Cancelled, "cancelled during the test; resume runs it again");
                return new(RunStatus.Cancelled, _folder.Path, tested?.Folder, [], _step);
            }

            metrics = LoggedMetrics.Of(evaluation.Metrics);
            LogEvaluation(evaluation, metrics, rows.Name, tested?.State.Epoch ?? _epoch);
        }

        End(status, message);
        return new(status, _folder.Path, tested?.Folder, metrics, _step);
    }

    private TrainingResult Cancel()
    {
        SaveCheckpoint(best: false);
        End(RunStatus.Cancelled, "a checkpoint was saved; resume goes on from it");
        return new(RunStatus.Cancelled, _folder.Path, _store.OpenLatest()?.Folder, [], _step);
    }

    private void LogEvaluation(Evaluation evaluation, IReadOnlyList<TaskMetrics> metrics, string split, int epoch)
    {
        if (evaluation.Gates is { } use)
        {
            GatesEvent gates = new()
            {
                Step = _step,
                Split = split,
                Gates = _model.GateCount == 1 && _description.Tasks.Count > 1 ? ["all tasks"] : [.. _description.Tasks.Select(t => t.Name)],
                Experts = _model.ExpertCount,
                MeanWeights = use.MeanWeights,
                ExpertLoad = use.ExpertLoad,
            };
            _log.Append(gates);
            _observer.OnGates(gates);
        }

        CalibrationEvent calibration = new() { Step = _step, Split = split, Tasks = LoggedMetrics.Calibration(evaluation.Metrics) };
        _log.Append(calibration);
        _observer.OnCalibration(calibration);
        TestEvent test = new() { Step = _step, Epoch = epoch, Metrics = metrics, Seconds = evaluation.Seconds };
        _log.Append(test);
        _observer.OnTest(test);
    }

    private void LogStep(Batch batch)
    {
        double[] losses = [.. _trainingStep.Losses];
        for (int t = 0; t < losses.Length; t++)
        {
            if (_model.LossWeights[t] == 0)
                losses[t] = double.NaN;
        }

        BalancerDiagnostics? seen = _trainingStep.HasGram && !_trainingStep.Observes ? _trainingStep.Balancer.Diagnostics : null;
        double norm = _model.LastGradientNorm;
        StepEvent logged = new()
        {
            Step = _step,
            Epoch = _epoch + 1,
            SamplesPerSecond = _throughput.Recent,
            LearningRate = _trainingStep.LearningRate,
            Losses = losses,
            Weights = [.. _trainingStep.Weights],
            Lambda = seen == null ? null : [.. seen.Lambda],
            GradientNorms = _trainingStep.HasGram ? [.. _trainingStep.GradientNorms] : null,
            Cosines = _trainingStep.HasGram ? [.. _trainingStep.Cosines] : null,
            GradientNorm = double.IsNaN(norm) ? null : norm,
            DroppedRows = _model.IsSparse ? Sum(_model.DroppedPairs) : null,
            ExpertLoad = _model.HasGates ? RunFacts.ExpertLoad(_model, batch.Rows) : null,
        };
        _log.Append(logged);
        _observer.OnStep(logged);
    }

    private void SaveCheckpoint(bool best)
    {
        if (NonFiniteFinder.InParameters(_model) is { } name)
            throw new NonFiniteException($"step {_step}: parameter {name} is not finite; the last good checkpoint is kept, lower the learning rate or clip the gradients");
        string path = _store.Save(ModelCheckpoint.Content(_model, _dataset.Encoders, State()), best);
        CheckpointEvent logged = new() { Step = _step, Path = Path.GetRelativePath(_folder.Path, path), Best = best };
        _log.Append(logged);
        _observer.OnCheckpoint(logged);
    }

    private TrainingState State() => new()
    {
        Step = _step,
        Epoch = _epoch,
        Batch = _batch,
        Seed = _training.Seed,
        Balancer = _trainingStep.Balancer.Save(),
        EarlyStopping = _earlyStopping?.Save(),
        Running = new Dictionary<string, IReadOnlyList<double>> { [LossSums] = [.. _trainingStep.Totals.Sums], [LossWeights] = [.. _trainingStep.Totals.Weights], [PairSums] = [.. _trainingStep.Pairs.Sums] },
    };

    private void Load(CheckpointFolder checkpoint)
    {
        LoadWeights(checkpoint);
        using SafetensorsReader optimizer = checkpoint.OpenOptimizer();
        ModelCheckpoint.LoadOptimizer(_model, optimizer);
    }

    private void LoadWeights(CheckpointFolder checkpoint)
    {
        using SafetensorsReader weights = checkpoint.OpenWeights();
        ModelCheckpoint.LoadWeights(_model, weights);
    }

    private void End(RunStatus status, string? message)
    {
        IReadOnlyList<string> notes = _device.QueryNotes();
        RunEndedEvent ended = new() { Step = _step, Status = status, Message = message, DeviceNotes = notes.Count > 0 ? notes : null, Seconds = _clock.Elapsed.TotalSeconds };
        _log.Append(ended);
        _observer.OnEnded(ended);
    }

    private RunStartedEvent Started() => new()
    {
        Step = 0,
        Name = _description.Name,
        Version = RunFacts.Version,
        Device = RunFacts.DeviceName(_device),
        Level = _device.Info.Level,
        Threads = _device.Info.Threads,
        Architecture = RunFacts.SnakeCase(_description.Architecture.Type),
        Tasks = [.. _description.Tasks.Select(t => t.Name)],
        Experts = _model.ExpertCount,
        DenseParameters = _model.Parameters.Where(p => p.Kind is not (ParameterKind.Embedding or ParameterKind.Frozen)).Sum(p => p.Count),
        EmbeddingParameters = _model.Parameters.Where(p => p.Kind == ParameterKind.Embedding).Sum(p => p.Count),
        TrainRows = _dataset.Train.Rows,
        ValidationRows = _dataset.Validation?.Rows ?? 0,
        TestRows = _dataset.Test?.Rows ?? 0,
        BatchSize = _training.BatchSize,
        Epochs = _training.Epochs,
        StepsPerEpoch = _stepsPerEpoch,
        Seed = _training.Seed,
        Balancer = RunFacts.SnakeCase(_training.Balancer.Type),
        BalancerPlace = RunFacts.SnakeCase(_training.Balancer.Place),
    };

    private static double Mean(ReadOnlySpan<double> values)
    {
        double sum = 0;
        foreach (double value in values)
            sum += value;
        return sum / values.Length;
    }

    private static long Sum(ReadOnlySpan<long> values)
    {
        long sum = 0;
        foreach (long value in values)
            sum += value;
        return sum;
    }
}
