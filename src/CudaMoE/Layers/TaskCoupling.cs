using CudaMoE.Description;

namespace CudaMoE.Layers;

/// <summary>
/// Attention of a sample's tasks to each other: with H the tasks' rows, y = H + softmax((H W_q)(H W_k)^T / sqrt(h)) H W_v. The parameter holds the
/// weights of queries, keys and values, [3, h, h].
/// </summary>
internal sealed unsafe class TaskCoupling
{
    private readonly int _tasks;
    private readonly Linear _projection;
    private readonly Attention _attention;
    private readonly SlotSums _sums;
    private readonly Slot? _projected;
    private readonly Slot[] _parts = [];

    /// <param name="context">The context.</param>
    /// <param name="name">Name of the parameter.</param>
    /// <param name="tasks">Rows of a sample.</param>
    /// <param name="width">Width of a row.</param>
    public TaskCoupling(LayerContext context, string name, int tasks, int width)
    {
        _tasks = tasks;
        _sums = new(context);
        LayerContext rows = context.Times(tasks);
        Input = rows.ReserveExact($"{name}.input", width);
        Slot projections = rows.Reserve($"{name}.projections", 3L * width);
        _projection = new(rows, new()
        {
            Groups = 3,
            N = width,
            K = width,
            Input = GroupInput.Shared,
            X = Input,
            Y = projections,
            Weight = context.Parameters.Add($"{name}.weight", ParameterKind.Weight, 3, width, width),
        });
        _attention = new(context, new()
        {
            Name = $"{name}.attention",
            Q = projections.Slice(0, width),
            K = projections.Slice(width, width),
            V = projections.Slice(2L * width, width),
            Heads = 1,
            KeyHeads = 1,
            HeadWidth = width,
            Queries = tasks,
            Keys = tasks,
        });
        if (!context.Training)
            return;
        InputGradient = rows.ReserveExact($"{name}.input.gradient", width);
        _projected = rows.Reserve($"{name}.projections.gradient", 3L * width);
        _parts = [_projected.Slice(0, width), _projected.Slice(width, width), _projected.Slice(2L * width, width)];
    }

    /// <summary>[rows * tasks, width] H, without gaps.</summary>
    public Slot Input { get; }

    /// <summary>[rows * tasks, width]: the gradient of y before the backward, that of H after it.</summary>
    public Slot InputGradient { get; } = null!;

    /// <summary>[rows * tasks, width] what is added to H.</summary>
    public Slot Output => _attention.Output;

    public void Pack() => _projection.Pack();

    public void Forward(long rows)
    {
        _projection.Forward(rows * _tasks);
        _attention.Forward(rows, keyCounts: null);
    }

    /// <summary>From the gradient of y in <see cref="InputGradient"/> to that of H.</summary>
    public void Backward(long rows, bool weights)
    {
        _sums.Copy(rows * _tasks, InputGradient, _attention.OutputGradient);
        _attention.Backward(rows, _parts[0], _parts[1], _parts[2]);
        if (weights)
            _projection.BackwardWeights(rows * _tasks, _projected!);
        _projection.BackwardInput(rows * _tasks, _projected!, new(InputGradient, Accumulate: true, Below: null, ActivationKind.None));
    }
}
