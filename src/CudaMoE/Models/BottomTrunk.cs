using CudaMoE.Description;
using CudaMoE.Layers;

namespace CudaMoE.Models;

/// <summary>A shared bottom (one group), or one bottom a task (single-task networks over shared embeddings).</summary>
internal sealed unsafe class BottomTrunk : Trunk
{
    private readonly LayerContext _context;
    private readonly InputBlock _input;
    private readonly GroupedMlp? _bottom;
    private readonly int _groups;
    private readonly bool _keepsGradient;

    /// <param name="context">The context.</param>
    /// <param name="input">The input block.</param>
    /// <param name="architecture">Bottom widths and activation.</param>
    /// <param name="taskNames">One bottom for each of these; null = one for all.</param>
    /// <param name="keepsGradient">Whether the representation's gradient must outlive a backward, so that another one can weigh it anew.</param>
    public BottomTrunk(LayerContext context, InputBlock input, ArchitectureDescription architecture, IReadOnlyList<string>? taskNames, bool keepsGradient)
    {
        _context = context;
        _input = input;
        _groups = architecture.Bottom.Count == 0 ? 1 : taskNames?.Count ?? 1;
        if (architecture.Bottom.Count > 0)
        {
            _bottom = new(context, new()
            {
                Name = "bottom",
                GroupNames = taskNames,
                Groups = _groups,
                Widths = architecture.Bottom,
                Activation = architecture.Activation,
                X = input.Output,
                InputWidth = input.Output.Columns,
                Input = GroupInput.Shared,
            });
            Activation = architecture.Activation;
        }
        else
        {
            Activation = input.Activation;
        }

        _keepsGradient = keepsGradient && _groups > 1;
        if (context.Training && _keepsGradient)
            RepresentationGradient = context.Reserve("representation.gradient", _bottom!.Output.Columns);
        else if (context.Training)
            RepresentationGradient = _bottom?.OutputGradient ?? input.OutputGradient ?? context.Reserve("representation.gradient", input.Output.Columns);
    }

    public override Slot Representation => _bottom?.Output ?? _input.Output;

    public override Slot RepresentationGradient { get; } = null!;

    public override Slot? Factor => _bottom?.OutputFactor ?? _input.Factor;

    public override ActivationKind Activation { get; }

    public override bool Shared => _groups == 1;

    public override int Width => (int)(Representation.Columns / _groups);

    public override IEnumerable<TaskParameters> OwnOfTasks => Shared ? [] : [new("bottom.")];

    public override void Pack() => _bottom?.Pack();

    public override void Forward(long rows, long step) => _bottom?.Forward(rows);

    public override void Backward(long rows, long step, float* taskWeights)
    {
        BackwardParameters(rows, step, taskWeights);
        if (_bottom != null && _input.OutputGradient != null)
            BackwardInput(rows, _input.OutputGradient);
    }

    public override void BackwardParameters(long rows, long step, float* taskWeights)
    {
        if (_bottom == null)
            return;
        if (!Shared && taskWeights != null)
            ScaleGroups(rows, taskWeights);
        else if (_keepsGradient)
            _context.Stream.CopyOnDevice(RepresentationGradient.Pointer, _bottom.OutputGradient.Pointer, rows * RepresentationGradient.RowStride * sizeof(float));
        _bottom.Backward(rows);
    }

    /// <summary>As the base says, for gradients of the representation that are weighted already.</summary>
    public override void BackwardInputOf(long rows, long step, float* taskWeights, Slot target)
    {
        if (taskWeights != null || _bottom == null)
            throw new NotSupportedException("bottoms take gradients that are weighted already");
        _bottom.Backward(rows, weights: false);
        BackwardInput(rows, target);
    }

    private void BackwardInput(long rows, Slot target) =>
        _bottom!.BackwardInput(rows, new(target, Accumulate: false, _input.Factor, _input.Activation));

    private void ScaleGroups(long rows, float* taskWeights)
    {
        for (int t = 0; t < _groups; t++)
        {
            Slot part = RepresentationGradient.Slice((long)t * Width, Width);
            BalanceOperations.Combine(_context, part, 0, 1, rows, taskWeights + t, _bottom!.OutputGradient.Slice((long)t * Width, Width), accumulate: false);
        }
    }
}
