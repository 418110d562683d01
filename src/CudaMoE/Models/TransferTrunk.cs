using CudaMoE.Description;
using CudaMoE.Layers;

namespace CudaMoE.Models;

/// <summary>
/// A trunk with a representation q_t of each task, and on it the chain of AITM (Xi et al., KDD 2021): z_t = q_t for the first task of the chain
/// and for tasks outside, else the attention over q_t and info_t(z of the task before). The towers read z.
/// </summary>
internal sealed unsafe class TransferTrunk : Trunk
{
    private readonly LayerContext _context;
    private readonly Trunk _trunk;
    private readonly int _tasks;
    private readonly bool _stopGradient;
    private readonly ConstantCombine[] _copies;
    private readonly Link?[] _links;
    private readonly int[] _order;
    private readonly Slot _parts = null!;
    private nint _one;

    /// <param name="context">The context.</param>
    /// <param name="trunk">The trunk below, with a representation a task.</param>
    /// <param name="description">The model; it has a transfer.</param>
    public TransferTrunk(LayerContext context, Trunk trunk, ModelDescription description)
    {
        _context = context;
        _trunk = trunk;
        _tasks = description.Tasks.Count;
        TransferDescription transfer = description.Architecture.Transfer!;
        _stopGradient = transfer.StopGradient;
        int[] chain = Chain(description);
        // A task comes behind the one that hands on to it.
        _order = [.. Enumerable.Range(0, _tasks).Except(chain), .. chain];
        Representation = context.Reserve("transfer.output", (long)trunk.Width * _tasks);
        if (context.Training)
        {
            RepresentationGradient = context.Reserve("transfer.gradient", (long)trunk.Width * _tasks);
            _parts = context.Reserve("transfer.parts", (long)trunk.Width * _tasks);
        }

        _copies = new ConstantCombine[_tasks];
        _links = new Link?[_tasks];
        for (int i = 1; i < chain.Length; i++)
            _links[chain[i]] = Connect(description, chain[i], chain[i - 1]);
        for (int t = 0; t < _tasks; t++)
            _copies[t] = Copy($"transfer.{t}.own", Part(trunk.Representation, t), trunk.Factor == null ? null : Part(trunk.Factor, t), trunk.Factor == null ? ActivationKind.None : trunk.Activation, Item(t));
        context.Activations.Reserve("transfer.one", sizeof(float), p => _one = p);
        context.OnBind(() => context.Stream.CopyToDevice<float>([1f], _one));
    }

    public override Slot Representation { get; }

    public override Slot RepresentationGradient { get; } = null!;

    public override Slot? Factor => null;

    public override ActivationKind Activation => ActivationKind.None;

    public override bool Shared => false;

    public override int Width => _trunk.Width;

    public override Gate? Gate => _trunk.Gate;

    public override int GateCount => _trunk.GateCount;

    public override int ExpertCount => _trunk.ExpertCount;

    public override ReadOnlySpan<double> GateSums(long rows) => _trunk.GateSums(rows);

    public override ReadOnlySpan<long> DroppedPairs => _trunk.DroppedPairs;

    public override Routing? Routing => _trunk.Routing;

    public override bool SplitsInputGradient => true;

    public override bool AuxiliaryLosses
    {
        get => _trunk.AuxiliaryLosses;
        set => _trunk.AuxiliaryLosses = value;
    }

    /// <summary>Indices of the chain's tasks, the earliest first.</summary>
    public static int[] Chain(ModelDescription description)
    {
        IReadOnlyList<string> names = description.Architecture.Transfer!.Chain;
        List<string> tasks = [.. description.Tasks.Select(task => task.Name)];
        return names.Count == 0 ? [.. Enumerable.Range(0, tasks.Count)] : [.. names.Select(name => tasks.IndexOf(name))];
    }

    public override void Initialize() => _trunk.Initialize();

    public override void Pack()
    {
        _trunk.Pack();
        foreach (Link? link in _links)
        {
            link?.Info.Pack();
            link?.Attention.Pack();
        }
    }

    public override void Forward(long rows, long step)
    {
        _trunk.Forward(rows, step);
        foreach (int task in _order)
        {
            _copies[task].Forward(rows);
            if (_links[task] is not { } link)
                continue;
            link.Info.Forward(rows);
            link.Copy.Forward(rows);
            link.Attention.Forward(rows);
        }
    }

    public override void Backward(long rows, long step, float* taskWeights)
    {
        BackwardChain(rows, taskWeights, weights: true);
        _trunk.Backward(rows, step, taskWeights: null);
    }

    public override void BackwardParameters(long rows, long step, float* taskWeights)
    {
        BackwardChain(rows, taskWeights, weights: true);
        _trunk.BackwardParameters(rows, step, taskWeights: null);
    }

    public override void BackwardInputOf(long rows, long step, float* taskWeights, Slot target)
    {
        BackwardChain(rows, taskWeights, weights: false);
        _trunk.BackwardInputOf(rows, step, taskWeights: null, target);
    }

    public override void BackwardAuxiliary(LayerContext context, long rows, long step, Slot target) => _trunk.BackwardAuxiliary(context, rows, step, target);

    /// <summary>From the gradient of z, each task's times its weight, to that of q, which the trunk below goes on with. The gradient of z stays as it is.</summary>
    private void BackwardChain(long rows, float* taskWeights, bool weights)
    {
        for (int task = 0; task < _tasks; task++)
        {
            float* factor = taskWeights == null ? (float*)_one : taskWeights + task;
            BalanceOperations.Combine(_context, Part(RepresentationGradient, task), 0, 1, rows, factor, Part(_parts, task), accumulate: false);
        }

        for (int i = _order.Length - 1; i >= 0; i--)
        {
            int task = _order[i];
            Slot own = Part(_trunk.RepresentationGradient, task);
            if (_links[task] is not { } link)
            {
                _copies[task].Backward(rows, Part(_parts, task), own);
                continue;
            }

            link.Attention.Backward(rows, Part(_parts, task), weights);
            _copies[task].Backward(rows, Half(link.Attention.InputGradient, 0), own);
            link.Copy.Backward(rows, Half(link.Attention.InputGradient, 1), link.Info.OutputGradient);
            link.Info.Backward(rows, weights);
            if (!_stopGradient)
                link.Info.BackwardInput(rows, new(Part(_parts, link.Earlier), Accumulate: true, Below: null, ActivationKind.None));
        }
    }

    private Link Connect(ModelDescription description, int task, int earlier)
    {
        string name = $"transfer.{description.Tasks[task].Name}";
        ActivationKind activation = description.Architecture.Activation;
        GroupedMlp info = new(_context, new()
        {
            Name = $"{name}.info",
            Groups = 1,
            Widths = [Width],
            Activation = activation,
            X = Part(Representation, earlier),
            InputWidth = Width,
            Input = GroupInput.Shared,
        });
        PairAttention attention = new(_context, $"{name}.attention", Width, Part(Representation, task));
        ConstantCombine copy = Copy($"{name}.handed_on", info.Output, info.OutputPreactivation, activation, Half(attention.Input, 1));
        return new(earlier, info, attention, copy);
    }

    private ConstantCombine Copy(string name, Slot from, Slot? factor, ActivationKind activation, Slot to) => new(_context, new()
    {
        Name = name,
        X = from,
        Y = to,
        Width = Width,
        PartStride = Width,
        CopyStride = Width,
        Activation = activation,
        Preactivation = activation is ActivationKind.Gelu or ActivationKind.Silu ? factor : null,
    });

    /// <summary>Where q of a task goes: to the attention, or where there is none to the tower.</summary>
    private Slot Item(int task) => _links[task] is { } link ? Half(link.Attention.Input, 0) : Part(Representation, task);

    private Slot Part(Slot all, int task) => all.Slice((long)task * Width, Width);

    /// <summary>The first or second item of each sample, [rows, width].</summary>
    private Slot Half(Slot items, int item) => items.Reshape(2L * Width, 2L * Width).Slice((long)item * Width, Width);

    /// <summary>How a task gets what the one before it hands on.</summary>
    /// <param name="Earlier">The task before it.</param>
    /// <param name="Info">What is handed on, from z of that task.</param>
    /// <param name="Attention">Over the own representation and that.</param>
    /// <param name="Copy">From the one to the other.</param>
    private sealed record Link(int Earlier, GroupedMlp Info, PairAttention Attention, ConstantCombine Copy);
}
