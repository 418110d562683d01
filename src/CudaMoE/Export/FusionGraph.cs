using CudaMoE.Description;
using CudaMoE.Models;

namespace CudaMoE.Export;

/// <summary>The levels of the fusion family: AdaTT, multi-level MMoE, CGC, PLE and cross-stitch networks, as <see cref="FusionPlan"/> has them.</summary>
internal sealed class FusionGraph(ExportContext context)
{
    private readonly OnnxGraph _graph = context.Graph;
    private readonly LayerGraph _layers = new(context);
    private readonly GateGraph _gates = new(context);

    /// <summary>The weights of each level's gates, [rows, gates, experts], without the weights that are the same for all samples.</summary>
    public List<(string Value, int Gates, int Experts)> Gates { get; } = [];

    /// <summary>Adds all levels; gives [rows, sums, width].</summary>
    public (string Value, int Sums) Build(string trunk, long inputs)
    {
        IReadOnlyList<FusionLevelPlan> plans = FusionPlan.Create(context.Architecture, context.Tasks);
        string below = "";
        for (int i = 0; i < plans.Count; i++)
            below = Level($"levels.{i}", plans[i], trunk, inputs, i == 0 ? null : (below, plans[i - 1]));
        return (below, plans[^1].Outputs);
    }

    private string Level(string name, FusionLevelPlan plan, string trunk, long inputs, (string Value, FusionLevelPlan Plan)? below)
    {
        _graph.Scope = $"{name}/experts";
        string experts = below is { } parts
            ? _layers.GroupOfParts(PartOfEachExpert(parts.Value, plan), $"{name}.experts", plan.Experts, parts.Plan.Widths[^1], plan.Widths)
            : _layers.Group(trunk, $"{name}.experts", plan.Experts, inputs, plan.Widths);
        if (!plan.Gated)
        {
            _graph.Scope = $"{name}/stitch";
            string stitch = _graph.Tensor(context.Weights.Tensor($"{name}.stitch.weight", plan.Outputs, plan.Experts));
            return _graph.Add("MatMul", [stitch, experts]);
        }

        _graph.Scope = $"{name}/gate";
        string weights = below is { } read && plan.GateInput == GateInput.Unit
            ? _gates.Level(FirstParts(read.Value, read.Plan.Outputs, plan.Outputs), $"{name}.gate", plan, read.Plan.Widths[^1], ownInputs: true)
            : _gates.Level(trunk, $"{name}.gate", plan, inputs, ownInputs: false);
        Gates.Add((weights, plan.Outputs, plan.Experts));
        if (plan.Native != NativeResidual.None)
            weights = _graph.Add("Add", [weights, _graph.Numbers(Native(name, plan), plan.Outputs, plan.Experts)]);
        return _graph.Add("MatMul", [weights, experts]);
    }

    /// <summary>[rows, units, width] to [rows, experts, width]: each expert reads its unit's.</summary>
    private string PartOfEachExpert(string x, FusionLevelPlan plan)
    {
        if (plan.Units.All(count => count == 1))
            return x;
        long[] units = [.. plan.Units.SelectMany((count, unit) => Enumerable.Repeat((long)unit, count))];
        return _graph.Add("Gather", [x, _graph.Integers(units)], ("axis", 1));
    }

    /// <summary>The first parts of [rows, parts, width], which belong to the units that have a gate.</summary>
    private string FirstParts(string x, int parts, int wanted) =>
        parts == wanted ? x : _graph.Add("Slice", [x, _graph.Integers(0), _graph.Integers(wanted), _graph.Integers(1)]);

    /// <summary>Weights [sums, experts] of each unit's own experts, 0 for all others.</summary>
    private float[] Native(string name, FusionLevelPlan plan)
    {
        bool trained = plan.Native == NativeResidual.Learned;
        float[] own = trained ? context.Weights.Values($"{name}.native.weight", plan.TaskUnits, plan.Units[0]) : [];
        float[] shared = trained && plan.Outputs > plan.TaskUnits ? context.Weights.Values($"{name}.native_shared.weight", plan.Units[plan.TaskUnits]) : [];
        float[] weights = new float[plan.Outputs * plan.Experts];
        for (int unit = 0, first = 0; unit < plan.Outputs; first += plan.Units[unit++])
        {
            Span<float> target = weights.AsSpan((unit * plan.Experts) + first, plan.Units[unit]);
            if (!trained)
                target.Fill(1);
            else if (unit < plan.TaskUnits)
                own.AsSpan(unit * target.Length, target.Length).CopyTo(target);
            else
                shared.CopyTo(target);
        }

        return weights;
    }
}
