using CudaMoE.Description;

namespace CudaMoE.Export;

/// <summary>From the trunk's input to what each task's tower reads.</summary>
internal sealed class TrunkGraph(ExportContext context)
{
    private readonly OnnxGraph _graph = context.Graph;
    private readonly LayerGraph _layers = new(context);

    /// <summary>The weights of each level's gates, [rows, gates, experts]; empty for models without gates.</summary>
    public List<(string Value, int Gates, int Experts)> Gates { get; } = [];

    /// <summary>Adds the trunk. Gives the value [rows, <paramref name="width"/>] that each task's tower reads; it may be the same for all.</summary>
    /// <param name="x">[rows, inputs].</param>
    /// <param name="inputs">Width of the input.</param>
    /// <param name="width">Width of a tower's input.</param>
    public string[] Build(string x, long inputs, out long width)
    {
        ArchitectureDescription architecture = context.Architecture;
        bool bottom = architecture.Type is ModelType.SharedBottom or ModelType.SingleTask;
        width = !bottom ? OutputWidth(architecture) : architecture.Bottom.Count == 0 ? inputs : architecture.Bottom[^1];
        if (!bottom)
            return Tasks(architecture.Type == ModelType.Mmoe ? Mixture(x, inputs) : Fusion(x, inputs), width);
        _graph.Scope = "bottom";
        if (architecture.Type == ModelType.SingleTask)
            return [.. context.Description.Tasks.Select(task => _layers.Network(x, $"bottom.{task.Name}", inputs, architecture.Bottom))];
        string shared = _layers.Network(x, "bottom", inputs, architecture.Bottom);
        return [.. Enumerable.Repeat(shared, context.Tasks)];
    }

    /// <summary>Adds the trunk of a stem model. Gives what each task's tower reads, [rows, <paramref name="width"/>].</summary>
    /// <param name="x">[rows, units, inputs]: the tasks' parts, then the shared one.</param>
    /// <param name="inputs">Width of a part.</param>
    /// <param name="width">Width of a tower's input.</param>
    public string[] BuildStem(string x, long inputs, out long width)
    {
        ExpertsDescription experts = context.Architecture.Experts!;
        int tasks = context.Tasks, own = experts.PerTask ?? 1, count = (tasks * own) + experts.Shared!.Value;
        width = OutputWidth(context.Architecture);
        _graph.Scope = "experts";
        long[] unitOfExpert = [.. Enumerable.Range(0, count).Select(expert => (long)Math.Min(expert / own, tasks))];
        string outputs = _layers.GroupOfParts(_graph.Add("Gather", [x, _graph.Integers(unitOfExpert)], ("axis", 1)), "experts", count, inputs, experts.Layers);
        _graph.Scope = "gate";
        string ownParts = _graph.Add("Slice", [x, _graph.Integers(0), _graph.Integers(tasks), _graph.Integers(1)]);
        string shared = _graph.Add("Slice", [x, _graph.Integers(tasks), _graph.Integers(tasks + 1), _graph.Integers(1)]);
        string weights = new GateGraph(context).OfParts(_graph.Add("Add", [ownParts, shared]), tasks, count, inputs);
        Gates.Add((weights, tasks, count));
        return Tasks((_graph.Add("MatMul", [weights, outputs]), tasks), width);
    }

    private static int OutputWidth(ArchitectureDescription architecture) =>
        (architecture.Experts!.Levels.Count > 0 ? architecture.Experts.Levels[^1] : architecture.Experts.Layers)[^1];

    /// <summary>Sums [rows, 1 or tasks, width] to the value of each task.</summary>
    private string[] Tasks((string Value, int Sums) mixed, long width)
    {
        if (mixed.Sums == 1)
            return [.. Enumerable.Repeat(_layers.Reshape(mixed.Value, 0, width), context.Tasks)];
        return [.. Enumerable.Range(0, context.Tasks).Select(task => _graph.Add("Gather", [mixed.Value, _graph.Integer(task)], ("axis", 1)))];
    }

    private (string Value, int Sums) Mixture(string x, long inputs)
    {
        ExpertsDescription experts = context.Architecture.Experts!;
        int count = experts.Count!.Value;
        int gates = context.Architecture.Gate.Sharing == GateSharing.Shared ? 1 : context.Tasks;
        _graph.Scope = "experts";
        string outputs = _layers.Group(x, "experts", count, inputs, experts.Layers);
        _graph.Scope = "gate";
        string weights = new GateGraph(context).Mixture(x, inputs, gates, count);
        Gates.Add((weights, gates, count));
        return (_graph.Add("MatMul", [weights, outputs]), gates);
    }

    private (string Value, int Sums) Fusion(string x, long inputs)
    {
        FusionGraph fusion = new(context);
        (string Value, int Sums) result = fusion.Build(x, inputs);
        Gates.AddRange(fusion.Gates);
        return result;
    }
}
