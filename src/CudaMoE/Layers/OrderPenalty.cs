using CudaMoE.Description;
using CudaMoE.Interop;

namespace CudaMoE.Layers;

/// <summary>
/// The penalty of AITM (Xi et al., KDD 2021): coefficient * mean over the rows of the sum over neighbours of a chain of
/// max(p_later - p_earlier, 0), with p the sigmoid of a task's logit. Its gradient is added to those of the logits.
/// </summary>
internal sealed unsafe class OrderPenalty
{
    private readonly LayerContext _context;
    private readonly float _coefficient;
    private readonly Slot[] _logits;
    private readonly Slot[] _gradients;
    private readonly Slot _probabilities;
    private readonly Slot _excess;
    private readonly Slot _mask;
    private readonly Slot _change;
    private readonly Slot _ones;
    private readonly FixedMatrix _one;
    private readonly FixedMatrix _differences;
    private readonly FixedMatrix _toPairs;
    private nint _factor;
    private nint _sums;
    private long _rows;

    /// <param name="context">The context, of a model that is trained.</param>
    /// <param name="coefficient">Above 0.</param>
    /// <param name="logits">[rows, 1] of each task of the chain, the earliest first.</param>
    /// <param name="gradients">Their gradients.</param>
    public OrderPenalty(LayerContext context, float coefficient, Slot[] logits, Slot[] gradients)
    {
        _context = context;
        _coefficient = coefficient;
        _logits = logits;
        _gradients = gradients;
        int tasks = logits.Length;
        int pairs = tasks - 1;
        _probabilities = context.ReserveExact("order.probabilities", tasks);
        _excess = context.ReserveExact("order.excess", pairs);
        _mask = context.ReserveExact("order.mask", pairs);
        _change = context.ReserveExact("order.change", tasks);
        _ones = context.ReserveExact("order.ones", 1);
        context.Activations.Reserve("order.factor", sizeof(float), p => _factor = p);
        context.Activations.Reserve("order.sums", pairs * sizeof(float), p => _sums = p);
        _one = new(context, "order.one", 1, 1, [1]);
        _differences = new(context, "order.differences", pairs, tasks, Differences(pairs));
        float[] ones = new float[pairs];
        Array.Fill(ones, 1f);
        _toPairs = new(context, "order.pairs", 1, pairs, ones);
        context.OnBind(Bind);
    }

    /// <summary>Makes ready for batches of <paramref name="rows"/> rows.</summary>
    public void Load(long rows)
    {
        if (rows != _rows)
            _context.Stream.CopyToDevice<float>([rows == 0 ? 0 : _coefficient / rows], _factor);
        _rows = rows;
    }

    /// <summary>Adds the gradient of the penalty of the rows that <see cref="Load"/> was told.</summary>
    public void Run()
    {
        long rows = _rows;
        for (int t = 0; t < _logits.Length; t++)
            _one.Multiply(rows, _logits[t], _probabilities.Slice(t, 1), ActivationKind.Sigmoid);
        _differences.Multiply(rows, _probabilities, _excess, ActivationKind.Relu);
        // 1 for each pair out of order, then through the differences and the sigmoids.
        _toPairs.MultiplyTransposed(rows, _ones, _mask, _excess, ActivationKind.Relu);
        _differences.MultiplyTransposed(rows, _mask, _change, _probabilities, ActivationKind.Sigmoid);
        for (int t = 0; t < _logits.Length; t++)
            BalanceOperations.Combine(_context, _change.Slice(t, 1), 0, 1, rows, (float*)_factor, _gradients[t], accumulate: true);
    }

    /// <summary>The penalty of the last run; waits for the device.</summary>
    public double Value()
    {
        if (_rows == 0)
            return 0;
        GemmWgradArgs args = SumsArgs(_rows);
        args.Workspace = (void*)_context.Workspace;
        args.WorkspaceBytes = _context.WorkspaceBytes;
        NativeStatus.Check(NativeMethods.GemmWgrad(_context.Stream.Native, &args));
        float[] sums = new float[_excess.Columns];
        _context.Stream.CopyToHost<float>(_sums, sums);
        double total = 0;
        foreach (float sum in sums)
            total += sum;
        return _coefficient * total / _rows;
    }

    /// <summary>Row i takes task i from task i + 1.</summary>
    private static float[] Differences(int pairs)
    {
        float[] matrix = new float[pairs * (pairs + 1)];
        for (int i = 0; i < pairs; i++)
        {
            matrix[(i * (pairs + 1)) + i] = -1;
            matrix[(i * (pairs + 1)) + i + 1] = 1;
        }

        return matrix;
    }

    /// <summary>The sums over rows are the product with a column of ones.</summary>
    private GemmWgradArgs SumsArgs(long rows) => new()
    {
        StructSize = (uint)sizeof(GemmWgradArgs),
        Groups = 1,
        Rows = rows,
        XRows = rows,
        N = _excess.Columns,
        K = 1,
        Dz = _excess.Data,
        DzRowStride = _excess.RowStride,
        X = _ones.Data,
        XRowStride = 1,
        Dw = (float*)_sums,
        DwRowStride = 1,
    };

    private void Bind()
    {
        float[] ones = new float[_context.MaxRows];
        Array.Fill(ones, 1f);
        _context.Stream.CopyToDevice<float>(ones, _ones.Pointer);
        GemmWgradArgs sums = SumsArgs(_context.MaxRows);
        long bytes;
        NativeStatus.Check(NativeMethods.GemmWgradWorkspace(_context.Stream.Native, &sums, &bytes));
        _context.NeedWorkspace(bytes);
    }
}
