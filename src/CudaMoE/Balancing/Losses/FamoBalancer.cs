namespace CudaMoE.Balancing;

/// <summary>
/// FAMO: equal relative progress at the cost of losses alone (Liu, Feng, Stone and Liu, NeurIPS 2023, algorithm 1). z = softmax(w); task t's weight is
/// z_t / L_t, scaled to sum 1; after the step the same batch's new losses give delta_t = log L_t - log L'_t, and w takes an Adam step against the softmax
/// Jacobian times delta, with decay.
/// </summary>
/// <remarks>Costs one forward pass a step (<see cref="NeedsLossesAfterStep"/>).</remarks>
internal sealed class FamoBalancer : LossBalancer
{
    private const string LogitsKey = "w";
    private const double Offset = 1e-8;

    private readonly AdamVector _logits;
    private readonly double[] _shares;
    private bool _open;

    public FamoBalancer(string name, BalancerSettings settings)
        : base(name, settings, positive: true)
    {
        _logits = new(LogitsKey, settings.Tasks, 0, settings.Description.Beta ?? 0.025, settings.Description.Decay ?? 1e-3);
        _shares = new double[settings.Tasks];
    }

    /// <inheritdoc/>
    public override bool NeedsLossesAfterStep => true;

    /// <inheritdoc/>
    public override void ObserveAfterStep(in BalancerInput after)
    {
        after.Check(Tasks, needsGram: false, Tasks);
        if (!_open)
            return;
        _open = false;
        double mean = 0;
        for (int task = 0; task < Tasks; task++)
            mean += Usable[task] ? _shares[task] * Progress(task, after) : 0;
        if (!double.IsFinite(mean))
            return;
        for (int task = 0; task < Tasks; task++)
        {
            if (Usable[task])
                _logits.Step(task, _shares[task] * (Progress(task, after) - mean));
        }
    }

    private protected override void Solve(long step, int usable, Span<double> lambda)
    {
        _logits.Values.CopyTo(_shares);
        Softmax.Apply(_shares, Usable);
        double sum = 0;
        for (int task = 0; task < Tasks; task++)
        {
            lambda[task] = Usable[task] ? _shares[task] / (Losses[task] + Offset) : 0;
            sum += lambda[task];
        }

        for (int task = 0; task < Tasks; task++)
            lambda[task] /= sum;
        _open = true;
    }

    private protected override void SaveOwn(Dictionary<string, IReadOnlyList<double>> state) => _logits.Save(state);

    private protected override void LoadOwn(IReadOnlyDictionary<string, IReadOnlyList<double>> state) => _logits.Load(Take(state, LogitsKey, _logits.StateLength));

    private double Progress(int task, in BalancerInput after) =>
        Math.Log(Losses[task] + Offset) - Math.Log((TaskWeights[task] * after.Losses[task]) + Offset);
}
