using CudaMoE.Description;
using CudaMoE.Interop;

namespace CudaMoE.Layers;

/// <summary>
/// Attention of AITM (Xi et al., KDD 2021) over a sample's two items u: y = sum of a_u V u, a = softmax over the two of
/// &lt;Q u, K u&gt; / sqrt(width). Each item is scored by its own query and key, so this is no attention of queries to keys. The parameter holds the weights of
/// queries, keys and values, [3, width, width].
/// </summary>
/// <remarks>
/// The scores are what the backward of a combination calls the gradient of its weights, one inner product a row; their own gradients are combinations.
/// </remarks>
internal sealed unsafe class PairAttention
{
    private const int Pair = 2;
    private readonly LayerContext _context;
    private readonly int _width;
    private readonly Slot _output;
    private readonly Linear _projection;
    private readonly Slot _projected;
    private readonly Slot? _projectedGradient;
    private readonly Slot _scratch;
    private readonly Slot _scores;
    private readonly Slot _zeros;
    private readonly Slot _probabilities;
    private readonly Slot? _probabilitiesGradient;
    private readonly Slot? _logitsGradient;
    private readonly Slot? _scoresGradient;
    private readonly FixedMatrix _scale;

    /// <param name="context">The context.</param>
    /// <param name="name">Prefix of the parameter's name and of the buffers.</param>
    /// <param name="width">Width of an item.</param>
    /// <param name="output">[rows, width] where y is written.</param>
    public PairAttention(LayerContext context, string name, int width, Slot output)
    {
        _context = context;
        _width = width;
        _output = output;
        LayerContext items = context.Times(Pair);
        Input = items.ReserveExact($"{name}.items", width);
        _projected = items.ReserveExact($"{name}.projected", 3L * width);
        _projection = new(items, new()
        {
            Groups = 3,
            N = width,
            K = width,
            Input = GroupInput.Shared,
            X = Input,
            Y = _projected,
            Weight = context.Parameters.Add($"{name}.weight", ParameterKind.Weight, 3, width, width),
        });
        _scores = context.ReserveExact($"{name}.scores", Pair);
        _zeros = context.ReserveExact($"{name}.zeros", Pair);
        _probabilities = context.ReserveExact($"{name}.probabilities", Pair);
        float scale = 1 / MathF.Sqrt(width);
        _scale = new(context, $"{name}.scale", Pair, Pair, [scale, 0, 0, scale]);
        if (context.Training)
        {
            InputGradient = items.ReserveExact($"{name}.items.gradient", width);
            _projectedGradient = items.ReserveExact($"{name}.projected.gradient", 3L * width);
            _probabilitiesGradient = context.ReserveExact($"{name}.probabilities.gradient", Pair);
            _logitsGradient = context.ReserveExact($"{name}.logits.gradient", Pair);
            _scoresGradient = context.ReserveExact($"{name}.scores.gradient", Pair);
        }

        _scratch = _projectedGradient?.Slice(0, width) ?? items.ReserveExact($"{name}.scratch", width);
        context.OnBind(Bind);
    }

    /// <summary>[rows * 2, width]: a sample's items follow each other.</summary>
    public Slot Input { get; }

    /// <summary>Gradient of <see cref="Input"/>.</summary>
    public Slot InputGradient { get; } = null!;

    private float* Queries => _projected.Data;

    private float* Keys => _projected.Data + _width;

    private float* Values => _projected.Data + (2L * _width);

    public void Pack() => _projection.Pack();

    public void Forward(long rows)
    {
        _projection.Forward(rows * Pair);
        CombineBackwardArgs scores = ScoresArgs(rows);
        NativeStatus.Check(NativeMethods.CombineBackward(_context.Stream.Native, &scores));
        GateForwardArgs softmax = SoftmaxArgs(rows);
        NativeStatus.Check(NativeMethods.GateForward(_context.Stream.Native, &softmax));
        CombineForwardArgs mix = new()
        {
            StructSize = (uint)sizeof(CombineForwardArgs),
            Tasks = 1,
            Rows = rows,
            Width = _width,
            Choices = Pair,
            Gates = _probabilities.Data,
            Expert = Values,
            ExpertRowStride = Pair * _projected.RowStride,
            ExpertStride = _projected.RowStride,
            Y = _output.Data,
            YRowStride = _output.RowStride,
            YTaskStride = _width,
        };
        NativeStatus.Check(NativeMethods.CombineForward(_context.Stream.Native, &mix));
    }

    /// <summary>From the gradient <paramref name="dy"/> of y to <see cref="InputGradient"/>, and to the parameter's gradient unless <paramref name="weights"/> is false.</summary>
    public void Backward(long rows, Slot dy, bool weights)
    {
        CombineBackwardArgs mix = MixBackwardArgs(rows, dy);
        NativeStatus.Check(NativeMethods.CombineBackward(_context.Stream.Native, &mix));
        GateBackwardArgs softmax = new()
        {
            StructSize = (uint)sizeof(GateBackwardArgs),
            Gates = 1,
            Experts = Pair,
            Rows = rows,
            Probabilities = _probabilities.Data,
            Dprobabilities = _probabilitiesGradient!.Data,
            Dlogits = _logitsGradient!.Data,
            DlogitsRowStride = Pair,
        };
        NativeStatus.Check(NativeMethods.GateBackward(_context.Stream.Native, &softmax));
        _scale.MultiplyTransposed(rows, _logitsGradient, _scoresGradient!, below: null, ActivationKind.None);
        ScaleRows(rows, Keys, _projectedGradient!.Data);
        ScaleRows(rows, Queries, _projectedGradient.Data + _width);
        if (weights)
            _projection.BackwardWeights(rows * Pair, _projectedGradient);
        _projection.BackwardInput(rows * Pair, _projectedGradient, new(InputGradient, Accumulate: false, Below: null, ActivationKind.None));
    }

    /// <summary>Each item's row of one projection, times the gradient of the item's score.</summary>
    private void ScaleRows(long rows, float* from, float* to)
    {
        CombineForwardArgs args = new()
        {
            StructSize = (uint)sizeof(CombineForwardArgs),
            Tasks = 1,
            Rows = rows * Pair,
            Width = _width,
            Choices = 1,
            Gates = _scoresGradient!.Data,
            Expert = from,
            ExpertRowStride = _projected.RowStride,
            ExpertStride = _width,
            Y = to,
            YRowStride = _projectedGradient!.RowStride,
            YTaskStride = _width,
        };
        NativeStatus.Check(NativeMethods.CombineForward(_context.Stream.Native, &args));
    }

    private CombineBackwardArgs ScoresArgs(long rows) => new()
    {
        StructSize = (uint)sizeof(CombineBackwardArgs),
        Tasks = 1,
        Rows = rows * Pair,
        Width = _width,
        Choices = 1,
        Gates = _zeros.Data,
        Expert = Keys,
        ExpertRowStride = _projected.RowStride,
        ExpertStride = _width,
        Dy = Queries,
        DyRowStride = _projected.RowStride,
        DyTaskStride = _width,
        Dexpert = _scratch.Data,
        DexpertRowStride = _scratch.RowStride,
        DexpertStride = _width,
        Dgates = _scores.Data,
        Workspace = (void*)_context.Workspace,
        WorkspaceBytes = _context.WorkspaceBytes,
    };

    private GateForwardArgs SoftmaxArgs(long rows) => new()
    {
        StructSize = (uint)sizeof(GateForwardArgs),
        Gates = 1,
        Experts = Pair,
        Rows = rows,
        KIn = Pair,
        X = _scores.Data,
        XRowStride = Pair,
        Packed = _scale.Packed,
        Probabilities = _probabilities.Data,
        Step = -1,
        Workspace = (void*)_context.Workspace,
        WorkspaceBytes = _context.WorkspaceBytes,
    };

    private CombineBackwardArgs MixBackwardArgs(long rows, Slot? dy) => new()
    {
        StructSize = (uint)sizeof(CombineBackwardArgs),
        Tasks = 1,
        Rows = rows,
        Width = _width,
        Choices = Pair,
        Gates = _probabilities.Data,
        Expert = Values,
        ExpertRowStride = Pair * _projected.RowStride,
        ExpertStride = _projected.RowStride,
        Dy = dy == null ? null : dy.Data,
        DyRowStride = dy?.RowStride ?? _width,
        DyTaskStride = _width,
        Dexpert = _projectedGradient!.Data + (2L * _width),
        DexpertRowStride = Pair * _projectedGradient.RowStride,
        DexpertStride = _projectedGradient.RowStride,
        Dgates = _probabilitiesGradient!.Data,
        Workspace = (void*)_context.Workspace,
        WorkspaceBytes = _context.WorkspaceBytes,
    };

    private void Bind()
    {
        long bytes;
        CombineBackwardArgs scores = ScoresArgs(_context.MaxRows);
        NativeStatus.Check(NativeMethods.CombineBackwardWorkspace(_context.Stream.Native, &scores, &bytes));
        _context.NeedWorkspace(bytes);
        GateForwardArgs softmax = SoftmaxArgs(_context.MaxRows);
        NativeStatus.Check(NativeMethods.GateForwardWorkspace(_context.Stream.Native, &softmax, &bytes));
        _context.NeedWorkspace(bytes);
        if (!_context.Training)
            return;
        CombineBackwardArgs mix = MixBackwardArgs(_context.MaxRows, dy: null);
        NativeStatus.Check(NativeMethods.CombineBackwardWorkspace(_context.Stream.Native, &mix, &bytes));
        _context.NeedWorkspace(bytes);
    }
}
