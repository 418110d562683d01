using CudaMoE.Balancing;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Models;

namespace CudaMoE.Training;

/// <summary>
/// One optimisation step of a model: forward, losses, balanced backward, update, and for balancers that ask for it the new losses of the same batch. It allocates nothing.
/// </summary>
/// <remarks>
/// On a device whose memory the host cannot read, steps are queued: the losses of a step are read by <see cref="Finish"/>, which waits for the
/// device, or some steps later when no more can be kept. Balancers that ask for a Gram matrix or look at losses wait for them in each of their steps.
/// Where a step can be captured it is one call of the device, or two with the balancer between them.
/// </remarks>
/// <remarks>Not thread-safe.</remarks>
public sealed class TrainingStep
{
    private readonly MultiTaskModel _model;
    private readonly TrainingDescription _training;
    private readonly double[] _gram;
    private readonly double[] _weights;
    private readonly float[] _deviceWeights;
    private readonly bool[] _valid;
    private readonly double[] _ownWeights;
    private readonly double[] _losses;
    private readonly bool _balances;
    private readonly bool _looksAtLosses;
    private readonly bool _looksAlways;
    private readonly long _totalSteps;
    private int _unread;
    private long _lastStep;
    private readonly double[] _columns;
    private readonly GradientObserver? _observer;

    /// <summary>Prepares steps of <paramref name="model"/>.</summary>
    /// <param name="model">A model built for training.</param>
    /// <param name="totalSteps">Steps of the whole run, for the schedule.</param>
    public TrainingStep(MultiTaskModel model, long totalSteps)
    {
        _model = model;
        _training = model.Description.Training;
        _totalSteps = totalSteps;
        int tasks = model.Outputs.Count;
        _gram = new double[tasks * tasks];
        _weights = new double[tasks];
        Array.Fill(_weights, 1.0);
        _deviceWeights = new float[tasks];
        _valid = new bool[tasks];
        _losses = new double[tasks];
        Totals = new(tasks);
        _ownWeights = [.. model.Description.Tasks.Select(t => t.Weight)];
        Balancer = BalancerFactory.Create(_training.Balancer, _ownWeights, _training.Seed, Math.Max(1, totalSteps / _training.Epochs), model.GradientVectors);
        _columns = new double[Balancer.NeedsColumns == ColumnKind.None ? 0 : tasks * model.GradientWidth * (Balancer.NeedsColumns == ColumnKind.Halves ? 2 : 1)];
        // Equal weights are 1, and static ones multiply the losses themselves: the representation's gradient needs no weights then.
        BalancerFamily family = BalancerFacts.Of(_training.Balancer.Type).Family;
        _balances = family != BalancerFamily.Fixed;
        Pairs = new(tasks);
        if (_training.Balancer.ObserveEvery > 0)
            _observer = new(_training.Balancer.ObserveEvery, tasks);
        _looksAtLosses = family == BalancerFamily.Losses;
        // Where the host reads the device's memory, a loss that is not finite stops its step; balancers of columns scale them on the way.
        _looksAlways = model.LossesKept == 1 || _looksAtLosses || family == BalancerFamily.Columns;
    }

    /// <summary>The balancer and its state.</summary>
    public IBalancer Balancer { get; }

    /// <summary>Weights of the last step, in the order of the tasks.</summary>
    public ReadOnlySpan<double> Weights => _balances ? _weights : _training.Balancer.Type == BalancerType.Static ? _ownWeights : _weights;

    /// <summary>Losses of the last step whose losses were read.</summary>
    public ReadOnlySpan<double> Losses => _losses;

    /// <summary>Whether the last step formed a Gram matrix.</summary>
    public bool HasGram { get; private set; }

    /// <summary>Whether Gram matrices are formed to be looked at only, not for the balancer.</summary>
    public bool Observes => _observer != null;

    /// <summary>Norms of the tasks' gradients at the last step that formed a Gram matrix.</summary>
    public ReadOnlySpan<double> GradientNorms => _observer == null ? Balancer.Diagnostics.Norms : _observer.Norms;

    /// <summary>Cosines between the tasks' gradients at the last step that formed a Gram matrix, [tasks, tasks]; NaN for a task without one.</summary>
    public ReadOnlySpan<double> Cosines => _observer == null ? Balancer.Diagnostics.Cosines : _observer.Cosines;

    /// <summary>Learning rate of the dense parameters at the last step.</summary>
    public double LearningRate { get; private set; }

    /// <summary>Sums of the losses that were read; whoever reports them clears them.</summary>
    internal LossTotals Totals { get; }

    /// <summary>Sums of the cosines; whoever reports them clears them.</summary>
    internal PairTotals Pairs { get; }

    /// <summary>Runs a step, or queues it.</summary>
    /// <param name="batch">The samples; may be refilled when this returns.</param>
    /// <param name="step">Counts from 1.</param>
    /// <exception cref="NonFiniteException">A loss is not finite, of this step (the parameters are as before it) or of an earlier one that was queued.</exception>
    public void Run(Batch batch, long step)
    {
        double factor = LearningRateSchedule.Factor(_training.Schedule, step, _totalSteps);
        LearningRate = _training.Optimizer.LearningRate * factor;
        StepRates rates = new((float)LearningRate, (float)(_training.EmbeddingOptimizer.LearningRate * factor), step);
        bool needsGram = _balances && Balancer.NeedsGram(step - 1);
        bool observes = _observer != null && _observer.IsDue(step - 1);
        HasGram = needsGram || observes;
        if (_looksAlways || HasGram)
            RunInParts(batch, rates, needsGram, observes);
        else
            RunWhole(batch, rates);
        if (HasGram)
            Pairs.Add(Cosines);
        if (Balancer.NeedsLossesAfterStep)
        {
            // What was queued is read first: the losses that can be kept are counted by the runs of the losses.
            Finish();
            _model.LossesAfterStep(batch, rates);
            Balancer.ObserveAfterStep(new BalancerInput(step - 1, _model.Losses, default, _valid));
        }
        else if (_unread == _model.LossesKept)
        {
            Finish();
        }
    }

    /// <summary>Waits for the device, and reads the losses of all steps that were run.</summary>
    /// <exception cref="NonFiniteException">One of them is not finite.</exception>
    /// <exception cref="ReportedDataException">An operation met bad data.</exception>
    public void Finish()
    {
        _model.Stream.Synchronize();
        ReadLosses(batch: null);
    }

    private void RunWhole(Batch batch, in StepRates rates)
    {
        _model.Step(batch, _balances ? Balance(batch, rates.Step - 1, needsGram: false) : [], rates);
        Queued(rates.Step);
    }

    /// <summary>A step in the middle of which the host looks at losses or gradients.</summary>
    private void RunInParts(Batch batch, in StepRates rates, bool needsGram, bool observes)
    {
        _model.StepToTowers(batch, rates);
        Queued(rates.Step);
        if (_model.LossesKept == 1)
            ReadLosses(batch);
        if (observes)
            Observe(batch);
        ReadOnlySpan<float> weights = _balances ? Balance(batch, rates.Step - 1, needsGram) : [];
        _model.StepFromTrunk(weights, needsGram);
    }

    private void Queued(long step)
    {
        _unread++;
        _lastStep = step;
    }

    private void Observe(Batch batch)
    {
        _model.ComputeGram(_gram);
        MarkValid(batch);
        _observer!.Look(_gram, _valid);
    }

    private void MarkValid(Batch batch)
    {
        for (int t = 0; t < _valid.Length; t++)
            _valid[t] = batch.HasLabels(t);
    }

    /// <summary>The weights of the step with this index.</summary>
    private ReadOnlySpan<float> Balance(Batch batch, long index, bool needsGram)
    {
        if (needsGram)
            _model.ComputeGram(_gram);
        if (needsGram && _columns.Length > 0)
            _model.ComputeColumns(Balancer.NeedsColumns, _columns);
        MarkValid(batch);
        // The Gram matrix was waited for, so this step's losses are at hand then; a balancer of losses waits for them; between two evaluations none is looked at.
        ReadOnlySpan<double> losses = needsGram || _looksAtLosses ? _model.Losses : _losses;
        Balancer.Weights(new BalancerInput(index, losses, needsGram ? _gram : [], _valid, needsGram ? _columns : []), _weights);
        for (int t = 0; t < _weights.Length; t++)
            _deviceWeights[t] = (float)_weights[t];
        if (!Balancer.ColumnWeights.IsEmpty)
            _model.ScaleColumns(Balancer.ColumnWeights);
        return _deviceWeights;
    }

    /// <summary>Checks and adds up the losses that were not read yet, in the order of their steps.</summary>
    /// <param name="batch">The batch of the last step, to look for the reason of a bad loss; null when it may hold other samples by now.</param>
    private void ReadLosses(Batch? batch)
    {
        for (; _unread > 0; _unread--)
        {
            _model.EarlierLosses(_unread - 1).CopyTo(_losses);
            for (int t = 0; t < _losses.Length; t++)
            {
                if (!double.IsFinite(_losses[t]))
                {
                    throw new NonFiniteException(
                        $"step {_lastStep - _unread + 1}: the loss of task {_model.Description.Tasks[t].Name} is {_losses[t]}; the first tensor that is not finite is {NonFiniteFinder.OfLoss(_model, batch, t)}");
                }
            }

            Totals.Add(_losses, _model.EarlierLossWeights(_unread - 1));
        }
    }
}
