using CudaMoE.Description;
using CudaMoE.Layers;

namespace CudaMoE.Models;

/// <summary>
/// Levels of experts of tasks' units and possibly a shared one, fused by gates, by trained weights or both: AdaTT (Li et al., KDD 2023), multi-level
/// MMoE, CGC and PLE (Tang et al., RecSys 2020) and cross-stitch networks (Misra et al., CVPR 2016). <see cref="FusionPlan"/> says what each is made of.
/// </summary>
internal sealed unsafe class FusionTrunk : Trunk
{
    private readonly InputBlock _input;
    private readonly List<FusionLevel> _levels = [];
    private readonly List<TaskParameters> _ownOfTasks = [];
    private readonly int _outputs;

    public FusionTrunk(LayerContext context, InputBlock input, ArchitectureDescription architecture, int tasks)
    {
        _input = input;
        IReadOnlyList<FusionLevelPlan> plans = FusionPlan.Create(architecture, tasks);
        for (int i = 0; i < plans.Count; i++)
            _levels.Add(new(context, plans[i], i, input.Output, i == 0 ? null : _levels[i - 1], architecture.Activation));
        _outputs = plans[^1].Outputs;
        Shared = _outputs == 1 && tasks > 1;
        if (_outputs == tasks)
            AddOwnOfTasks(plans[^1], $"levels.{plans.Count - 1}");
    }

    public override Slot Representation => Last.Output;

    public override Slot RepresentationGradient => Last.OutputGradient;

    public override Slot? Factor => null;

    public override ActivationKind Activation => ActivationKind.None;

    public override bool Shared { get; }

    public override int Width => Last.Width;

    public override int GateCount => Last.Gates?.Gates ?? 0;

    public override int ExpertCount => Last.Gates?.Experts ?? 0;

    public override ReadOnlySpan<double> GateSums(long rows) => Last.Gates == null ? [] : Last.Gates.ProbabilitySums(rows);

    public override bool SplitsInputGradient => true;

    public override IEnumerable<TaskParameters> OwnOfTasks => _ownOfTasks;

    private FusionLevel Last => _levels[^1];

    public override void Initialize()
    {
        foreach (FusionLevel level in _levels)
            level.Initialize();
    }

    public override void Pack()
    {
        foreach (FusionLevel level in _levels)
            level.Pack();
    }

    public override void Forward(long rows, long step)
    {
        foreach (FusionLevel level in _levels)
            level.Forward(rows);
    }

    public override void Backward(long rows, long step, float* taskWeights) =>
        Backward(rows, Shared ? null : taskWeights, weights: true, _input.OutputGradient);

    public override void BackwardParameters(long rows, long step, float* taskWeights) => Backward(rows, taskWeights, weights: true, target: null);

    public override void BackwardInputOf(long rows, long step, float* taskWeights, Slot target) => Backward(rows, taskWeights, weights: false, target);

    /// <summary>Of the last level: what mixes for a single task, and the experts that its gate alone sees.</summary>
    private void AddOwnOfTasks(FusionLevelPlan last, string name)
    {
        _ownOfTasks.Add(new($"{name}.gate."));
        _ownOfTasks.Add(new($"{name}.stitch."));
        _ownOfTasks.Add(new($"{name}.native."));
        int own = last.Units.Take(last.TaskUnits).Sum();
        if (last.Visible != null && own > 0)
            _ownOfTasks.Add(new($"{name}.experts.", own, last.Experts));
    }

    private void Backward(long rows, float* taskWeights, bool weights, Slot? target)
    {
        bool started = false;
        for (int i = _levels.Count - 1; i >= 0; i--)
        {
            FusionLevel level = _levels[i];
            level.Backward(rows, level == Last ? taskWeights : null, weights);
            if (i > 0)
                level.BackwardBelow(rows, _levels[i - 1].OutputGradient);
            if (target != null)
                started = level.BackwardTrunkInput(rows, target, started, _input.Factor, _input.Activation);
        }
    }
}
