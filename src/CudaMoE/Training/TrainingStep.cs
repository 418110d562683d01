using CudaMoE.Balancing;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Models;

namespace CudaMoE.Training;

/// <summary>
/// One optimisation step of a model: forward, losses, balanced backward, update. It allocates nothing.
/// </summary>
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
    private readonly bool _balances;
    private readonly long _totalSteps;

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
        _ownWeights = [.. model.Description.Tasks.Select(t => t.Weight)];
        Balancer = BalancerFactory.Create(_training.Balancer, _ownWeights);
        // Equal weights are 1, and static ones multiply the losses themselves: the representation's gradient needs no weights then.
        _balances = _training.Balancer.Type is not (BalancerType.Equal or BalancerType.Static);
    }

    /// <summary>The balancer and its state.</summary>
    public IBalancer Balancer { get; }

    /// <summary>Weights of the last step, in the order of the tasks.</summary>
    public ReadOnlySpan<double> Weights => _balances ? _weights : _training.Balancer.Type == BalancerType.Static ? _ownWeights : _weights;

    /// <summary>Whether the last step formed a Gram matrix.</summary>
    public bool HasGram { get; private set; }

    /// <summary>Learning rate of the dense parameters at the last step.</summary>
    public double LearningRate { get; private set; }

    /// <summary>Runs a step.</summary>
    /// <param name="batch">The samples.</param>
    /// <param name="step">Counts from 1.</param>
    /// <exception cref="NonFiniteException">A loss is not finite; the parameters are as before the step.</exception>
    public void Run(Batch batch, long step)
    {
        _model.Forward(batch, step);
        _model.ComputeLosses();
        CheckLosses(batch, step);
        _model.BackwardTowers();
        if (_balances)
            Balance(step);
        else
            _model.BackwardTrunk([], gramIsFresh: false);
        double factor = LearningRateSchedule.Factor(_training.Schedule, step, _totalSteps);
        LearningRate = _training.Optimizer.LearningRate * factor;
        _model.Update((float)LearningRate, (float)(_training.EmbeddingOptimizer.LearningRate * factor), step);
    }

    private void Balance(long step)
    {
        long index = step - 1;
        HasGram = Balancer.NeedsGram(index);
        if (HasGram)
            _model.ComputeGram(_gram);
        ReadOnlySpan<double> labelled = _model.LossWeights;
        for (int t = 0; t < _valid.Length; t++)
            _valid[t] = labelled[t] > 0;
        Balancer.Weights(new BalancerInput(index, _model.Losses, HasGram ? _gram : [], _valid), _weights);
        for (int t = 0; t < _weights.Length; t++)
            _deviceWeights[t] = (float)_weights[t];
        _model.BackwardTrunk(_deviceWeights, HasGram);
    }

    private void CheckLosses(Batch batch, long step)
    {
        ReadOnlySpan<double> losses = _model.Losses;
        for (int t = 0; t < losses.Length; t++)
        {
            if (!double.IsFinite(losses[t]))
            {
                throw new NonFiniteException(
                    $"step {step}: the loss of task {_model.Description.Tasks[t].Name} is {losses[t]}; the first tensor that is not finite is {NonFiniteFinder.OfLoss(_model, batch, t)}");
            }
        }
    }
}
