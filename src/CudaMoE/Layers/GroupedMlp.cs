using CudaMoE.Description;

namespace CudaMoE.Layers;

/// <summary>Wiring of a <see cref="GroupedMlp"/>.</summary>
internal sealed record GroupedMlpPlan
{
    /// <summary>Prefix of the parameter names, e.g. "experts" or "towers".</summary>
    public required string Name { get; init; }

    /// <summary>One name a group for parameters of their own ("towers.income.layers.0.weight"); null = one parameter [groups, out, in].</summary>
    public IReadOnlyList<string>? GroupNames { get; init; }

    public required int Groups { get; init; }

    /// <summary>Widths of the layers; at least one.</summary>
    public required IReadOnlyList<int> Widths { get; init; }

    public required ActivationKind Activation { get; init; }

    /// <summary>Whether the last layer has the activation too (experts, bottoms) or none (towers, whose outputs are logits).</summary>
    public bool ActivateLast { get; init; } = true;

    /// <summary>Whether the layers have biases.</summary>
    public bool Bias { get; init; } = true;

    public required Slot X { get; init; }

    /// <summary>Width of a group's input.</summary>
    public required long InputWidth { get; init; }

    public required GroupInput Input { get; init; }

    public Routing? Routing { get; init; }

    /// <summary>Strided: how many neighbouring groups read each part of the input; null = one each.</summary>
    public IReadOnlyList<int>? GroupsPerInput { get; init; }

    /// <summary>Leading input columns whose gradient is wanted; null = all.</summary>
    public long? InputGradientColumns { get; init; }

    /// <summary>
    /// Whether there may be a gap behind each row of the outputs and their gradients: on a CPU rows a multiple of 4 KiB apart compete for a few sets of
    /// its caches. False where rows of another width are read from the same memory.
    /// </summary>
    public bool SpreadRows { get; init; }
}

/// <summary>Equal multi-layer perceptrons run as grouped products: towers, experts, bottoms. Outputs lie side by side.</summary>
internal sealed class GroupedMlp
{
    private readonly LayerContext _context;
    private readonly GroupedMlpPlan _plan;
    private readonly List<Linear[]> _layers = [];
    private readonly List<Slot> _outputs = [];
    private readonly List<Slot?> _preactivations = [];
    private readonly List<Slot> _gradients = [];

    public GroupedMlp(LayerContext context, GroupedMlpPlan plan)
    {
        _context = context;
        _plan = plan;
        Slot x = plan.X;
        long k = plan.InputWidth;
        bool routed = plan.Input == GroupInput.Routed;
        for (int i = 0; i < plan.Widths.Count; i++)
        {
            long n = plan.Widths[i];
            bool last = i == plan.Widths.Count - 1;
            ActivationKind activation = last && !plan.ActivateLast ? ActivationKind.None : plan.Activation;
            Slot y = ReserveOutput($"{plan.Name}.{i}.output", n);
            bool keepsInput = activation is ActivationKind.Gelu or ActivationKind.Silu;
            Slot? preactivation = context.Training && keepsInput ? ReserveOutput($"{plan.Name}.{i}.preactivation", n) : null;
            LinearPlan layer = new()
            {
                Groups = plan.Groups,
                N = n,
                K = k,
                Input = routed ? GroupInput.Routed : i == 0 ? plan.Input : plan.Groups == 1 ? GroupInput.Shared : GroupInput.Strided,
                X = x,
                Y = y,
                Weight = AddWeight(context, plan, i, n, k),
                Bias = AddBias(context, plan, i, n),
                Activation = activation,
                Preactivation = preactivation,
                Routing = plan.Routing,
                Gather = routed && i == 0,
                InputGradientColumns = i == 0 ? plan.InputGradientColumns : null,
            };
            _layers.Add(i == 0 && plan.GroupsPerInput is { } counts ? Parts(layer, counts) : [new(context, layer)]);
            _outputs.Add(y);
            _preactivations.Add(preactivation);
            if (context.Training)
                _gradients.Add(ReserveOutput($"{plan.Name}.{i}.gradient", n));
            x = y;
            k = n;
        }
    }

    /// <summary>[rows, groups * last width]; routed: [slots, last width].</summary>
    public Slot Output => _outputs[^1];

    /// <summary>What the derivative of the output's activation is taken from.</summary>
    public Slot OutputFactor => _preactivations[^1] ?? _outputs[^1];

    /// <summary>The pre-activation of the output; null when its activation does not need one.</summary>
    public Slot? OutputPreactivation => _preactivations[^1];

    /// <summary>Where the gradient of the output, before its activation, is to be written for the backward.</summary>
    public Slot OutputGradient => _gradients[^1];

    /// <summary>Where the gradient of the first layer's output, before its activation, is after the backward of the others.</summary>
    public Slot FirstGradient => _gradients[0];

    /// <summary>The first layer; only where every group has an input of its own, or all have the same.</summary>
    public Linear First => _layers[0].Single();

    public int OutputWidth => _plan.Widths[^1];

    /// <summary>The weights of a layer, [groups, n, k], under the names that the plan gives them.</summary>
    public static ParameterBlock AddWeight(LayerContext context, GroupedMlpPlan plan, int layer, long n, long k) =>
        AddParameters(context, plan, layer, "weight", ParameterKind.Weight, n, k);

    /// <summary>The biases of a layer, [groups, n]; null where the plan has none.</summary>
    public static ParameterBlock? AddBias(LayerContext context, GroupedMlpPlan plan, int layer, long n) =>
        plan.Bias ? AddParameters(context, plan, layer, "bias", ParameterKind.Bias, n) : null;

    public void Pack()
    {
        foreach (Linear[] layer in _layers)
        {
            foreach (Linear part in layer)
                part.Pack();
        }
    }

    public void Forward(long rows)
    {
        foreach (Linear[] layer in _layers)
        {
            foreach (Linear part in layer)
                part.Forward(rows);
        }
    }

    /// <summary>
    /// From <see cref="OutputGradient"/>: parameter gradients (unless <paramref name="weights"/> is false) and the gradients between the layers, down
    /// to <see cref="FirstGradient"/>. The input's gradient is a call of its own, <see cref="BackwardInput"/>.
    /// </summary>
    public void Backward(long rows, bool weights = true)
    {
        for (int i = _layers.Count - 1; i >= 0; i--)
        {
            foreach (Linear part in _layers[i])
            {
                if (weights)
                    part.BackwardWeights(rows, _gradients[i]);
                if (i > 0)
                    part.BackwardInput(rows, _gradients[i], new InputGradientTarget(_gradients[i - 1], false, _preactivations[i - 1] ?? _outputs[i - 1], _plan.Activation));
            }
        }
    }

    /// <summary>The gradient of the input, from <see cref="FirstGradient"/>.</summary>
    public void BackwardInput(long rows, in InputGradientTarget target)
    {
        foreach (Linear part in _layers[0])
            part.BackwardInput(rows, _gradients[0], target);
    }

    /// <summary>
    /// The first layer of groups of which several read the same part of the input: neighbouring parts that equally many groups read make one product, a
    /// group a part, with the outputs of the part's readers side by side.
    /// </summary>
    private Linear[] Parts(LinearPlan whole, IReadOnlyList<int> counts)
    {
        List<Linear> parts = [];
        for (int input = 0, group = 0; input < counts.Count;)
        {
            int inputs = 1;
            while (input + inputs < counts.Count && counts[input + inputs] == counts[input])
                inputs++;
            int groups = inputs * counts[input];
            parts.Add(new(_context, whole with
            {
                Groups = inputs,
                N = whole.N * counts[input],
                InputColumn = input * whole.K,
                OutputColumn = group * whole.N,
                Weight = whole.Weight.Slice(group * whole.N * whole.K, groups * whole.N * whole.K),
                Bias = whole.Bias?.Slice(group * whole.N, groups * whole.N),
            }));
            input += inputs;
            group += groups;
        }

        return [.. parts];
    }

    private Slot ReserveOutput(string name, long width) =>
        _plan.Routing == null
            ? Slot.Reserve(_context.Activations, name, _context.MaxRows, width * _plan.Groups, spread: _plan.SpreadRows && _context.Device.Info.HostAccessible)
            : Slot.Reserve(_context.Activations, name, _plan.Routing.MaxSlots, width);

    private static ParameterBlock AddParameters(LayerContext context, GroupedMlpPlan plan, int layer, string what, ParameterKind kind, params long[] shape)
    {
        if (plan.GroupNames != null)
            return context.Parameters.AddGroup([.. plan.GroupNames.Select(group => $"{plan.Name}.{group}.layers.{layer}.{what}")], kind, shape);
        return context.Parameters.Add($"{plan.Name}.layers.{layer}.{what}", kind, plan.Groups == 1 ? shape : [plan.Groups, .. shape]);
    }
}
