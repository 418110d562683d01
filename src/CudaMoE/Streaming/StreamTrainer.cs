using System.Text;
using CudaMoE.Checkpoints;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Layers;
using CudaMoE.Streaming.Xsmoe;
using CudaMoE.Tensors;
using CudaMoE.Training;

namespace CudaMoE.Streaming;

/// <summary>
/// Trains XSMoE on a stream, window after window: train on the first part of a window, stop by NDCG@10 on the rest, keep the best weights, test on the
/// whole next window, then let the mixtures shrink and
/// grow. Each window leaves a checkpoint.
/// </summary>
/// <remarks>
/// A run that was killed goes on behind its last finished window: the broken one is trained again from its beginning, and as all randomness follows from
/// seed, window and step, with the same bits.
/// </remarks>
public sealed class StreamTrainer : IDisposable
{
    private const string DescriptionFile = "stream.json";
    private readonly StreamDescription _description;
    private readonly IStreamObserver? _observer;
    private readonly InteractionStream _stream;
    private readonly StateSources _states;
    private readonly Device _device;

    private StreamTrainer(StreamDescription description, StreamOptions options, IStreamObserver? observer, CancellationToken cancellation)
    {
        _description = description;
        _observer = observer;
        StreamDataDescription data = description.Data;
        InteractionLog log = InteractionLog.Read(data.Log, data.Format, data.UserColumn, data.ItemColumn, data.TimeColumn);
        _stream = InteractionStream.Cut(
            log, new() { Windows = data.Windows, UserCore = data.UserCore, ItemCore = data.ItemCore, ValidationFraction = data.ValidationFraction });
        _device = Device.Open(options.Device);
        try
        {
            _states = StateSources.Open(description, _stream.Items, _device, Path.Combine(options.Folder, "states"), observer, cancellation);
        }
        catch
        {
            _device.Dispose();
            throw;
        }
    }

    /// <summary>Runs a stream in a folder, or goes on with it.</summary>
    /// <param name="description">The stream, with absolute paths.</param>
    /// <param name="options">Device and folder.</param>
    /// <param name="observer">Is told what happens; null = nobody.</param>
    /// <param name="cancellation">Ends the run; the window under way is lost.</param>
    /// <exception cref="CudaMoEException">Description, data, device or training failed, or the folder holds another description's windows; the message
    /// says what to do.</exception>
    public static StreamResult Run(StreamDescription description, StreamOptions options, IStreamObserver? observer = null, CancellationToken cancellation = default)
    {
        StreamDescriptionJson.Validate(description);
        CheckpointStore store = Prepare(description, options.Folder);
        using StreamTrainer trainer = new(description, options, observer, cancellation);
        return trainer.Run(store, options, cancellation);
    }

    /// <summary>Deletes the checkpoints behind a window, so that the next run goes on behind it.</summary>
    /// <param name="description">The stream of the folder.</param>
    /// <param name="folder">The run's folder.</param>
    /// <param name="window">The last window that stays; 0 deletes all.</param>
    /// <exception cref="CudaMoEException">The folder has fewer windows, or is of another description.</exception>
    public static void RollBack(StreamDescription description, string folder, int window)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(window);
        CheckpointStore store = Prepare(description, folder);
        IReadOnlyList<string> windows = store.List();
        if (window > windows.Count)
            throw new CudaMoEException($"{folder} has {windows.Count} finished windows; it cannot be rolled back to window {window}");
        store.RollBack(window);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _states.Dispose();
        _device.Dispose();
    }

    private static CheckpointStore Prepare(StreamDescription description, string folder)
    {
        string path = Path.Combine(folder, DescriptionFile);
        string text = StreamDescriptionJson.Write(description);
        if (!File.Exists(path))
        {
            Directory.CreateDirectory(folder);
            AtomicFile.Write(path, Encoding.UTF8.GetBytes(text));
        }
        else if (!IsSame(path, text))
        {
            throw new CudaMoEException($"{folder} holds the windows of another description, see {path}; give another folder, or delete this one");
        }

        return new(Path.Combine(folder, "windows"), keep: int.MaxValue);
    }

    /// <summary>Whether a run's description is this one. It is written anew for that, since a newer version writes keys that an older one does not know.</summary>
    private static bool IsSame(string path, string text)
    {
        try
        {
            return StreamDescriptionJson.Write(StreamDescriptionJson.Parse(File.ReadAllText(path))) == text;
        }
        catch (DescriptionException)
        {
            return false;
        }
    }

    private StreamResult Run(CheckpointStore store, StreamOptions options, CancellationToken cancellation)
    {
        int layers = _description.Model.Layers.Count;
        string[] names = [.. _description.Modalities.Select(modality => modality.Name)];
        int[] widths = [.. _states.States.Select(states => states.Width)];
        List<StreamWindowResult> results = [];
        StreamCheckpoint? last = null;
        foreach (string path in store.List())
        {
            last = StreamCheckpoint.Read(CheckpointFolder.Open(path), names, widths, layers);
            results.Add(last.Result);
            if (last.Result.Window != results.Count)
                throw new CheckpointFormatException(path, $"is of window {last.Result.Window}; window {results.Count} was expected");
        }

        _observer?.OnStarted(_stream, results.Count);
        int trained = _description.Data.Windows - 1;
        for (int number = results.Count + 1; number <= Math.Min(trained, options.Until ?? trained); number++)
        {
            last = TrainWindow(number, last, store, cancellation);
            results.Add(last.Result);
            _observer?.OnWindow(last.Result);
        }

        bool complete = results.Count == trained;
        List<RankingMetrics?> retained = complete ? Retained(last!) : [];
        double[] lost = [.. retained.SkipLast(1).Zip(results, (now, then) => then.Validation?.Ndcg10 - now?.Ndcg10).OfType<double>()];
        RankingMetrics[] tests = [.. results.Select(result => result.Test).OfType<RankingMetrics>()];
        return new()
        {
            Folder = Path.GetFullPath(options.Folder),
            Complete = complete,
            Windows = results,
            Mean = tests.Length == 0
                ? null
                : new(tests.Sum(t => t.Sequences), tests.Average(t => t.HitRate10), tests.Average(t => t.Ndcg10), tests.Average(t => t.HitRate20), tests.Average(t => t.Ndcg20)),
            Retained = retained,
            Forgetting = lost.Length == 0 ? null : lost.Average(),
        };
    }

    /// <summary>Trains, tests and saves one window.</summary>
    private StreamCheckpoint TrainWindow(int number, StreamCheckpoint? last, CheckpointStore store, CancellationToken cancellation)
    {
        ulong seed = _description.Training.Seed;
        Dictionary<string, float[]>? weights = last is null ? null : new(last.Weights);
        IReadOnlyList<SideShape> sides = last is null
            ? FirstSides()
            : ExpertGrowth.Apply(last.Sides, _description.Model.Adapter, weights!, last.Utilization, _description.Growth, seed, number - 1);
        using XsmoeModel model = new(_device, Shape(sides), _states.States);
        Store(model, weights ?? InitialWeights.Draw(model.Parameters, seed));

        StreamWindow window = _stream.Windows[number - 1];
        StreamWindow next = _stream.Windows[number];
        SequenceSet training = SequenceSet.Of(window.Train, _description.Model.History);
        WindowFit fit = new WindowFit(_description, model, number, last?.Steps ?? 0, training, () => Validate(model, number), _observer).Run(cancellation);
        RankingMetrics? validation = Validate(model, number);
        SequenceSet test = SequenceSet.Of(next.Rows, _description.Model.History);
        RankingMetrics? tested = test.Count == 0 ? null : RankingMetrics.Of(FullRanking.Ranks(model, test, HistoryUntil(number, window.Rows), FullRanking.UpTo(next.Rows)));
        double[][][] utilization = ExpertUtilization.Measure(model, Counts(training, window, next));
        long frozen = sides.Sum(side => side.Layers.Sum(experts => 2L * experts.Frozen * _description.Model.Adapter * side.Width));
        StreamCheckpoint checkpoint = new()
        {
            Weights = model.Parameters.ToDictionary(p => p.Name, model.Read),
            Sides = sides,
            Utilization = utilization,
            Steps = fit.Steps,
            Result = new()
            {
                Window = number,
                TrainSequences = training.Count,
                Epochs = fit.Epochs,
                BestEpoch = fit.BestEpoch,
                Loss = fit.Loss,
                Validation = validation,
                Test = tested,
                Experts = StreamCheckpoint.ExpertCounts(sides),
                Parameters = model.Parameters.Sum(p => p.Count),
                TrainedParameters = model.Parameters.Sum(p => p.Count) - frozen,
            },
        };
        store.Save(checkpoint.Content(_description, model.Parameters.ToDictionary(p => p.Name, p => p.Shape.ToArray())));
        return checkpoint;
    }

    /// <summary>The kept weights of the last window on every window's own last events.</summary>
    private List<RankingMetrics?> Retained(StreamCheckpoint last)
    {
        using XsmoeModel model = new(_device, Shape(last.Sides), _states.States);
        Store(model, last.Weights);
        return [.. Enumerable.Range(1, _description.Data.Windows - 1).Select(number => Validate(model, number))];
    }

    /// <summary>Ranks a window's own last events among their items; null where they hold no sequence.</summary>
    private RankingMetrics? Validate(XsmoeModel model, int number)
    {
        StreamWindow window = _stream.Windows[number - 1];
        SequenceSet set = SequenceSet.Of(window.Validation, _description.Model.History);
        return set.Count == 0
            ? null
            : RankingMetrics.Of(FullRanking.Ranks(model, set, HistoryUntil(number, window.Train), FullRanking.Of(window.Validation)));
    }

    /// <summary>What users met in the windows before one, and in a slice of it.</summary>
    private UserHistory HistoryUntil(int number, ReadOnlySpan<Interaction> slice)
    {
        UserHistory history = new();
        foreach (StreamWindow window in _stream.Windows.Take(number - 1))
            history.Add(window.Rows);
        history.Add(slice);
        return history;
    }

    /// <summary>How often each item counts for utilisation.</summary>
    private long[] Counts(SequenceSet training, StreamWindow window, StreamWindow next)
    {
        long[] counts = new long[_stream.Items.Count];
        foreach (int item in training.AllItems)
            counts[item]++;
        if (_description.Growth.Utilization == UtilizationPasses.Training)
            return counts;
        foreach (bool[] candidates in (bool[][])[FullRanking.Of(window.Validation), FullRanking.UpTo(next.Rows)])
        {
            for (int item = 1; item < candidates.Length; item++)
                counts[item] += candidates[item] ? 1 : 0;
        }

        return counts;
    }

    private List<SideShape> FirstSides() =>
    [
        .. _description.Modalities.Select((modality, i) => new SideShape
        {
            Name = modality.Name,
            Width = _states.States[i].Width,
            Layers = [.. _description.Model.Layers.Select(_ => new SideExperts(1, 0))],
        }),
    ];

    private XsmoeShape Shape(IReadOnlyList<SideShape> sides) => XsmoeShape.Of(_description, sides, _description.Training.BatchSize, _stream.Items.Count);

    private static void Store(XsmoeModel model, Dictionary<string, float[]> weights)
    {
        foreach (Parameter parameter in model.Parameters)
            model.Stream.CopyToDevice<float>(weights[parameter.Name], parameter.Value);
        model.ParametersChanged();
    }

    /// <summary>The epochs of one window, and the best weights of them.</summary>
    private sealed class WindowFit(
        StreamDescription description, XsmoeModel model, int window, long stepsBefore, SequenceSet training, Func<RankingMetrics?> validate, IStreamObserver? observer)
    {
        private readonly StreamTrainingDescription _options = description.Training;
        private readonly long _stepsBefore = stepsBefore;

        /// <summary>Steps since the stream began.</summary>
        public long Steps { get; private set; } = stepsBefore;

        public int Epochs { get; private set; }

        public int BestEpoch { get; private set; }

        public double Loss { get; private set; }

        public WindowFit Run(CancellationToken cancellation)
        {
            if (training.Count == 0)
                return this;
            double[] popularity = training.Popularity(training.AllItems.ToArray().Max());
            double best = double.NegativeInfinity;
            Dictionary<string, float[]>? kept = null;
            for (int waited = 0; Epochs < _options.Epochs && waited < _options.Patience;)
            {
                Loss = Epoch(popularity, cancellation);
                Epochs++;
                double? ndcg = Epochs > _options.QuietEpochs ? validate()?.Ndcg10 : null;
                observer?.OnEpoch(window, Epochs, Loss, ndcg);
                if (ndcg is null)
                    continue;
                waited++;
                if (ndcg <= best)
                    continue;
                waited = 0;
                best = ndcg.Value;
                BestEpoch = Epochs;
                kept = model.Parameters.ToDictionary(p => p.Name, model.Read);
            }

            if (kept is null)
                BestEpoch = Epochs;
            else
                Store(model, kept);
            return this;
        }

        private double Epoch(double[] popularity, CancellationToken cancellation)
        {
            float rate = MathF.Max(_options.MinimumLearningRate, _options.LearningRate * MathF.Pow(_options.LearningRateDecay, Epochs));
            Permutation order = new(training.Count, _options.Seed, ((ulong)window << 32) + (ulong)Epochs);
            double sum = 0;
            for (int first = 0; first < training.Count; first += _options.BatchSize)
            {
                cancellation.ThrowIfCancellationRequested();
                int[] chosen = [.. Enumerable.Range(first, Math.Min(_options.BatchSize, training.Count - first)).Select(place => (int)order[place])];
                XsmoeBatch batch = XsmoeBatch.ForTraining(training, chosen, description.Model.History, popularity, model.ScoreStride);
                Steps++;
                double loss = model.Loss(batch, Steps);
                if (!double.IsFinite(loss))
                    throw new NonFiniteException($"the loss of window {window}, epoch {Epochs + 1}, is {loss}; try a lower training.learning_rate");
                sum += loss * chosen.Length;
                if (batch.Items.Length < 2)
                    continue;
                model.Backward(batch);
                model.Update(rate, Steps - _stepsBefore);
            }

            return sum / training.Count;
        }
    }
}
